import { fields, WRITES } from "@mcp-swarm/server";
import {
  ATTEMPTS_MAX,
  DEDUPE_MAX,
  PRIORITY_MAX,
  QUEUE_MS_MAX,
  QUEUE_MS_MIN,
  RUN_MS_MAX,
  RUN_MS_MIN,
} from "../execution-record.ts";
import { defineTool } from "./define.ts";
import { args, code, environmentName, inputFiles, mintedId, requires, stdin } from "./schemas.ts";
import { answerAbout, stillWaiting, taskAnswer, UNTRUSTED_IN_ANSWER } from "./task-answer.ts";

export const submitTask = defineTool({
  name: "submit_task",
  title: "Run code in a sandbox",
  description:
    "Hands over code to run in a sandbox on a machine that has room. With waitMs the answer has the result if it ends in time.",
  toolset: "tasks",
  operation: "execution:submit",
  resource: ({ environment }) => `environment/${environment}`,
  effects: WRITES,
  input: () => ({
    code: code(),
    environment: environmentName(),
    timeout: fields.whole(RUN_MS_MIN, RUN_MS_MAX).exactOptional().describe("Ms, default 30000"),
    stdin: stdin().exactOptional(),
    args: args().exactOptional(),
    files: inputFiles().exactOptional().describe("By text, base64 or artifactId"),
    priority: fields.whole(0, PRIORITY_MAX).exactOptional().describe("9 first, default 5"),
    maxAttempts: fields.whole(1, ATTEMPTS_MAX).exactOptional().describe("If workers die, default 3"),
    dedupe: fields.text(DEDUPE_MAX).exactOptional().describe("Same key, same task"),
    queueTimeout: fields.whole(QUEUE_MS_MIN, QUEUE_MS_MAX).exactOptional(),
    requires: requires().exactOptional(),
    sessionId: mintedId().exactOptional(),
    waitMs: fields.waitMs(),
  }),
  output: taskAnswer,
  untrusted: UNTRUSTED_IN_ANSWER,
  async handle(domain, { waitMs = 0, ...input }, context) {
    const { call, signal, progress } = context;
    const { executions } = domain;
    const { task } = await executions.submit(call, input);
    const waiting = { waitMs, signal, onProgress: (waitedMs: number) => progress(stillWaiting(waitedMs)) };
    return await answerAbout(domain, await executions.get(call, { taskId: task.id }, waiting), context);
  },
});
