/** Random contexts: each call that get_context names, made with the tools themselves, brings back what was left out. */
import { tmpdir } from "node:os";
import { keepTask, type StoredTask, taskKey } from "@mcp-swarm/coordination/tasks";
import { type Json, type JsonObject, seededRandom, systemClock } from "@mcp-swarm/core";
import { type Call, Presence, plainCall } from "@mcp-swarm/identity";
import { type Domain, readConfig, type ServerDefinition, SwarmProcess } from "@mcp-swarm/server";
import { definition as stateDefinition } from "@mcp-swarm/shared-state";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { definition as taskDefinition } from "@mcp-swarm/task-coordination";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "./requirements.ts";

/** Most calls that reading one field whole may take. */
const CALLS_MAX = 100;
const CALLER = { agentId: "ann", verified: false, processId: "process-1" };

type Item = { kind: string; id: string; content?: JsonObject; readOn?: string[] };
type Part = { part?: { text: string; nextOffset?: number }; entry?: { value?: Json } };

/** Both servers over one store, called without a protocol between. */
async function swarm(): Promise<{
  store: MemoryStore;
  call(tool: string, args: JsonObject): Promise<JsonObject>;
  close(): Promise<void>;
}> {
  const store = new MemoryStore();
  const process = new SwarmProcess(readConfig({ SWARM_STORE: "memory:" }, tmpdir()), "test");
  const presence = new Presence({ store, clock: systemClock, processId: CALLER.processId, leaseMs: 15_000, onError: () => {} });
  const host = {
    store,
    presence,
    config: process.config,
    clock: systemClock,
    random: seededRandom(1),
    log: process.log,
    processId: CALLER.processId,
  };
  const call: Call = plainCall(store, CALLER);
  const open = async <D extends Domain>(definition: ServerDefinition<D>) => {
    const domain = await definition.open(host);
    const run = (name: string) => {
      const tool = definition.tools.find((one) => one.name === name);
      if (!tool) return undefined;
      const context = { call, caller: CALLER, signal: new AbortController().signal, progress: () => {}, attach: () => false };
      return (args: JsonObject) => tool.handle(domain, tool.input.parse(args) as JsonObject, context);
    };
    return { run, close: () => domain.close() };
  };
  const servers = [await open(taskDefinition), await open(stateDefinition)];
  return {
    store,
    async call(tool, args) {
      const run = servers.map((server) => server.run(tool)).find((found) => found !== undefined);
      if (!run) throw new Error(`No tool ${tool}`);
      return await run(args);
    },
    async close() {
      for (const server of servers) await server.close();
    },
  };
}

async function follow(call: (tool: string, args: JsonObject) => Promise<JsonObject>, readOn: string): Promise<string> {
  const space = readOn.indexOf(" ");
  const args = JSON.parse(readOn.slice(space + 1)) as { [name: string]: Json };
  let text = "";
  let offset = args.offset;
  for (let calls = 0; calls < CALLS_MAX; calls++) {
    const { part } = (await call(readOn.slice(0, space), offset === undefined ? args : { ...args, offset })) as Part;
    if (!part) throw new Error(`${readOn} reads no part`);
    text += part.text;
    if (part.nextOffset === undefined) return text;
    offset = part.nextOffset;
  }
  throw new Error(`${readOn} has no end`);
}

const text = fc
  .array(fc.constantFrom("built", "failed.\n", "Retry. ", "\n\n", '"so"', "\\", "日本", "🎉", ":x", "[... 5 characters ...]"), {
    maxLength: 300,
    size: "max",
  })
  .map((words) => words.join(" "));
const { value } = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small" },
    text,
    fc.integer(),
    fc.constant(null),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(fc.string({ unit: fc.constantFrom("a", "b", "ключ"), minLength: 1, maxLength: 6 }), tie("value"), {
      maxKeys: 8,
    }),
  ),
}));

test("whatever tasks and values hold, what get_context left out is read back whole by the calls that it names", async () => {
  verifies("STATE-13");
  let followed = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ output: value, description: text.filter((one) => one !== "") }), {
        minLength: 1,
        maxLength: 12,
        size: "max",
      }),
      fc.array(value, { maxLength: 4 }),
      fc.integer({ min: 300, max: 2_500 }),
      async (tasks, values, maxTokens) => {
        const { store, call, close } = await swarm();
        try {
          await store.transact((tx) => {
            for (const [at, { output, description }] of tasks.entries()) {
              const task: StoredTask = {
                ...{
                  id: `t${at}`,
                  description,
                  output,
                  type: "general",
                  status: "done",
                  priority: 5,
                  createdAt: at,
                  createdBy: "ben",
                },
                ...{
                  dependencies: at + 1 < tasks.length ? [`t${at + 1}`] : [],
                  open: [],
                  requiredCapabilities: [],
                  maxAttempts: 3,
                },
                ...{
                  backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 },
                  attempt: 1,
                  fencingToken: 1,
                  historyDropped: 0,
                  seq: "",
                },
                history: [{ at, by: "ben", event: "added", to: "available", attempt: 0 }],
              };
              tx.put(taskKey(task.id), keepTask(task));
            }
          });
          for (const [at, one] of values.entries()) await call("set_state", { key: `k${at}`, value: one });
          const keys = values.map((_, at) => ({ key: `k${at}` }));
          const view = await call("get_context", { taskId: "t0", ...(keys.length === 0 ? {} : { keys }), maxTokens });
          const kept = new Map<string, Json>([
            ...tasks.map(({ output }, at): [string, Json] => [`t${at} output`, output]),
            ...values.map((one, at): [string, Json] => [`k${at} value`, one]),
            ["t0 description", tasks[0]?.description ?? ""],
          ]);
          for (const { id, content = {}, readOn = [] } of view.items as Item[]) {
            for (const name of ["description", "output", "value"]) {
              const original = kept.get(`${id} ${name}`);
              if (original === undefined) continue;
              const shown = content[name];
              const reads = readOn.filter((one) =>
                name === "value" ? one.startsWith("get_state") : one.includes(`"field":"${name}"`),
              );
              if (reads.length === 0) expect(shown).toEqual(original);
              for (const one of reads) {
                const offset = Number(/"offset":(\d+)/.exec(one)?.[1]);
                followed += 1;
                const head = offset === 0 ? "" : String(shown).slice(0, offset);
                expect(head + (await follow(call, one))).toBe(typeof original === "string" ? original : JSON.stringify(original));
              }
            }
          }
        } finally {
          await close();
        }
      },
    ),
    { numRuns: 100 },
  );
  expect(followed).toBeGreaterThan(10);
});
