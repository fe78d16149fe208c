/**
 * How long an agent waits for one small piece of JavaScript: `submit_task` with waitMs until its answer has the result, one at a time, run
 * in the server's own process and by a worker in another. Beside it, by turns, the same on the sandbox driver alone.
 */

import { LineClient } from "./drivers/line-client.ts";
import { driverFor, emptyTask, openDrivers, runEmpty } from "./execution-tasks.ts";
import { latencyRows } from "./hand-over.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { type Engine, onEachEngine, swarmServer } from "./servers.ts";
import { Workforce } from "./workforce.ts";

const COUNT = { full: 500, quick: 60 };
const WARM_UP = 30;
const WAIT_MS = 30_000;

interface Answer {
  task: { status: string; attempt: number };
  result?: { value?: unknown };
}

export async function executionLatency({ quick }: Options): Promise<Row[]> {
  const count = quick ? COUNT.quick : COUNT.full;
  return await onEachEngine(async (engine) => [...(await inServer(engine, count)), ...(await inWorker(engine, count))]);
}

async function inServer(engine: Engine, count: number): Promise<Row[]> {
  const { name, durability } = engine;
  const store = await engine.freshStore("in-server");
  const server = new LineClient(swarmServer("distributed-execution", { store, durability, agent: "submitter" }));
  try {
    await server.open();
    return await measure(`JavaScript submitted, its result is there, run by the server itself, ${name}`, server, count);
  } finally {
    await server.close();
  }
}

async function inWorker({ name, durability, freshStore }: Engine, count: number): Promise<Row[]> {
  const store = await freshStore("in-worker");
  const force = await Workforce.open({ store, durability, workers: 1, slots: 1, kind: "javascript" });
  try {
    return await measure(`JavaScript submitted, its result is there, run by a worker process, ${name}`, force.server, count);
  } finally {
    await force.close();
  }
}

async function measure(what: string, server: LineClient, count: number): Promise<Row[]> {
  const drivers = openDrivers(1);
  try {
    const driver = await driverFor(drivers, "javascript");
    const ours: number[] = [];
    const floor: number[] = [];
    for (let n = 1; n <= WARM_UP + count; n++) {
      const took = await submitted(server, n);
      const alone = await runEmpty(driver, "javascript", n);
      if (n <= WARM_UP) continue;
      ours.push(took);
      floor.push(alone);
    }
    return latencyRows(what, { ours, floor });
  } finally {
    await drivers.close();
  }
}

async function submitted(server: LineClient, n: number): Promise<number> {
  const { code, value } = emptyTask("javascript", n);
  const started = performance.now();
  const answer = await server.ask("submit_task", { code, environment: "javascript", waitMs: WAIT_MS });
  const tookMs = performance.now() - started;
  const { task, result } = answer as unknown as Answer;
  if (task.status !== "succeeded" || task.attempt !== 1 || result?.value !== value) {
    throw new Error(`Task ${n} came to ${JSON.stringify(answer)}`);
  }
  return tookMs;
}

if (import.meta.main) {
  console.log(formatTable(await executionLatency({ quick: process.argv.includes("--quick") })));
}
