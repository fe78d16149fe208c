/** What waits in an inbox, looked at without handing anything out. */
import {
  countRows,
  dueAtOf,
  type Held,
  type InboxCount,
  type InboxEntry,
  inboxEntry,
  type MessageRecord,
  messageKey,
  messagePrefixes,
  steady,
} from "@mcp-swarm/coordination/messages";
import { type Entry, ordered, prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { LOOK_AGAIN_MS } from "./inbox.ts";

/** The counts of a view stop here. */
export const VIEWED_MAX = 200;
const VIEWED_HELD_MAX = 2_000;

export interface InboxView {
  /** What would be handed out now: first what is ready, in order, then what is due to come again. At most `limit`. */
  readonly first: readonly InboxEntry[];
  readonly unread: InboxCount;
  /** Handed out or put off, and not due yet. */
  readonly inFlight: InboxCount;
  readonly dead: InboxCount;
  /** When the next of those comes again. */
  readonly nextDueAt?: number;
  /** There is more that is held back: look again after LOOK_AGAIN_MS. */
  readonly isHeld: boolean;
}

/** A bounded look: the counts stop at `VIEWED_MAX`, and no more than `VIEWED_HELD_MAX` rows are passed over because they are held back. */
export async function viewInbox(
  store: Pick<Store, "scan" | "now">,
  agentId: string,
  limit: number,
  held?: Held,
): Promise<InboxView> {
  const due = messagePrefixes.due(agentId);
  const now = await store.now();
  const boundary = `${due}${ordered(now + 1)}`;
  const waiting = await store.scan(prefixRange(due, VIEWED_MAX));
  const passes = steady(held);
  const over = waiting.filter((row) => row.key < boundary && !passes?.(inboxEntry(row).from));
  const later = waiting.filter((row) => row.key >= boundary);
  const ready = await readyRows(store, messagePrefixes.ready(agentId), Math.max(limit, VIEWED_MAX + 1), passes);
  const next: Entry | undefined = later[0];
  const unread = ready.rows.length + over.length;
  return {
    first: [...ready.rows, ...over.map(inboxEntry)].slice(0, limit),
    unread: { count: Math.min(VIEWED_MAX, unread), more: unread > VIEWED_MAX },
    inFlight: { count: later.length, more: waiting.length === VIEWED_MAX },
    dead: await countRows(store, messagePrefixes.dead(agentId), VIEWED_MAX),
    ...(next === undefined ? {} : { nextDueAt: dueAtOf(next, agentId) }),
    isHeld: ready.isHeld || over.length + later.length < waiting.length,
  };
}

/** When to look again at a view without a commit, in ms from now; undefined when nothing comes of itself. */
export async function againInMs(store: Pick<Store, "now">, { nextDueAt, isHeld }: InboxView): Promise<number | undefined> {
  const dueInMs = nextDueAt === undefined ? undefined : Math.max(0, nextDueAt - (await store.now()));
  return isHeld ? Math.min(dueInMs ?? LOOK_AGAIN_MS, LOOK_AGAIN_MS) : dueInMs;
}

/** The first `count` that are not held back. */
async function readyRows(
  store: Pick<Store, "scan">,
  prefix: string,
  count: number,
  held: Held | undefined,
): Promise<{ rows: InboxEntry[]; isHeld: boolean }> {
  const rows: InboxEntry[] = [];
  let looked = 0;
  let after: string | undefined;
  while (rows.length < count && looked < rows.length + VIEWED_HELD_MAX) {
    const size = Math.min(SCAN_LIMIT_MAX, count - rows.length);
    const page = await store.scan(prefixRange(prefix, size, after === undefined ? {} : { after }));
    rows.push(...page.map(inboxEntry).filter(({ from }) => !held?.(from)));
    looked += page.length;
    after = page.at(-1)?.key;
    if (page.length < size) break;
  }
  return { rows, isHeld: rows.length < looked };
}

/** The messages of a view, in its order; what expired since is left out. */
export async function messagesOf(store: Pick<Store, "getMany">, entries: readonly InboxEntry[]): Promise<MessageRecord[]> {
  if (entries.length === 0) return [];
  const found = await store.getMany(entries.map(({ id }) => messageKey(id)));
  return found.flatMap((entry) => (entry ? [entry.value as MessageRecord] : []));
}
