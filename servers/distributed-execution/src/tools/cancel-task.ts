import { fields, WRITES } from "@mcp-swarm/server";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";
import { answerAbout, stillWaiting, taskAnswer, UNTRUSTED_IN_ANSWER } from "./task-answer.ts";

export const cancelTask = defineTool({
  name: "cancel_task",
  title: "Cancel a task",
  description: "Cancels a task that waits, or kills it while it runs; with waitMs the answer tells when it is dead.",
  toolset: "tasks",
  operation: "execution:cancel",
  resource: ({ taskId }) => `execution/${taskId}`,
  effects: { ...WRITES, destructive: true, idempotent: true },
  input: () => ({ taskId: mintedId(), waitMs: fields.waitMs() }),
  output: taskAnswer,
  untrusted: UNTRUSTED_IN_ANSWER,
  async handle(domain, { taskId, waitMs = 0 }, context) {
    const { call, signal, progress } = context;
    await domain.executions.cancel(call, { taskId });
    const waiting = { waitMs, signal, onProgress: (waitedMs: number) => progress(stillWaiting(waitedMs)) };
    return await answerAbout(domain, await domain.executions.get(call, { taskId }, waiting), context);
  },
});
