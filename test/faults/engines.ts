/** Where the hosts of a fault test meet: each engine with an empty store of its own. */
import { openStore } from "@mcp-swarm/store";
import { inject } from "vitest";
import { temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import { type TaskCensus, taskCensus } from "../support/task-invariants.ts";

/** `SWARM_FAULTS=long` runs each test for longer, with more of everything. */
export const LONG = process.env.SWARM_FAULTS === "long";

/** The short figure in every run of the tests, the long one on demand. */
export function size(short: number, long: number): number {
  return LONG ? long : short;
}

export interface Meeting extends Disposable {
  /** For SWARM_STORE. */
  readonly store: string;
}

export const ENGINES: readonly { name: string; meet: () => Promise<Meeting> }[] = [
  { name: "SQLite", meet: async () => temporaryFolder() },
  {
    name: "PostgreSQL",
    meet: async () => ({ store: await freshDatabase(inject("postgresUrl")), [Symbol.dispose]: () => {} }),
  },
];

/** Opens the store beside the hosts and recounts it. */
export async function census(url: string): Promise<TaskCensus> {
  const store = await openStore(url);
  try {
    return await taskCensus(store);
  } finally {
    await store.close();
  }
}
