/**
 * Environments in the store, but for those that are there from the start.
 *
 * | key | value | why |
 * |---|---|---|
 * | `exec-environment/name/<name>` | EnvironmentRow | what stands under a name; kept for a while without one, so that no version comes twice |
 */
import type { Json } from "@mcp-swarm/core";
import { prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";
import type { Environment } from "./environment.ts";
import { QUEUE_MS_MAX } from "./execution-record.ts";

/** Most environments that agents and operators made together. */
export const ENVIRONMENTS_MAX = 200;
/** A name's versions are remembered for longer than any task waits; an operator's environment that no process knows any more ends so. */
export const ROW_TTL_MS = 4 * QUEUE_MS_MAX;

export const ENVIRONMENTS_PREFIX = "exec-environment/name/";

export type EnvironmentRow = {
  /** The last one given to this name. */
  readonly version: number;
  readonly environment?: Environment;
};

export function environmentKey(name: string): string {
  return `${ENVIRONMENTS_PREFIX}${segment(name)}`;
}

export function readRow(tx: Pick<Transaction, "get">, name: string): EnvironmentRow | undefined {
  return tx.get(environmentKey(name))?.value as EnvironmentRow | undefined;
}

/** `ttl`: of an environment that must be written again to stay. */
export function putRow(tx: Transaction, name: string, row: EnvironmentRow, ttl: "stays" | "ends"): void {
  tx.put(environmentKey(name), row as unknown as Json, ttl === "ends" ? { ttlMs: ROW_TTL_MS } : {});
}

/** Every name's row, in the order of names; at most twice `ENVIRONMENTS_MAX`, because a name outlives its environment. */
export function rowsRange(): Parameters<Transaction["scan"]>[0] {
  return prefixRange(ENVIRONMENTS_PREFIX, 1_000);
}

export async function readAll(store: Store): Promise<Environment[]> {
  const rows = await store.scan(rowsRange());
  return rows.flatMap(({ value }) => (value as EnvironmentRow).environment ?? []);
}
