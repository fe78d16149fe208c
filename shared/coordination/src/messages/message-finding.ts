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
  /** Its name: any agent may read it whom policy lets. `true` in rows that were written before there were policies. */
  readonly topic?: string | true;
  readonly notBefore?: number;
};

export function pointerTo({ id, from, audience, notBefore }: MessageRecord): Pointer {
  return {
    ...{ id, from },
    ...(audience.kind === "agent" && audience.name !== undefined ? { to: audience.name } : {}),
    ...(audience.kind === "topic" ? { topic: audience.name ?? true } : {}),
    ...(notBefore === undefined ? {} : { notBefore }),
  };
}

/** Whether policy lets an agent read what is published in a topic. Absent in an open swarm, where every agent may. */
export type ReadsTopic = (reader: string, topic: string) => boolean;

/**
 * Whether what an agent sent is held back now, because the agent is quarantined: nobody gets it until that ends, and then all of it,
 * in order. Absent in an open swarm, where nobody is.
 */
export type Held = (from: string) => boolean;

/** The same, with one answer for each agent however often it is asked: within one look, so that no later message is seen before an earlier one. */
export function steady(held: Held | undefined): Held | undefined {
  if (!held) return undefined;
  const known = new Map<string, boolean>();
  return (from) => {
    const answer = known.get(from) ?? held(from);
    known.set(from, answer);
    return answer;
  };
}

/**
 * Whether `reader` may read each: its own messages, those sent to it once they are due, those of topics, and of other broadcasts
 * those that it got; of others than itself nothing that is held back.
 */
export async function mayRead(
  store: Pick<Store, "getMany" | "now">,
  reader: string,
  pointers: readonly Pointer[],
  held?: Held,
  readsTopic?: ReadsTopic,
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
    if (held?.(from)) return false;
    if (notBefore !== undefined && notBefore > now) return false;
    if (typeof topic === "string") return readsTopic?.(reader, topic) ?? true;
    return to === reader || topic === true || got.has(id);
  });
}

/** Messages in the order of their pointers, without those that expired by now. */
export async function messagesOf(store: Pick<Store, "getMany">, pointers: readonly Pointer[]): Promise<MessageRecord[]> {
  if (pointers.length === 0) return [];
  const entries = await store.getMany(pointers.map(({ id }) => messageKey(id)));
  return entries.flatMap((entry) => (entry ? [entry.value as MessageRecord] : []));
}
