/**
 * One message to many inboxes. More receivers than one transaction takes are written down first, with the message; then each
 * transaction delivers to some of them and strikes them off. So a sender that dies loses nobody and nobody gets it twice: what it
 * left is finished by the servers' background work.
 *
 * | key | value | why |
 * |---|---|---|
 * | `fanout/<msg>` | FanOut | how far it is, and the counts that the sender is told |
 * | `fanout-part/<msg>/<n>` | Part | receivers still to come; goes with its delivery |
 * | `fanout-due/<at>/<msg>` | {id} | when another process takes over, moved on by whoever works on it |
 */
import { IDEMPOTENCY_TTL_MS } from "@mcp-swarm/core";
import { ordered, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { DueIndex, type MaintenanceJob } from "../due.ts";
import type { InboxRoom } from "./inbox-room.ts";
import { deliveryKey, messageKey } from "./message-keys.ts";
import { deliver } from "./message-layer.ts";
import type { MessageRecord } from "./message-record.ts";

/** Receivers of one transaction: with at most six rows each, an engine locks them one by one. */
export const PART_RECEIVERS_MAX = 80;
export const RECEIVERS_MAX = 10_000;
/** Receivers that failed, as the sender is told of them by name. */
export const FAILED_NAMED_MAX = 20;
/** Who works on a fan-out and does not get on for so long is taken for dead. */
export const FAN_OUT_LEASE_MS = 5_000;

export type FanOutCounts = {
  readonly delivered: number;
  /** Receivers whose inbox is full, or who are gone. */
  readonly failed: number;
  /** The first of them. */
  readonly failedReceivers: readonly string[];
};

type FanOut = FanOutCounts & {
  readonly id: string;
  readonly parts: number;
  /** Parts that are done. */
  readonly done: number;
  readonly dueAt: number;
};

type Part = { readonly receivers: readonly string[] };

const DUE = new DueIndex("fanout-due/");
const fanOutKey = (id: string): string => `fanout/${segment(id)}`;
const partKey = (id: string, part: number): string => `fanout-part/${segment(id)}/${ordered(part)}`;

/** Delivers to receivers of one transaction, by `put`; nobody who is `full` gets anything. */
export function deliverPart(
  tx: Transaction,
  message: MessageRecord,
  receivers: readonly string[],
  full: ReadonlySet<string>,
  before: FanOutCounts,
  put: (tx: Transaction, message: MessageRecord, receiver: string) => void = deliver,
): FanOutCounts {
  const failing = receivers.filter((receiver) => full.has(receiver));
  for (const receiver of receivers) if (!full.has(receiver)) put(tx, message, receiver);
  return {
    delivered: before.delivered + receivers.length - failing.length,
    failed: before.failed + failing.length,
    failedReceivers: [...before.failedReceivers, ...failing].slice(0, FAILED_NAMED_MAX),
  };
}

/** Writes down who is to get a message that was posted in this transaction. */
export function beginFanOut(tx: Transaction, id: string, receivers: readonly string[], before: FanOutCounts): void {
  const parts = Math.ceil(receivers.length / PART_RECEIVERS_MAX);
  for (let part = 0; part < parts; part++) {
    const some = receivers.slice(part * PART_RECEIVERS_MAX, (part + 1) * PART_RECEIVERS_MAX);
    tx.put(partKey(id, part), { receivers: some, refs: [messageKey(id)] });
  }
  const dueAt = tx.now + FAN_OUT_LEASE_MS;
  put(tx, { ...before, id, parts, done: 0, dueAt });
  DUE.put(tx, dueAt, id);
}

/** A finished one is remembered as long as its sender may ask again. */
function put(tx: Transaction, fanOut: FanOut): void {
  tx.put(fanOutKey(fanOut.id), { ...fanOut }, fanOut.done === fanOut.parts ? { ttlMs: IDEMPOTENCY_TTL_MS } : {});
}

export class FanOuts {
  readonly #room: InboxRoom;

  constructor({ room }: { room: InboxRoom }) {
    this.#room = room;
  }

  /** Works until all receivers have it, and answers the counts; the same however often it is asked. */
  async finish(store: Store, id: string): Promise<FanOutCounts> {
    for (;;) {
      // each turn finishes a part, or finds that another process did
      const fanOut = await this.#work(store, id);
      if (fanOut === undefined || fanOut.done === fanOut.parts) {
        const { delivered = 0, failed = 0, failedReceivers = [] } = fanOut ?? {};
        return { delivered, failed, failedReceivers };
      }
    }
  }

  /** For `Maintenance`: takes over what others left, and goes on with it to its end. */
  job(store: Store): MaintenanceJob {
    let taken: string | undefined;
    return {
      name: "finish broadcasts",
      run: async () => {
        if (taken === undefined) {
          const [next] = await DUE.first(store, 1);
          if (!next) return Number.POSITIVE_INFINITY;
          const waitMs = next.dueAt - (await store.now());
          if (waitMs > 0) return waitMs;
          taken = next.id;
        }
        const fanOut = await this.#work(store, taken);
        if (fanOut === undefined || fanOut.done === fanOut.parts) taken = undefined;
        return 0;
      },
    };
  }

  /** One part; how far the fan-out is then. */
  async #work(store: Store, id: string): Promise<FanOut | undefined> {
    const fanOut = (await store.get(fanOutKey(id)))?.value as FanOut | undefined;
    if (fanOut === undefined || fanOut.done === fanOut.parts) return fanOut;
    const key = partKey(id, fanOut.done);
    const receivers = ((await store.get(key))?.value as Part | undefined)?.receivers ?? [];
    const full = await this.#room.fullOf(store, receivers);
    return store.transact(
      (tx): FanOut | undefined => {
        const now = tx.get(fanOutKey(id))?.value as FanOut | undefined;
        if (now === undefined || now.done !== fanOut.done) return now; // another process was faster
        const message = tx.get(messageKey(id))?.value as MessageRecord | undefined;
        // a message that expired by now reaches nobody any more
        const counts = message
          ? deliverPart(tx, message, receivers, full, now)
          : { ...now, failed: now.failed + receivers.length };
        tx.delete(key);
        const after = { ...now, ...counts, done: now.done + 1, dueAt: tx.now + FAN_OUT_LEASE_MS };
        put(tx, after);
        if (after.done === after.parts) DUE.remove(tx, now.dueAt, id);
        else DUE.move(tx, now.dueAt, after.dueAt, id);
        return after;
      },
      { prefetch: { keys: [fanOutKey(id), messageKey(id), key, ...receivers.map((receiver) => deliveryKey(receiver, id))] } },
    );
  }
}
