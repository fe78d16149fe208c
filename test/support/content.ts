/** Everything a store holds, to see whether a call changed it. */
import { type Entry, openStore, prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";

/** Most rows a test looks at. */
const PAGES_MAX = 100;

/** Renewed by time and not by calls; and written down of each call, whatever it changed. */
const BESIDE = ["presence", "audit", "audit-checkpoint"];

/** All entries, revisions included, but for those that stand beside what calls change. */
export async function contentOf(store: Store): Promise<Entry[]> {
  return await store.snapshot(async (view) => {
    const entries: Entry[] = [];
    for (const namespace of await view.namespaces()) {
      if (BESIDE.includes(namespace)) continue;
      let after: string | undefined;
      for (let page = 0; page < PAGES_MAX; page++) {
        const rows = await view.scan(prefixRange(`${namespace}/`, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
        entries.push(...rows);
        after = rows.at(-1)?.key;
        if (rows.length < SCAN_LIMIT_MAX) break;
        if (page === PAGES_MAX - 1) throw new Error("The store holds more than this looks at");
      }
    }
    return entries;
  });
}

/** Opens the store of a URL for looking into it beside the servers. */
export async function lookInto(
  url: string,
): Promise<{ content(): Promise<Entry[]>; store: Store; [Symbol.asyncDispose](): Promise<void> }> {
  const store = await openStore(url);
  return { store, content: () => contentOf(store), [Symbol.asyncDispose]: () => store.close() };
}
