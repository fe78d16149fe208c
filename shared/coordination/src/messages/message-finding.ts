/** Which of many messages an agent may read, decided from what index rows say of them. */
import type { Store } from "@mcp-swarm/store";
import { deliveryKey, messageKey } from "./message-keys.ts";
import type { MessageRecord } from "./message-record.ts";

/** What an index of messages says of one: enough to decide who may read it. */
export type Pointer = {
  readonly id: string;
  readonly from: string;
  /** Of a message to one agent. */
  readonly to?: string;
  /** Any agent may read a topic. */
  readonly topic?: true;
  readonly notBefore?: number;
};

export function pointerTo({ id, from, audience, notBefore }: MessageRecord): Pointer {
  return {
    ...{ id, from },
    ...(audience.kind === "agent" && audience.name !== undefined ? { to: audience.name } : {}),
    ...(audience.kind === "topic" ? { topic: true } : {}),
    ...(notBefore === undefined ? {} : { notBefore }),
  };
}

/**
 * Whether `reader` may read each: its own messages, those sent to it once they are due, those of topics, and of other broadcasts
 * those that it got.
 */
export async function mayRead(
  store: Pick<Store, "getMany" | "now">,
  reader: string,
  pointers: readonly Pointer[],
): Promise<boolean[]> {
  const asked = pointers.filter(({ from, to, topic }) => from !== reader && to === undefined && !topic);
  const timed = pointers.some(({ notBefore }) => notBefore !== undefined);
  const [deliveries, now] = await Promise.all([
    asked.length > 0 ? store.getMany(asked.map(({ id }) => deliveryKey(reader, id))) : [],
    timed ? store.now() : 0,
  ]);
  const got = new Set(asked.filter((_, at) => deliveries[at] !== undefined).map(({ id }) => id));
  return pointers.map(({ id, from, to, topic, notBefore }) => {
    if (from === reader) return true;
    if (notBefore !== undefined && notBefore > now) return false;
    return to === reader || topic === true || got.has(id);
  });
}

/** Messages in the order of their pointers, without those that expired by now. */
export async function messagesOf(store: Pick<Store, "getMany">, pointers: readonly Pointer[]): Promise<MessageRecord[]> {
  if (pointers.length === 0) return [];
  const entries = await store.getMany(pointers.map(({ id }) => messageKey(id)));
  return entries.flatMap((entry) => (entry ? [entry.value as MessageRecord] : []));
}
