/** SIGSTOP for a server process, at a moment that is fair to the others. */
import { setTimeout as pause } from "node:timers/promises";
import type { Store } from "@mcp-swarm/store";

/** How soon a write gets through when no one is stopped within a commit, and how often a stop may hit one. */
const PROBE_MS = 1_500;
const STOPS_MAX = 5;

/**
 * Stops a process at a moment at which it commits nothing: one that is stopped within a commit keeps SQLite's lock, and with
 * it everybody from writing, until it goes on or ends.
 */
export async function stop(pid: number, store: Store): Promise<void> {
  for (let tries = 0; tries < STOPS_MAX; tries++) {
    process.kill(pid, "SIGSTOP");
    const written = store.transact((tx) => tx.delete("probe/nothing")).then(() => true);
    if (await Promise.race([written, pause(PROBE_MS, false)])) return;
    process.kill(pid, "SIGCONT");
    await written;
  }
  throw new Error(`Process ${pid} was within a commit each of ${STOPS_MAX} times it was stopped`);
}
