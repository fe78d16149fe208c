import { fields, shrinkToFit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import type { ClaimAnswer } from "../claims.ts";
import { defineTool } from "./define.ts";
import { context, taskFull, taskId, taskTexts, workerId } from "./schemas.ts";
import { contextView, full } from "./views.ts";

export const workerSlot = fields.shared(() => z.int().min(1).max(1_000).exactOptional());

/** What a claim answers. */
export const claimed = fields.shared(() => ({
  fencingToken: z.number().exactOptional(),
  leaseExpiresAt: z.number().exactOptional(),
  context: context().exactOptional(),
}));

export const claimTexts = [...taskTexts("task"), "context[].title", "context[].output"];

export function claimView(answer: ClaimAnswer) {
  return shrinkToFit((scale) => ({
    task: full(answer.task, scale),
    fencingToken: answer.fencingToken,
    leaseExpiresAt: answer.leaseExpiresAt,
    context: contextView(answer.context, scale),
  }));
}

export const claimTask = defineTool({
  name: "claim_task",
  title: "Claim a task",
  description:
    "Claims one available task by id; answers a fencing token, the lease and the results it builds on. Prefer claim_next_task unless you want this very task.",
  toolset: "tasks",
  operation: "task:claim",
  resource: ({ taskId }) => `task/${taskId}`,
  effects: WRITES,
  input: () => ({ taskId: taskId(), workerId: workerId(), workerSlot: workerSlot() }),
  output: () => ({ task: taskFull(), ...claimed() }),
  untrusted: claimTexts,
  async handle({ claims }, input, { call }) {
    return claimView(await claims.claimTask(call, input));
  },
});
