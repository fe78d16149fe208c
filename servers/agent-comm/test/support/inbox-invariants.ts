/** Whether every index of messages agrees with the deliveries, said without the code that makes the indexes. */
import type { Delivery, MessageRecord } from "@mcp-swarm/coordination/messages";
import { type Entry, fromOrdered, prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";

const PAGES_MAX = 1_000;

async function all(store: Store, prefix: string): Promise<Entry[]> {
  const found: Entry[] = [];
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const entries = await store.scan(prefixRange(prefix, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    found.push(...entries);
    if (entries.length < SCAN_LIMIT_MAX) return found;
    after = entries.at(-1)?.key;
  }
  throw new Error(`More rows under ${prefix} than a test has`);
}

type Row = { id: string; to: string };
const rowIn = (entry: Entry) => entry.value as Row;
const name = ({ id, to }: Row) => `${id} at ${to}`;

/** What is wrong with the messages of a store. */
export async function inboxProblems(store: Store): Promise<string[]> {
  const problems: string[] = [];
  const messages = new Map((await all(store, "msg/")).map(({ value }) => [(value as MessageRecord).id, value as MessageRecord]));
  const deliveries = (await all(store, "delivery/")).map(({ value }) => value as Delivery);
  for (const { id, to } of deliveries) if (!messages.has(id)) problems.push(`${id} at ${to} has no message`);

  const inbox = await all(store, "inbox/");
  const part = (kind: string) => inbox.filter(({ key }) => key.split("/")[2] === kind);
  const agree = (what: string, entries: readonly Entry[], expected: readonly Delivery[]) => {
    const has = entries.map((entry) => name(rowIn(entry))).sort();
    const should = expected.map(name).sort();
    if (JSON.stringify(has) !== JSON.stringify(should)) problems.push(`${what}: ${has.join()} instead of ${should.join()}`);
  };
  const inState = (...states: string[]) => deliveries.filter(({ state }) => states.includes(state));
  const asked = deliveries.filter(
    ({ ackDueAt, state, cause }) => ackDueAt !== undefined && state !== "done" && !(state === "dead" && cause === "rejected"),
  );
  const overdue = await all(store, "overdue/");
  agree("ready", part("ready"), inState("ready"));
  agree("due", part("due"), inState("delayed", "in_flight"));
  agree("dead", part("dead"), inState("dead"));
  agree("dead-sent", await all(store, "dead-sent/"), inState("dead"));
  agree(
    "owed",
    overdue.filter(({ key }) => key.split("/")[2] === "owed"),
    asked,
  );
  agree(
    "awaited",
    overdue.filter(({ key }) => key.split("/")[2] === "awaited"),
    asked,
  );
  for (const entry of part("due")) {
    const at = fromOrdered(entry.key.split("/")[3] ?? "");
    const delivery = deliveries.find(({ id, to }) => id === rowIn(entry).id && to === rowIn(entry).to);
    if (delivery?.dueAt !== at) problems.push(`${name(rowIn(entry))} is due at ${delivery?.dueAt}, its row says ${at}`);
  }
  return problems;
}
