/** `execution://{taskId}`: a task and what came of it, for hosts that watch resources. */
import { resourcesFor } from "@mcp-swarm/server";
import { executionKey } from "../execution-layer.ts";
import type { DistributedExecution } from "../open.ts";
import { answerAbout, UNTRUSTED_IN_ANSWER } from "../tools/task-answer.ts";

const defineResource = resourcesFor<DistributedExecution>();

export const executionResource = defineResource({
  name: "execution",
  title: "Task",
  description: "A piece of code that was handed over: its status and, once it ended, what came out.",
  uriTemplate: "execution://{taskId}",
  toolset: "tasks",
  operation: "execution:read",
  resource: ({ taskId }) => `execution/${taskId}`,
  untrusted: UNTRUSTED_IN_ANSWER,
  async list({ executions }, { call, caller }, { limit, after }) {
    const page = await executions.list(call, { agentId: caller.agentId, limit, cursor: after });
    return {
      resources: page.tasks.map(({ id, environment, status }) => ({
        params: { taskId: id },
        title: `Task in ${environment}: ${status}`,
      })),
      ...(page.nextCursor === undefined ? {} : { next: page.nextCursor }),
    };
  },
  async read(domain, { taskId }, { call }) {
    // images are for answers of tools; here their artifacts are named
    return await answerAbout(domain, await domain.executions.get(call, { taskId }), { call, attach: () => false });
  },
  watch: ({ executions }, { taskId }, { call }) => ({
    prefixes: [executionKey(taskId)],
    async version() {
      const { status, attempt, cancelRequestedAt } = await executions.get(call, { taskId });
      return { version: JSON.stringify([status, attempt, cancelRequestedAt ?? null]) };
    },
  }),
});
