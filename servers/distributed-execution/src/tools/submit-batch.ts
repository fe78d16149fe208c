import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { BATCH_TASKS_MAX } from "../batch-plan.ts";
import { BATCH_NAME_MAX } from "../batches.ts";
import { batchTask, defaults } from "./batch-schemas.ts";
import { defineTool } from "./define.ts";

export const submitBatch = defineTool({
  name: "submit_batch",
  title: "Submit a batch",
  description:
    'Hands over up to 500 tasks, all or none; fields as in submit_task, shared ones in defaults. dependencies name keys; after: "any" runs whatever came of them; a file may be {path, from: key, output}.',
  toolset: "batches",
  operation: "execution:submit",
  resource: ({ tasks, defaults }) => environmentsOf(tasks, defaults?.environment),
  effects: WRITES,
  input: () => ({
    tasks: z.array(batchTask()).min(1).max(BATCH_TASKS_MAX),
    defaults: defaults().exactOptional(),
    maxConcurrency: fields.whole(1, BATCH_TASKS_MAX).exactOptional(),
    stopOnFailure: z.boolean().exactOptional(),
    name: fields.text(BATCH_NAME_MAX).exactOptional(),
  }),
  output: () => ({
    batch: z.object({
      id: z.string(),
      tasks: z.number(),
      queued: z.number(),
      blocked: z.number(),
      createdAt: z.number(),
    }),
  }),
  async handle({ batches }, input, { call }) {
    return { batch: await batches.submit(call, input) };
  },
});

/** Its only environment, or what stands for several: then all of them must be permitted. */
function environmentsOf(tasks: readonly { environment?: string | undefined }[], byDefault: string | undefined): string {
  const names = new Set(tasks.flatMap(({ environment = byDefault }) => environment ?? []));
  const [only] = names;
  return `environment/${names.size === 1 ? only : "*"}`;
}
