import { fields, fit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { STRATEGIES } from "../assignment.ts";
import { ASSIGNEES_MAX } from "../task-assigning.ts";
import { TASKS_PER_CALL_MAX } from "../task-record.ts";
import { defineTool } from "./define.ts";
import { capabilities } from "./schemas.ts";
import { workflowId } from "./workflow-schemas.ts";

/** Bytes for each list: 500 tasks do not fit one answer. */
const ASSIGNMENTS_BYTES = 9_000;
const UNASSIGNED_BYTES = 3_000;
const LOAD_BYTES = 5_000;

export const assignTasks = defineTool({
  name: "assign_tasks",
  title: "Assign tasks to agents",
  description:
    "Spreads waiting tasks over live agents; each is then for its agent alone while that lives. Use it when agents should not just claim the next.",
  toolset: "assignment",
  operation: "task:assign",
  resource: () => "task/*",
  effects: WRITES,
  input: () => ({
    strategy: z.enum(STRATEGIES),
    taskIds: z.array(fields.id()).max(TASKS_PER_CALL_MAX).exactOptional().describe("Default: all that wait unassigned"),
    workflowId: workflowId().exactOptional(),
    type: fields.label().exactOptional(),
    agents: z
      .array(
        z.strictObject({
          agentId: fields.agentId(),
          capabilities: capabilities().exactOptional(),
          maxLoad: fields.whole(1, 1_000).exactOptional(),
        }),
      )
      .min(1)
      .max(ASSIGNEES_MAX)
      .exactOptional()
      .describe("Default: all live ones, you too"),
    reassign: z.boolean().exactOptional(),
  }),
  output: () => ({
    assignedCount: z.number(),
    assignments: z.array(
      z.object({
        taskId: z.string(),
        agentId: z.string(),
        confidence: z.number(),
        estimatedDurationMs: z.number(),
        estimatedFinishAt: z.number().exactOptional(),
        late: z.literal(true).exactOptional(),
      }),
    ),
    unassignedCount: z.number(),
    unassigned: z.array(
      z.object({ taskId: z.string(), reason: z.string(), missingCapabilities: z.array(z.string()).exactOptional() }),
    ),
    load: z.array(z.object({ agentId: z.string(), tasks: z.number(), predictedMs: z.number() })),
    balanceScore: z.number(),
    strategy: z.enum(STRATEGIES),
    reason: z.string(),
    more: z.boolean(),
  }),
  async handle({ assignments }, input, { call }) {
    const answer = await assignments.assign(call, input);
    return {
      ...answer,
      assignedCount: answer.assignments.length,
      assignments: fit(answer.assignments, ASSIGNMENTS_BYTES),
      unassignedCount: answer.unassigned.length,
      unassigned: fit(
        answer.unassigned.map(({ missingCapabilities, ...rest }) =>
          missingCapabilities === undefined ? rest : { ...rest, missingCapabilities: [...missingCapabilities] },
        ),
        UNASSIGNED_BYTES,
      ),
      load: fit(answer.load, LOAD_BYTES),
    };
  },
});
