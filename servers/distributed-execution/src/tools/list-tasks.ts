import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { environmentName, mintedId, status, task } from "./schemas.ts";
import { taskView } from "./views.ts";

export const listTasks = defineTool({
  name: "list_tasks",
  title: "List tasks",
  description: "Lists tasks, the latest first; those of a batch or session in their order.",
  toolset: "tasks",
  operation: "execution:read",
  resource: () => "execution/*",
  effects: READS,
  input: () => ({
    status: status().exactOptional(),
    agentId: fields.agentId().exactOptional(),
    environment: environmentName().exactOptional(),
    batchId: mintedId().exactOptional(),
    sessionId: mintedId().exactOptional(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ tasks: z.array(task()), nextCursor: fields.nextCursor() }),
  async handle({ executions }, { limit = PAGE_DEFAULT, ...input }, { call }) {
    const page = await executions.list(call, { ...input, limit });
    const shown = page.tasks.map((record) => taskView(record));
    const kept = fit(shown).length;
    if (kept === shown.length) return { ...page, tasks: shown };
    const less = await executions.list(call, { ...input, limit: kept });
    return { ...less, tasks: less.tasks.map((record) => taskView(record)) };
  },
});
