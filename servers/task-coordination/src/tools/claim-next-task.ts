import { fields, WRITES } from "@mcp-swarm/server";
import { claimed, claimTexts, claimView, workerSlot } from "./claim-task.ts";
import { defineTool } from "./define.ts";
import { capabilities, taskFull, typePattern, workerId } from "./schemas.ts";

export const claimNextTask = defineTool({
  name: "claim_next_task",
  title: "Claim the next task",
  description:
    "Claims the most urgent task you may do, waiting up to waitMs for one; task is null when there is none. Finish it with update_task.",
  toolset: "tasks",
  operation: "task:claim",
  resource: () => "task/*",
  effects: WRITES,
  input: () => ({
    capabilities: capabilities().exactOptional().describe("What you can do; tasks that need more are left out"),
    type: typePattern().exactOptional(),
    workflowId: fields.id().exactOptional(),
    waitMs: fields.waitMs(),
    workerId: workerId(),
    workerSlot: workerSlot(),
  }),
  output: () => ({ task: taskFull().nullable(), ...claimed() }),
  untrusted: claimTexts,
  async handle({ claims, announce }, { waitMs = 0, ...input }, { call, signal, progress }) {
    if (input.capabilities !== undefined) await announce(call.caller, input.capabilities);
    const answer = await claims.claimNext(call, input, {
      waitMs,
      signal,
      onProgress: (waitedMs) => progress(`No task yet after ${Math.round(waitedMs / 1_000)} s`),
    });
    return answer ? claimView(answer) : { task: null };
  },
});
