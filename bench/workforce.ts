/**
 * Worker processes as an operator starts them, with a server beside them that takes tasks and runs none; and processes that run the same
 * tasks on the drivers alone.
 */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Json } from "@mcp-swarm/core";
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { LineClient } from "./drivers/line-client.ts";
import type { Order, Ran, Report } from "./drivers/sandbox-runner.ts";
import { type EmptyTask, emptyTask, type Kind } from "./execution-tasks.ts";
import { type Durability, type Mount, swarmServer } from "./servers.ts";

/** Longest that workers may take to find out what they can run, and how often that is asked. */
const READY_MS_MAX = 60_000;
const READY_LOOK_MS = 100;
/** Longest that one call waits; it is called again until the batch has ended. */
const WAIT_MS = 30_000;
const WAITS_MAX = 20;
const BATCH_TASKS_MAX = 500;
const SCAN = 1_000;

export interface WorkforceOptions {
  store: string;
  durability: Durability;
  workers: number;
  /** Of each worker. */
  slots: number;
  kind: Kind;
}

/** How an execution stands in the store, as far as its end is checked. */
interface Kept {
  status: string;
  attempt: number;
  spent: number;
  result?: { value?: Json; stdout: { head: string } };
}

export class Workforce {
  readonly #hosts: LineClient[] = [];
  readonly #options: WorkforceOptions;
  readonly #expected = new Map<string, EmptyTask>();
  #store: Store | undefined;
  #tasks = 0;

  private constructor(options: WorkforceOptions) {
    this.#options = options;
  }

  /** All workers run this kind of task, and have said so, when this settles. */
  static async open(options: WorkforceOptions): Promise<Workforce> {
    const force = new Workforce(options);
    try {
      await force.#open();
    } catch (error) {
      await force.#end();
      throw error;
    }
    return force;
  }

  get server(): LineClient {
    const [server] = this.#hosts;
    if (!server) throw new Error("The server was not opened");
    return server;
  }

  /** Submits so many tasks and waits until all have ended: the ms in between, as the agent that submits them sees it. */
  async drain(tasks: number, { task, ...more }: { task?: EmptyTask; maxConcurrency?: number } = {}): Promise<number> {
    const { kind } = this.#options;
    const members = Array.from({ length: tasks }, () => {
      this.#tasks++;
      return { key: `t${this.#tasks}`, task: task ?? emptyTask(kind, this.#tasks) };
    });
    const started = performance.now();
    await Promise.all(
      Array.from({ length: Math.ceil(tasks / BATCH_TASKS_MAX) }, (_, at) =>
        this.#batch(members.slice(at * BATCH_TASKS_MAX, (at + 1) * BATCH_TASKS_MAX), more),
      ),
    );
    return performance.now() - started;
  }

  /** Ends all, and checks that each task ran once and came to what it should. */
  async close(): Promise<void> {
    try {
      await this.#check();
    } finally {
      await this.#end();
    }
  }

  async #open(): Promise<void> {
    const { store, durability, workers, slots, kind } = this.#options;
    const mount = (agent: string): Mount => ({ store, durability, agent });
    const server = new LineClient(swarmServer("distributed-execution", mount("submitter"), { SWARM_EXEC_SLOTS: "0" }));
    this.#hosts.push(server);
    await server.open();
    await server.ask("list_sessions");
    for (let at = 0; at < workers; at++) {
      const { command, args, env } = swarmServer("distributed-execution", mount(`worker-${at}`));
      const own = ["worker", "--environments", kind, "--slots", String(slots), "--name", `worker-${at}`];
      this.#hosts.push(new LineClient({ command, args: [...args, ...own], env }));
    }
    const until = performance.now() + READY_MS_MAX;
    for (;;) {
      const listed = (await server.ask("list_workers")) as unknown as { workers: { environments: string[] }[] };
      if (listed.workers.filter(({ environments }) => environments.includes(kind)).length === workers) break;
      if (performance.now() > until) throw new Error(`Not all workers run ${kind}: ${JSON.stringify(listed)}`);
      await sleep(READY_LOOK_MS);
    }
    this.#store = await openStore(store);
  }

  async #batch(members: readonly { key: string; task: EmptyTask }[], more: { maxConcurrency?: number }): Promise<void> {
    const { kind } = this.#options;
    const tasks = members.map(({ key, task: { code } }) => ({ key, code }));
    const submitted = (await this.server.ask("submit_batch", { defaults: { environment: kind }, tasks, ...more })) as {
      batch: { id: string };
    };
    const batchId = submitted.batch.id;
    members.forEach(({ task }, at) => {
      this.#expected.set(`${batchId}/${at}`, task);
    });
    for (let waits = 0; waits < WAITS_MAX; waits++) {
      const { batch } = (await this.server.ask("get_batch", { batchId, waitMs: WAIT_MS, limit: 1 })) as {
        batch: { ended: boolean };
      };
      if (batch.ended) return;
    }
    throw new Error(`Batch ${batchId} has not ended`);
  }

  /** Against the store itself: what an answer shows is in brief. */
  async #check(): Promise<void> {
    const store = this.#store;
    if (!store) return;
    const batches = new Map<string, readonly (readonly [string, string])[]>();
    for await (const { key, value } of rows(store, "exec-batch/")) {
      batches.set(key.slice("exec-batch/".length), (value as { members: [string, string][] }).members);
    }
    const wrong: string[] = [];
    for (const [place, task] of this.#expected) {
      const [batchId = "", at] = place.split("/");
      const id = batches.get(batchId)?.[Number(at)]?.[1];
      const kept = id === undefined ? undefined : ((await store.get(`exec/${id}`))?.value as Kept | undefined);
      const whole = kept?.status === "succeeded" && kept.attempt === 1 && kept.spent === 0;
      if (!whole || kept.result?.value !== task.value || kept.result?.stdout.head !== task.stdout) {
        wrong.push(`${place}: ${JSON.stringify(kept)}`);
      }
    }
    const [first] = wrong;
    if (first !== undefined) throw new Error(`${wrong.length} of ${this.#expected.size} tasks came to something else: ${first}`);
  }

  async #end(): Promise<void> {
    await this.#store?.close();
    // a worker is ended by its signal, a server by the end of its stdin; no order is needed
    for (const { pid } of this.#hosts.slice(1)) process.kill(pid, "SIGTERM");
    await Promise.all(this.#hosts.map((host) => host.close()));
  }
}

async function* rows(store: Store, prefix: string) {
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(prefix, SCAN, after === undefined ? {} : { after }));
    yield* page;
    after = page.at(-1)?.key;
    if (page.length < SCAN) return;
  }
}

/** Processes with one driver each. */
export class Runners {
  readonly #children: readonly ChildProcess[];

  constructor(count: number) {
    const program = join(import.meta.dirname, "drivers", "sandbox-runner.ts");
    this.#children = Array.from({ length: count }, () => fork(program, { stdio: "inherit" }));
  }

  /** Each does its part of so many tasks, one after the other: tasks a second of all. */
  async perSecond(kind: Kind, tasks: number): Promise<number> {
    const each = Math.ceil(tasks / this.#children.length);
    const ran = await Promise.all(this.#children.map((child) => told(child, { kind, tasks: each })));
    const ms = Math.max(...ran.map(({ endedAt }) => endedAt)) - Math.min(...ran.map(({ startedAt }) => startedAt));
    return (each * this.#children.length * 1_000) / ms;
  }

  async close(): Promise<void> {
    await Promise.all(
      this.#children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const ended = once(child, "exit");
        child.disconnect();
        await ended;
      }),
    );
  }
}

function told(child: ChildProcess, order: Order): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error("A process that runs tasks ended"));
    child.once("exit", gone);
    child.once("message", (report: Report) => {
      child.off("exit", gone);
      if ("failed" in report) reject(new Error(report.failed));
      else resolve(report.ran);
    });
    child.send(order);
  });
}
