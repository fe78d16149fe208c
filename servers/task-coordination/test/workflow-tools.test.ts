import type { JsonObject } from "@mcp-swarm/core";
import { ANSWER_BYTES_MAX } from "@mcp-swarm/server";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { TaskServer } from "../src/open.ts";
import { getWorkflowStatus } from "../src/tools/get-workflow-status.ts";
import { listWorkflowTemplates } from "../src/tools/list-workflow-templates.ts";
import { listWorkflows } from "../src/tools/list-workflows.ts";
import { type Host, swarm } from "./support/swarm.ts";

/** Four bytes a character, as a model's text may have; in JSON a quote takes two. */
const WIDE = "𝄞";
const QUOTES = '"\\';
const TASKS = 70;

function server(host: Host): TaskServer {
  return { ...host, announce: async () => {}, close: async () => {} };
}

/** Reads all pages of a list and finds each answer short enough. */
async function readAll(
  tool: typeof getWorkflowStatus,
  host: Host,
  input: JsonObject,
  list: string,
): Promise<{ items: JsonObject[]; pages: number }> {
  const items: JsonObject[] = [];
  let cursor: string | undefined;
  for (let pages = 1; pages < 1_000; pages++) {
    const context = {
      call: host.call,
      caller: host.call.caller,
      signal: new AbortController().signal,
      progress: () => {},
      attach: () => false,
    };
    const given = tool.input.parse(cursor === undefined ? input : { ...input, cursor }) as JsonObject;
    const answer = await tool.handle(server(host), given, context);
    const caller = { agentId: host.agentId, verified: false };
    tool.output.parse({ ...answer, caller });
    expect(Buffer.byteLength(JSON.stringify({ ...answer, caller, untrusted: tool.untrusted }))).toBeLessThan(ANSWER_BYTES_MAX);
    items.push(...((answer[list] ?? []) as JsonObject[]));
    if (answer.nextCursor === undefined) return { items, pages };
    cursor = answer.nextCursor as string;
  }
  throw new Error("The list has no end.");
}

test("however long the texts of a workflow are, its status fits an answer, and its pages give each result once", async () => {
  verifies("TASK-14", "CORE-11");
  const { host } = swarm();
  const planner = host("planner");
  const tasks = Array.from({ length: TASKS }, (_, at) => ({
    id: `t${at}`,
    description: "x",
    title: WIDE.repeat(100),
    maxAttempts: 1,
  }));
  const waits = Array.from({ length: 20 }, (_, at) => ({
    id: `w${at}${"w".repeat(40)}`,
    description: "x",
    dependencies: Array.from({ length: 9 }, (_, on) => `t${TASKS - 1 - on}`),
  }));
  await planner.workflows.create(planner.call, {
    id: "f".repeat(16),
    name: WIDE.repeat(100),
    metadata: { text: WIDE.repeat(9_000) },
    onFailure: "continue",
    execute: true,
    tasks: [...tasks, ...waits],
  });
  const done = tasks.slice(0, TASKS - 10).map(({ id }) => `${"f".repeat(16)}.${id}`);
  for (const [at, taskId] of done.entries()) {
    await planner.claims.claimTask(planner.call, { taskId });
    const output = at % 2 === 0 ? WIDE.repeat(3_000) : { text: QUOTES.repeat(3_000) };
    await planner.claims.update(planner.call, { taskId, status: "done", output });
  }
  const fails = `${"f".repeat(16)}.t${TASKS - 1}`;
  await planner.claims.claimTask(planner.call, { taskId: fails });
  await planner.claims.update(planner.call, { taskId: fails, status: "failed", error: WIDE.repeat(2_000) });
  for (const limit of [7, 200]) {
    const { items, pages } = await readAll(getWorkflowStatus, planner, { workflowId: "f".repeat(16), limit }, "results");
    expect(items.map(({ taskId }) => taskId)).toEqual(done);
    expect(items.every(({ cut }) => typeof cut === "string")).toBe(true);
    expect(pages).toBeLessThanOrEqual(done.length + 1);
  }
});

test("however long their texts are, workflows and templates are listed in answers that fit, each once", async () => {
  verifies("CORE-11");
  const { clock, host } = swarm();
  const planner = host("planner");
  const ids = Array.from({ length: 60 }, (_, at) => `f${at}`);
  for (const id of ids) {
    await planner.workflows.create(planner.call, { id, name: WIDE.repeat(100), tasks: [{ description: "x" }] });
    await planner.templates.save(planner.call, {
      id,
      description: WIDE.repeat(1_000),
      parameters: Array.from({ length: 50 }, (_, at) => ({
        name: `p${at}`,
        type: "enum",
        values: Array.from({ length: 50 }, (_, value) => `${value}${WIDE.repeat(90)}`),
      })),
      tasks: [{ description: "x" }],
    });
    await clock.advance(1);
  }
  const workflows = await readAll(listWorkflows, planner, { limit: 200 }, "workflows");
  expect(workflows.items.map(({ id }) => id)).toEqual(ids.toReversed());
  const templates = await readAll(listWorkflowTemplates, planner, { limit: 200 }, "templates");
  expect(templates.items.map(({ id }) => id)).toEqual(ids.toSorted());
  expect(templates.items[0]?.parameters).toHaveLength(50);
});
