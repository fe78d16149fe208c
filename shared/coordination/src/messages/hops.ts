/**
 * How many messages led to one: agents that answer each other without end are stopped at `HOPS_MAX`.
 *
 * A message that begins a thread has none. One that answers or continues a thread has one more than the most that its sender got
 * there, so a thread in which many report to one stays flat however long it is.
 */
import { SwarmError } from "@mcp-swarm/core";
import { segment, type Transaction } from "@mcp-swarm/store";
import { messageKey } from "./message-keys.ts";
import { lifeOf } from "./message-layer.ts";
import { type Delivery, HOPS_MAX, type MessageRecord, rootOf } from "./message-record.ts";

const heardKey = (agentId: string, thread: string): string => `heard/${segment(rootOf(agentId))}/${segment(thread)}`;

/** What `hopsOf` reads. */
export function hopKeys(from: string, thread: string): string[] {
  return [heardKey(from, thread), messageKey(thread)];
}

/**
 * Hops of a message that `from` sends now into a thread.
 * @throws SwarmError limit_exceeded
 */
export function hopsOf(tx: Transaction, from: string, thread: string, answered: MessageRecord | undefined): number {
  const heard = tx.get(heardKey(from, thread))?.value as number | undefined;
  const first = tx.get(messageKey(thread))?.value as MessageRecord | undefined;
  const led = [answered?.hops, heard, first && rootOf(first.from) !== rootOf(from) ? first.hops : undefined];
  const hops = Math.max(-1, ...led.filter((hops) => hops !== undefined)) + 1;
  if (hops <= HOPS_MAX) return hops;
  throw new SwarmError(
    "limit_exceeded",
    `This message would be the end of a chain of more than ${HOPS_MAX} answers to answers.`,
    {
      hint: "Stop answering here. If there is something new to say, begin a thread without replyTo and correlationId.",
    },
  );
}

/** What an agent will be told to have heard, for `noteHeard`; messages that begin a thread are found by their own id. */
export function heardKeys(deliveries: readonly Pick<Delivery, "to" | "id" | "correlationId">[]): string[] {
  const threads = deliveries.filter(({ id, correlationId }) => id !== correlationId);
  return [...new Set(threads.map(({ to, correlationId }) => heardKey(to, correlationId)))];
}

/** An agent gets a message: what it says in that thread from now on is an answer to it. */
export function noteHeard(tx: Transaction, delivery: Pick<Delivery, "to" | "id" | "correlationId" | "hops" | "keptUntil">): void {
  const { to, id, correlationId, hops } = delivery;
  if (id === correlationId) return;
  const key = heardKey(to, correlationId);
  const before = tx.get(key)?.value as number | undefined;
  if (before === undefined || before < hops) tx.put(key, hops, { ttlMs: lifeOf(tx, delivery) });
}
