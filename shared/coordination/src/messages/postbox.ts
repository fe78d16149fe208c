/**
 * Messages that another server than agent-comm sends for an agent, as part of what it decides: that a vote began, how it ended. They
 * go to those receivers who use messages at all, so that no inbox fills that nobody ever reads.
 */
import { type Json, newId, type Random } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { beginFanOut, deliverPart, type FanOutCounts, FanOuts, PART_RECEIVERS_MAX, RECEIVERS_MAX } from "./fan-out.ts";
import { InboxRoom } from "./inbox-room.ts";
import { agentKey } from "./message-keys.ts";
import { deliverNew } from "./message-layer.ts";
import { type Audience, type MessageRecord, rootOf } from "./message-record.ts";
import { messageRetentionMs } from "./message-retention.ts";
import { type Draft, Posting, senderKey } from "./posting.ts";
import { MESSAGE_RATE_DEFAULT } from "./rate.ts";

/** Agents that are looked up at once. */
const LOOKED_UP_MAX = 500;

/** What is to be told, made outside the plan: its id is new. */
export interface Notice extends Pick<MessageRecord, "from" | "verified" | "messageType"> {
  /** What its receivers have in common. */
  readonly audience: Audience;
  readonly payload: Json;
  readonly priority?: number | undefined;
  /** From the sending on; without it messages are kept as long as any. */
  readonly ttlMs?: number | undefined;
}

/** Whom a notice goes to: those of the asked who use messages, and of them those whose inbox takes it. */
export interface Addressees {
  readonly receivers: readonly string[];
  readonly full: ReadonlySet<string>;
}

/** What was posted. `inParts`: the rest of its receivers get it by `finish`, or from whichever agent-comm server comes first. */
export type PostedNotice = { readonly messageId: string; readonly delivered: number; readonly inParts?: true };

export interface PostboxOptions {
  random: Random;
  /** `SWARM_RETENTION_DAYS`. */
  retentionDays: number;
  /** `SWARM_MESSAGE_RATE`. */
  messageRate?: number | undefined;
}

export class Postbox {
  readonly #random: Random;
  readonly #room: InboxRoom;
  readonly #posting: Posting;
  readonly #fanOuts: FanOuts;

  constructor({ random, retentionDays, messageRate = MESSAGE_RATE_DEFAULT }: PostboxOptions) {
    this.#random = random;
    this.#room = new InboxRoom({ random });
    this.#posting = new Posting({ messageRate, retentionMs: messageRetentionMs(retentionDays) });
    this.#fanOuts = new FanOuts({ room: this.#room });
  }

  /**
   * Of these agents those who registered with agent-comm or sent a message, themselves or as the agent whose subagent they are;
   * each once. Read before the transaction, two rows for each agent.
   * At most the first RECEIVERS_MAX of them.
   */
  async addressees(store: Store, agentIds: readonly string[]): Promise<Addressees> {
    const receivers: string[] = [];
    const asked = [...new Set(agentIds)];
    for (let at = 0; at < asked.length && receivers.length < RECEIVERS_MAX; at += LOOKED_UP_MAX) {
      const some = asked.slice(at, at + LOOKED_UP_MAX);
      const keysOf = some.map((id) => [...new Set([agentKey(id), agentKey(rootOf(id)), senderKey(id)])]);
      const keys = [...new Set(keysOf.flat())];
      const found = await store.getMany(keys);
      const known = new Set(keys.filter((_, index) => found[index] !== undefined));
      receivers.push(...some.filter((_, index) => keysOf[index]?.some((key) => known.has(key))));
    }
    const bounded = receivers.slice(0, RECEIVERS_MAX);
    // of many receivers each part is asked about when it is delivered
    const full = bounded.length > PART_RECEIVERS_MAX ? new Set<string>() : await this.#room.fullOf(store, bounded);
    return { receivers: bounded, full };
  }

  draft(notice: Notice): Draft {
    return { ...notice, id: newId("msg", this.#random) };
  }

  /** What `post` reads, to be fetched ahead. */
  reads(draft: Draft): string[] {
    return this.#posting.reads(draft);
  }

  /**
   * Posts within the transaction that decides; undefined when nobody is to get it. `cost` is what it takes from the sender's rate
   * of messages, one for each receiver unless it is said; with 0 it is never refused.
   * @throws SwarmError limit_exceeded (rate)
   */
  post(
    tx: Transaction,
    draft: Draft,
    { receivers, full }: Addressees,
    { cost = receivers.length }: { cost?: number } = {},
  ): PostedNotice | undefined {
    if (receivers.length === 0) return undefined;
    const message = this.#posting.post(tx, draft, { cost });
    const nobody: FanOutCounts = { delivered: 0, failed: 0, failedReceivers: [] };
    if (receivers.length > PART_RECEIVERS_MAX) {
      beginFanOut(tx, message.id, receivers, nobody);
      return { messageId: message.id, delivered: 0, inParts: true };
    }
    const { delivered } = deliverPart(tx, message, receivers, full, nobody, deliverNew);
    return { messageId: message.id, delivered };
  }

  /** Delivers what `post` left over, to the end. Whoever dies here leaves it to the background work of agent-comm's servers. */
  async finish(store: Store, { messageId, inParts }: PostedNotice): Promise<void> {
    if (inParts) await this.#fanOuts.finish(store, messageId);
  }
}
