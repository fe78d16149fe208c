/** Votes end without anybody asking: whichever living process comes first counts what is due. */
import type { MaintenanceJob } from "@mcp-swarm/coordination";
import type { Store } from "@mcp-swarm/store";
import type { Closing } from "./closing.ts";
import type { VoteBook } from "./vote-book.ts";
import { activeVotes } from "./vote-layer.ts";

/** Votes that one run ends. */
const BATCH_MAX = 20;
/** A vote that could not be counted is left out for so many runs: it must not hold up the others. */
const SET_ASIDE_RUNS = 60;

export function dueVotesJob(store: Store, book: VoteBook, closing: Closing): MaintenanceJob {
  const aside = new Set<string>();
  let runs = 0;
  return {
    name: "end votes",
    async run() {
      runs = (runs + 1) % SET_ASIDE_RUNS;
      if (runs === 0) aside.clear();
      const first = (await activeVotes.first(store, BATCH_MAX + aside.size)).filter(({ id }) => !aside.has(id));
      if (first.length === 0) return Number.POSITIVE_INFINITY;
      const now = await store.now();
      for (const { id, dueAt } of first) {
        if (dueAt > now) return dueAt - now;
        try {
          await closing.settle(store, await book.find(store, id));
        } catch (error) {
          if (aside.size < BATCH_MAX) aside.add(id);
          throw error;
        }
      }
      return 0;
    },
  };
}
