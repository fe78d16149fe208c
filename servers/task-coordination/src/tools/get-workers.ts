import { fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { slot } from "./claim-worker-slot.ts";
import { defineTool } from "./define.ts";

/** Most tasks shown of one worker. */
const TASKS_SHOWN = 5;

export const getWorkers = defineTool({
  name: "get_workers",
  title: "List worker slots",
  description: "Shows who holds the worker slots and what they work on.",
  toolset: "slots",
  operation: "slot:read",
  resource: () => "slot/*",
  effects: READS,
  input: () => ({}),
  output: () => ({
    workers: z.array(
      slot().extend({
        tasks: z.array(z.object({ taskId: z.string(), title: z.string().exactOptional(), status: z.string() })),
      }),
    ),
    slots: z.number(),
    free: z.number(),
  }),
  untrusted: ["workers[].tasks[].title"],
  async handle({ slots }, _, { call }) {
    const held = await slots.workers(call);
    const workers = held.workers.map((worker) => ({ ...worker, tasks: worker.tasks.slice(0, TASKS_SHOWN) }));
    return { ...held, workers: fit(workers) };
  },
});
