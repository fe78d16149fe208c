import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { fencingToken, taskId, workerId } from "./schemas.ts";

export const renewTask = defineTool({
  name: "renew_task",
  title: "Renew a claim",
  description: "Extends your lease on a task. Only needed over HTTP: over stdio the server renews while you live.",
  toolset: "tasks",
  operation: "task:update",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({ taskId: taskId(), workerId: workerId(), fencingToken: fencingToken() }),
  output: () => ({ taskId: z.string(), fencingToken: z.number(), leaseExpiresAt: z.number() }),
  async handle({ claims }, input, { call }) {
    const { fencingToken, leaseExpiresAt } = await claims.renew(call, input);
    return { taskId: input.taskId, fencingToken, leaseExpiresAt };
  },
});
