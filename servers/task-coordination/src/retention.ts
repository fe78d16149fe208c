/** Forgetting what ended long ago: in the background of every server, and by the `sweep` command. */
import { type MaintenanceJob, passJob, SequenceSource } from "@mcp-swarm/coordination";
import { systemRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import type { TaskContext } from "./task-layer.ts";
import { Tasks } from "./tasks.ts";
import { workflowRules } from "./workflow-layer.ts";
import { sweepWorkflows } from "./workflow-retention.ts";

const DAY_MS = 24 * 3_600_000;
const SWEEP_EVERY_MS = 600_000;
/** Ended tasks or workflows that one transaction looks at. */
const BATCH_MAX = 100;

interface Pass {
  name: string;
  /** One batch: how many went, and where to go on. */
  batch(store: Store, after: string | undefined): Promise<{ removed: number; after?: string }>;
}

/** Tasks go before the workflows they belong to: a workflow goes when it has none left. */
function passes(tasks: Tasks, retentionDays: number): Pass[] {
  const bounds = { olderThanMs: retentionDays * DAY_MS, limit: BATCH_MAX };
  return [
    { name: "tasks", batch: (store, after) => tasks.sweepEnded(store, { ...bounds, after }) },
    { name: "workflows", batch: (store, after) => sweepWorkflows(store, { ...bounds, after }) },
  ];
}

export function retentionJobs(store: Store, tasks: Tasks, retentionDays: number): MaintenanceJob[] {
  return passes(tasks, retentionDays).map(({ name, batch }) =>
    passJob(`forget old ${name}`, store, SWEEP_EVERY_MS, async (after) => (await batch(store, after)).after),
  );
}

/** What the `sweep` command runs: each pass to its end. */
export function retentionSweepers({ retentionDays }: { retentionDays: number }) {
  const context: TaskContext = { shard: 0, workflows: workflowRules };
  const tasks = new Tasks({ context, sequence: new SequenceSource(systemRandom), random: systemRandom });
  return passes(tasks, retentionDays).map(({ name, batch }) => ({
    name,
    async sweep(store: Store): Promise<number> {
      let total = 0;
      let after: string | undefined;
      do {
        const swept = await batch(store, after);
        total += swept.removed;
        after = swept.after;
      } while (after !== undefined);
      return total;
    },
  }));
}
