/** An agent's inbox: messages are handed out, acknowledged, and come again when they were not. */
import { backoffDelay, type CursorScope, decodeCursor, encodeCursor, waitFor } from "@mcp-swarm/coordination";
import {
  type Change,
  changeDelivery,
  countRows,
  type Delivery,
  type DeliveryState,
  deliveryKey,
  dueAtOf,
  findDelivery,
  type Held,
  heardKeys,
  type InboxCount,
  type InboxEntry,
  inboxEntry,
  type MessageRecord,
  messageKey,
  messagePrefixes,
  noteHeard,
  rootOf,
  steady,
} from "@mcp-swarm/coordination/messages";
import { type Clock, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, liveProcesses, speakAs } from "@mcp-swarm/identity";
import { prefixRange, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";

/** How long a reader has to acknowledge a message before it comes again; twice as long with each delivery. */
export const VISIBILITY_MS_DEFAULT = 300_000;
export const VISIBILITY_MS_MIN = 1_000;
export const VISIBILITY_MS_MAX = 3_600_000;
/** After so many deliveries without an acknowledgement a message is a dead letter. */
export const DELIVERIES_MAX = 5;
/** What `later` puts a message off by, at first; twice as long with each delivery. */
const LATER_MS = 30_000;

/** Most messages handed out by one call: with cut payloads they fit one answer. */
export const MESSAGES_MAX = 25;
export const MESSAGES_DEFAULT = 10;
/** Most messages that one call acknowledges or delivers again. */
export const ACKNOWLEDGED_MAX = 100;
/** Rows of an inbox that one attempt looks at when it passes over some; the rest is behind the cursor. */
export const FILTERED_ROWS_MAX = 5_000;
/** Rows that a filter looks at first: what it asks for is mostly among the new ones of a short inbox. */
const FILTERED_FIRST = 100;
/** Messages that come again in one transaction, and transactions of one attempt. */
const RETURNED_MAX = 64;
const RETURN_ROUNDS_MAX = 16;
/** Times that one attempt looks again because other readers of this inbox were faster. */
const RACES_MAX = 8;
/**
 * How often a waiting reader looks whether another process that has messages of this inbox died, and whether what is held back is so
 * no more.
 */
export const LOOK_AGAIN_MS = 5_000;
/** Messages in flight that a process remembers, to give them back at its end; forgotten ones come again by themselves. */
const REMEMBERED_MAX = 10_000;

/** Where more messages for an inbox come from, before it is read: topics. */
export interface InboxSource {
  /** Under these a commit may bring something. */
  readonly prefixes: readonly string[];
  /** A cheap look at whether there may be something new for the agent; undefined when it follows nothing here. */
  pending(store: Store, agentId: string): Promise<boolean | undefined>;
  /** Brings a bounded number of messages into the inbox, in a transaction of its own. */
  pull(store: Store, agentId: string): Promise<void>;
}

export interface InboxFilter {
  readonly types?: readonly string[] | undefined;
  readonly from?: string | undefined;
  readonly correlationId?: string | undefined;
}

export interface GetMessages extends InboxFilter {
  /** A subagent of the caller that reads. */
  readonly agentId?: string | undefined;
  /** 1 to MESSAGES_MAX. */
  readonly limit?: number | undefined;
  /** Where an earlier call with the same filter stopped looking. */
  readonly cursor?: string | undefined;
  /** Acknowledge at once: delivered at most once. */
  readonly acknowledge?: boolean | undefined;
  readonly visibilityMs?: number | undefined;
}

export interface Waiting {
  /** 0 to WAIT_MS_MAX. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

export interface DeliveredMessage {
  readonly message: MessageRecord;
  readonly deliveries: number;
  /** Its `ackDueAt` is over. */
  readonly overdue: boolean;
}

export const OUTCOMES = ["done", "later", "reject"] as const;
export type Outcome = (typeof OUTCOMES)[number];

export interface AcknowledgeMessages {
  readonly messageIds: readonly string[];
  readonly agentId?: string | undefined;
  readonly outcome?: Outcome | undefined;
  /** Of `later`. */
  readonly delayMs?: number | undefined;
  /** Of `later` and `reject`; for whoever looks at the dead letters. */
  readonly reason?: string | undefined;
}

/** `unknown`: there is no such message in this inbox. `changed` is false when it already was what was asked, or cannot be. */
export type Acknowledged = { readonly id: string; readonly status: DeliveryState | "unknown"; readonly changed: boolean };

export interface InboxCounts {
  readonly ready: InboxCount;
  /** In flight or delayed. */
  readonly due: InboxCount;
  readonly dead: InboxCount;
}

export interface MessagePage {
  readonly messages: readonly DeliveredMessage[];
  /** Handed out, but what the store has of them fails its checksum. */
  readonly damaged?: readonly string[];
  readonly nextCursor?: string;
}

type Taken = { readonly id: string; readonly deliveries: number };
type BroughtBack = { readonly brought: boolean; readonly againInMs?: number };
type ReadOutcome = { readonly taken: readonly Taken[]; readonly at: number; readonly mark: string; readonly next?: string };

export interface InboxOptions {
  store: Store;
  clock: Clock;
  random: Random;
  sources?: readonly InboxSource[];
  held?: Held | undefined;
}

export class Inbox {
  readonly #options: InboxOptions;
  readonly #sources: readonly InboxSource[];
  readonly held: Held | undefined;
  /** What this process handed out and nobody acknowledged yet, by key of the delivery, the oldest first. */
  readonly #handedOut = new Map<string, Taken & { readonly agentId: string }>();

  constructor(options: InboxOptions) {
    this.#options = options;
    this.#sources = options.sources ?? [];
    this.held = options.held;
  }

  /**
   * The most urgent messages, in order; each comes again unless it is acknowledged in time. Waits for one when there is none.
   * `nextCursor` is there when a filter looked at as many as one call may: what it asks for may be behind it.
   * @throws SwarmError permission_denied, invalid_argument
   */
  async get(call: Call, input: GetMessages, waiting: Waiting = { waitMs: 0 }): Promise<MessagePage> {
    const agentId = speakAs(call.caller, input.agentId);
    if (input.from !== undefined) checkAgentId(input.from);
    const reading = { agentId, mark: newId("read", this.#options.random), input };
    let asked = false;
    const read = await waitFor({
      store: call.store,
      clock: this.#options.clock,
      prefixes: this.prefixes(agentId),
      ...waiting,
      attempt: async () => {
        // all is looked at together, because each look may be a round trip; what comes by it is found by another
        const [{ pulled, follows }, { againInMs, brought }, first] = await Promise.all([
          this.pull(call.store, agentId),
          this.#bringBack(call, agentId),
          this.#look(call.store, agentId, input),
        ]);
        let isHeld = false;
        for (let race = 0; race < RACES_MAX; race++) {
          const seen = race === 0 && !pulled && !brought ? first : await this.#look(call.store, agentId, input);
          isHeld = seen.isHeld;
          // the first attempt asks in any case: it may be a repetition whose outcome is known
          if (asked && seen.rows.length === 0 && seen.next === undefined) break;
          asked = true;
          const found = follows && seen.rows.length > 0 ? await this.#withTopics(call.store, agentId, input, seen) : seen;
          const [outcome, messages] = await Promise.all([
            call.transact((tx): ReadOutcome => handOut(tx, call, reading, found), {
              prefetch: { keys: keysOf(agentId, found.rows) },
            }),
            readMessages(call.store, found.rows), // what was said never changes: it is read meanwhile
          ]);
          if (outcome.taken.length > 0 || outcome.next !== undefined) return { value: { outcome, messages } };
          if (seen.rows.length === 0) break;
        }
        if (isHeld) return { againInMs: Math.min(againInMs ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS) };
        return againInMs === undefined ? {} : { againInMs };
      },
    });
    if (!read) return { messages: [] };
    const { outcome } = read;
    if (waiting.signal?.aborted) {
      if (outcome.mark === reading.mark) await giveUp(call.store, agentId, outcome.taken);
      waiting.signal.throwIfAborted();
    }
    if (!input.acknowledge && call.caller.processId !== undefined) this.#remember(agentId, outcome.taken);
    return { ...(await readTaken(call.store, read)), ...(outcome.next === undefined ? {} : { nextCursor: outcome.next }) };
  }

  /**
   * Says what became of messages: `done` for good, `later` to get them again, `reject` to make them dead letters. What is not in
   * this inbox, or is over already, stays as it is.
   * @throws SwarmError permission_denied, invalid_argument
   */
  async acknowledge(call: Call, input: AcknowledgeMessages): Promise<{ messages: Acknowledged[] }> {
    const { outcome = "done", delayMs } = input;
    if (delayMs !== undefined && outcome !== "later") {
      throw new SwarmError("invalid_argument", 'Field "delayMs" belongs to outcome "later".', {
        hint: "Leave it out, or say later.",
      });
    }
    const agentId = speakAs(call.caller, input.agentId);
    const ids = [...new Set(input.messageIds)];
    const messages = await call.transact((tx) => ids.map((id): Acknowledged => settle(tx, agentId, id, { ...input, outcome })), {
      prefetch: { keys: ids.map((id) => deliveryKey(agentId, id)) },
    });
    for (const { id } of messages) this.#handedOut.delete(deliveryKey(agentId, id));
    return { messages };
  }

  /** Under these a commit may bring a message. */
  prefixes(agentId: string): string[] {
    return [messagePrefixes.inbox(agentId), ...this.#sources.flatMap((source) => source.prefixes)];
  }

  /** Brings what the agent's topics have for it into its inbox, a bounded number. */
  async pull(store: Store, agentId: string): Promise<{ readonly follows: boolean; readonly pulled: boolean }> {
    let follows = false;
    let pulled = false;
    for (const source of this.#sources) {
      const pending = await source.pending(store, agentId);
      follows ||= pending !== undefined;
      if (!pending) continue;
      await source.pull(store, agentId);
      pulled = true;
    }
    return { follows, pulled };
  }

  /**
   * What an agent published before it sent a message may have been in no inbox when that message was seen there. So topics are pulled
   * once more; a message that was sent meanwhile, and what its sender said after it, waits for the next look.
   */
  async #withTopics(store: Store, agentId: string, input: GetMessages, seen: Found): Promise<Found> {
    await this.pull(store, agentId);
    const known = new Set(seen.rows.map(({ id }) => id));
    const now = await this.#look(store, agentId, input);
    const laterOf = new Set<string>();
    let laterInTopics = false;
    const rows = now.rows.filter(({ id, from, topic = false }) => {
      const waits = laterOf.has(from) || (topic ? laterInTopics : !known.has(id));
      if (waits) {
        // with it waits what its sender sent later and, when it is of a topic, what others published later
        laterOf.add(from);
        laterInTopics ||= topic;
      }
      return !waits;
    });
    return { ...now, rows };
  }

  #look(store: Store, agentId: string, input: GetMessages): Promise<Found> {
    return look(store, agentId, input, steady(this.held));
  }

  /** Whether there may be more for the agent in its topics. */
  async pending(store: Store, agentId: string): Promise<boolean> {
    for (const source of this.#sources) if (await source.pending(store, agentId)) return true;
    return false;
  }

  /** What this process handed out and nobody acknowledged comes again at once; for the clean end of the process. */
  async close(): Promise<void> {
    const open = [...this.#handedOut.values()];
    this.#handedOut.clear();
    for (let at = 0; at < open.length; at += RETURNED_MAX) {
      await this.#options.store.transact((tx) => {
        for (const { agentId, id, deliveries } of open.slice(at, at + RETURNED_MAX)) {
          const delivery = findDelivery(tx, agentId, id);
          if (delivery?.state === "in_flight" && delivery.deliveries === deliveries) comeAgain(tx, delivery);
        }
      });
    }
  }

  /**
   * What is due becomes ready, and so does what a process of this agent had that is dead. Answers in how many ms to look again.
   */
  async #bringBack({ store, caller }: Call, agentId: string): Promise<BroughtBack> {
    for (let round = 0; round < RETURN_ROUNDS_MAX; round++) {
      const rows = await store.scan(prefixRange(messagePrefixes.due(agentId), RETURNED_MAX));
      if (rows.length === 0) return { brought: round > 0 };
      const now = await store.now();
      const others = new Set(rows.flatMap((row) => inboxEntry(row).processId ?? []).filter((id) => id !== caller.processId));
      const dead = others.size === 0 ? others : await deadOf(store, others, [agentId, rootOf(agentId), caller.agentId]);
      const back = rows.filter((row) => dueAtOf(row, agentId) <= now || dead.has(inboxEntry(row).processId ?? ""));
      if (back.length === 0) {
        const next = rows.find((row) => dueAtOf(row, agentId) > now);
        const nextMs = next ? dueAtOf(next, agentId) - now : LOOK_AGAIN_MS;
        return { brought: round > 0, againInMs: others.size > 0 ? Math.min(nextMs, LOOK_AGAIN_MS) : nextMs };
      }
      const ids = back.map((row) => inboxEntry(row).id);
      await store.transact(
        (tx) => {
          for (const id of ids) {
            const delivery = findDelivery(tx, agentId, id);
            if (delivery?.dueAt === undefined) continue;
            if (delivery.dueAt <= tx.now || dead.has(delivery.processId ?? "")) comeAgain(tx, delivery);
          }
        },
        { prefetch: { keys: ids.map((id) => deliveryKey(agentId, id)) } },
      );
    }
    return { brought: true, againInMs: 0 };
  }

  #remember(agentId: string, taken: readonly Taken[]): void {
    for (const { id, deliveries } of taken) {
      const key = deliveryKey(agentId, id);
      this.#handedOut.delete(key);
      this.#handedOut.set(key, { agentId, id, deliveries });
    }
    for (const oldest of this.#handedOut.keys()) {
      if (this.#handedOut.size <= REMEMBERED_MAX) return;
      this.#handedOut.delete(oldest);
    }
  }
}

/** Those of the processes in which none of the agents lives. A subagent lives in the process of its agent. */
async function deadOf(store: Store, processes: ReadonlySet<string>, agentIds: readonly string[]): Promise<Set<string>> {
  const dead = new Set(processes);
  for (const agentId of new Set(agentIds)) for (const alive of await liveProcesses(store, agentId)) dead.delete(alive);
  return dead;
}

/** How many messages an inbox holds, counted up to `max` of each. */
export async function countInbox(store: Pick<Store, "scan">, agentId: string, max: number): Promise<InboxCounts> {
  return {
    ready: await countRows(store, messagePrefixes.ready(agentId), max),
    due: await countRows(store, messagePrefixes.due(agentId), max),
    dead: await countRows(store, messagePrefixes.dead(agentId), max),
  };
}

/** Rows to hand out, in order, and where one that passes over some stopped looking. */
type Found = {
  readonly rows: readonly InboxEntry[];
  readonly next?: string;
  /** Others would be here too, were they not held back. */
  readonly isHeld: boolean;
};

async function look(store: Pick<Store, "scan">, agentId: string, input: GetMessages, held: Held | undefined): Promise<Found> {
  const { limit = MESSAGES_DEFAULT, types, from, correlationId } = input;
  const prefix = messagePrefixes.ready(agentId);
  const scope: CursorScope = { list: JSON.stringify(["inbox", types ?? 0, from ?? 0, correlationId ?? 0]), prefix };
  const isAsked = ({ type, from: sender, thread }: InboxEntry) =>
    (types?.includes(type) ?? true) && (from ?? sender) === sender && (correlationId ?? thread) === thread;
  const filtered = types !== undefined || from !== undefined || correlationId !== undefined;
  let isHeld = false;
  const matches = (row: InboxEntry) => {
    if (!isAsked(row)) return false;
    const passed = held?.(row.from) ?? false;
    isHeld ||= passed;
    return !passed;
  };
  const rows: InboxEntry[] = [];
  let after = input.cursor === undefined ? undefined : decodeCursor(scope, input.cursor);
  for (let looked = 0; looked < FILTERED_ROWS_MAX; ) {
    const most = looked === 0 ? FILTERED_FIRST : Math.min(SCAN_LIMIT_MAX, FILTERED_ROWS_MAX - looked);
    const size = filtered || isHeld ? most : limit;
    const page = await store.scan(prefixRange(prefix, size, after === undefined ? {} : { after }));
    rows.push(
      ...page
        .map(inboxEntry)
        .filter(matches)
        .slice(0, limit - rows.length),
    );
    if (rows.length === limit || page.length < size) return { rows, isHeld };
    looked += page.length;
    after = page.at(-1)?.key;
  }
  return after === undefined ? { rows, isHeld } : { rows, isHeld, next: encodeCursor(scope, after) };
}

/** What `handOut` reads. */
function keysOf(agentId: string, rows: readonly InboxEntry[]): string[] {
  const heard = heardKeys(rows.map(({ id, to, thread }) => ({ id, to, correlationId: thread })));
  return [...rows.map(({ id }) => deliveryKey(agentId, id)), ...heard];
}

/** One reading of an inbox; `mark` tells whether an outcome is its own or that of the call it repeats. */
type Reading = { readonly agentId: string; readonly mark: string; readonly input: GetMessages };

function handOut(tx: Transaction, call: Call, { agentId, mark, input }: Reading, { rows, next }: Found): ReadOutcome {
  const { acknowledge = false, visibilityMs = VISIBILITY_MS_DEFAULT } = input;
  const taken: Taken[] = [];
  for (const { id } of rows) {
    const delivery = findDelivery(tx, agentId, id);
    if (delivery?.state !== "ready") continue; // another reader was faster
    const deliveries = delivery.deliveries + 1;
    noteHeard(tx, delivery);
    if (acknowledge) changeDelivery(tx, delivery, { state: "done", deliveries });
    else {
      const hiddenMs = backoffDelay({ initialMs: visibilityMs, factor: 2, maxMs: VISIBILITY_MS_MAX }, deliveries);
      const { processId } = call.caller;
      changeDelivery(tx, delivery, {
        state: "in_flight",
        deliveries,
        dueAt: tx.now + hiddenMs,
        ...(processId === undefined ? {} : { processId }),
      });
    }
    taken.push({ id, deliveries });
  }
  return next === undefined ? { taken, at: tx.now, mark } : { taken, at: tx.now, mark, next };
}

/** Messages that were handed out while their call was cancelled reach nobody: they are ready, as if it had not been. */
async function giveUp(store: Store, agentId: string, taken: readonly Taken[]): Promise<void> {
  await store.transact((tx) => {
    for (const { id, deliveries } of taken) {
      const delivery = findDelivery(tx, agentId, id);
      if (delivery?.deliveries !== deliveries || (delivery.state !== "in_flight" && delivery.state !== "done")) continue;
      changeDelivery(tx, delivery, { state: "ready", deliveries: deliveries - 1 });
    }
  });
}

type Read = { readonly messages: ReadonlyMap<string, MessageRecord>; readonly damaged: ReadonlySet<string> };

/** One damaged record does not keep the others from their reader. */
async function readMessages(store: Pick<Store, "getMany">, rows: readonly { readonly id: string }[]): Promise<Read> {
  if (rows.length === 0) return { messages: new Map(), damaged: new Set() };
  try {
    const entries = await store.getMany(rows.map(({ id }) => messageKey(id)));
    const found = entries.flatMap((entry) => (entry ? [entry.value as MessageRecord] : []));
    return { messages: new Map(found.map((message) => [message.id, message])), damaged: new Set() };
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "internal") throw error;
    const [row, ...others] = rows;
    if (row && others.length === 0) return { messages: new Map(), damaged: new Set([row.id]) };
    const middle = Math.ceil(rows.length / 2);
    const halves = [await readMessages(store, rows.slice(0, middle)), await readMessages(store, rows.slice(middle))];
    return {
      messages: new Map(halves.flatMap(({ messages }) => [...messages])),
      damaged: new Set(halves.flatMap(({ damaged }) => [...damaged])),
    };
  }
}

/** A repetition was handed other messages than it found: they are read now. */
async function readTaken(
  store: Pick<Store, "getMany">,
  { outcome: { taken, at }, messages: read }: { outcome: ReadOutcome; messages: Read },
): Promise<Pick<MessagePage, "messages" | "damaged">> {
  const others = await readMessages(
    store,
    taken.filter(({ id }) => !read.messages.has(id) && !read.damaged.has(id)),
  );
  const messages = taken.flatMap(({ id, deliveries }) => {
    const message = read.messages.get(id) ?? others.messages.get(id);
    return message ? [{ message, deliveries, overdue: message.ackDueAt !== undefined && message.ackDueAt <= at }] : [];
  });
  const damaged = taken.flatMap(({ id }) => (read.damaged.has(id) || others.damaged.has(id) ? [id] : []));
  return damaged.length === 0 ? { messages } : { messages, damaged };
}

/** A message that waited long enough is ready at its old place, or a dead letter when it was handed out often enough. */
function comeAgain(tx: Transaction, delivery: Delivery): void {
  const over = delivery.state === "in_flight" && delivery.deliveries >= DELIVERIES_MAX;
  changeDelivery(tx, delivery, over ? { state: "dead", cause: "undelivered" } : { state: "ready" });
}

function settle(
  tx: Transaction,
  agentId: string,
  id: string,
  { outcome, delayMs, reason }: AcknowledgeMessages & { outcome: Outcome },
): Acknowledged {
  const delivery = findDelivery(tx, agentId, id);
  if (!delivery) return { id, status: "unknown", changed: false };
  const open = delivery.state !== "done" && delivery.state !== "dead";
  if (!open && !(outcome === "done" && delivery.state === "dead")) return { id, status: delivery.state, changed: false };
  const said = reason === undefined ? {} : { reason };
  const { state } = changeDelivery(tx, delivery, settled(tx, delivery, outcome, delayMs, said));
  return { id, status: state, changed: true };
}

function settled(
  tx: Transaction,
  { deliveries }: Delivery,
  outcome: Outcome,
  delayMs: number | undefined,
  said: Pick<Change, "reason">,
): Change {
  if (outcome === "done") return { state: "done" };
  if (outcome === "reject") return { state: "dead", cause: "rejected", ...said };
  if (deliveries >= DELIVERIES_MAX) return { state: "dead", cause: "undelivered", ...said };
  const waitMs = delayMs ?? backoffDelay({ initialMs: LATER_MS, factor: 2, maxMs: VISIBILITY_MS_MAX }, Math.max(1, deliveries));
  return { state: "delayed", dueAt: tx.now + waitMs, ...said };
}
