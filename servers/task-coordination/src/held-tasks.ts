/** What agents hold: read from the index of leases, which holds nothing but held tasks. */
import type { LeaseEntry } from "@mcp-swarm/coordination/tasks";
import { prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { prefixes } from "./task-layer.ts";

/** Most held tasks of a swarm that are looked at to find those of some agents: twenty full processes' (HELD_LEASES_MAX). */
export const HELD_LOOKED_AT_MAX = 20_000;

/**
 * The ids of up to `limitEach` tasks that each of the agents holds, by the end of their leases. A lease that is renewed while
 * this reads is found at its old place or its new one.
 */
export async function heldTasks(
  store: Pick<Store, "scan">,
  agents: Iterable<string>,
  limitEach: number,
): Promise<Map<string, string[]>> {
  const found = new Map([...agents].map((agentId) => [agentId, new Set<string>()]));
  let missing = found.size;
  let after: string | undefined;
  for (let looked = 0; missing > 0 && looked < HELD_LOOKED_AT_MAX; looked += SCAN_LIMIT_MAX) {
    const page = await store.scan(prefixRange(prefixes.leases, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    for (const { value } of page) {
      const { id, by } = value as LeaseEntry;
      const ids = found.get(by);
      if (!ids || ids.size === limitEach) continue;
      ids.add(id);
      if (ids.size === limitEach) missing--;
    }
    after = page.at(-1)?.key;
    if (page.length < SCAN_LIMIT_MAX) break;
  }
  return new Map([...found].map(([agentId, ids]) => [agentId, [...ids]]));
}
