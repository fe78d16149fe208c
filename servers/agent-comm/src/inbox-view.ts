/** What waits in an inbox, looked at without handing anything out. */
import {
  countRows,
  dueAtOf,
  type InboxCount,
  type InboxEntry,
  inboxEntry,
  type MessageRecord,
  messageKey,
  messagePrefixes,
} from "@mcp-swarm/coordination/messages";
import { type Entry, ordered, prefixRange, type Store } from "@mcp-swarm/store";

/** The counts of a view stop here. */
export const VIEWED_MAX = 200;

export interface InboxView {
  /** What would be handed out now: first what is ready, in order, then what is due to come again. At most `limit`. */
  readonly first: readonly InboxEntry[];
  readonly unread: InboxCount;
  /** Handed out or put off, and not due yet. */
  readonly inFlight: InboxCount;
  readonly dead: InboxCount;
  /** When the next of those comes again. */
  readonly nextDueAt?: number;
}

/** A bounded look: the counts stop at `VIEWED_MAX`. */
export async function viewInbox(store: Pick<Store, "scan" | "now">, agentId: string, limit: number): Promise<InboxView> {
  const due = messagePrefixes.due(agentId);
  const now = await store.now();
  const boundary = `${due}${ordered(now + 1)}`;
  const waiting = await store.scan(prefixRange(due, VIEWED_MAX));
  const [over, later] = [waiting.filter((row) => row.key < boundary), waiting.filter((row) => row.key >= boundary)];
  const ready = await countRows(store, messagePrefixes.ready(agentId), VIEWED_MAX);
  const head = await store.scan(prefixRange(messagePrefixes.ready(agentId), limit));
  const next: Entry | undefined = later[0];
  return {
    first: [...head, ...over].slice(0, limit).map(inboxEntry),
    unread: {
      count: Math.min(VIEWED_MAX, ready.count + over.length),
      more: ready.more || ready.count + over.length > VIEWED_MAX,
    },
    inFlight: { count: later.length, more: waiting.length === VIEWED_MAX },
    dead: await countRows(store, messagePrefixes.dead(agentId), VIEWED_MAX),
    ...(next === undefined ? {} : { nextDueAt: dueAtOf(next, agentId) }),
  };
}

/** The messages of a view, in its order; what expired since is left out. */
export async function messagesOf(store: Pick<Store, "getMany">, entries: readonly InboxEntry[]): Promise<MessageRecord[]> {
  if (entries.length === 0) return [];
  const found = await store.getMany(entries.map(({ id }) => messageKey(id)));
  return found.flatMap((entry) => (entry ? [entry.value as MessageRecord] : []));
}
