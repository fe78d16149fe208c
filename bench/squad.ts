/** Several workers, each a host process with a stdio server of its own, on one store. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { Launch } from "./drivers/line-client.ts";
import type { Drained, Order, Report } from "./drivers/worker.ts";

export interface Drain {
  perSecond: number;
  /** From the first worker's start to the last task's end. */
  ms: number;
  /** How many tasks each worker did. */
  shares: number[];
}

/** Numbers all ids of this run, so that none comes twice. */
let batches = 0;

export class Squad {
  readonly #hosts: ChildProcess[];

  private constructor(hosts: ChildProcess[]) {
    this.#hosts = hosts;
  }

  /** All servers are started at the same moment, on a store that may be new. */
  static async open(launches: readonly Launch[]): Promise<Squad> {
    const hosts = launches.map(() => fork(join(import.meta.dirname, "drivers", "worker.ts"), { stdio: "inherit" }));
    const squad = new Squad(hosts);
    try {
      await Promise.all(launches.map((launch, at) => squad.#tell(at, { do: "open", launch })));
    } catch (error) {
      squad.#kill();
      throw error;
    }
    return squad;
  }

  /**
   * Adds so many tasks, lets all workers take and finish them until none is left, and checks that each was done by exactly
   * one of them and that no call was refused.
   */
  async drain(tasks: number, { workMs = 0 }: { workMs?: number } = {}): Promise<Drain> {
    batches += 1;
    const ids = Array.from({ length: tasks }, (_, at) => `b${batches}-${at}`);
    await this.#tell(0, { do: "add", ids });
    const drained = await Promise.all(
      this.#hosts.map(async (_, at) => {
        const done = await this.#tell(at, { do: "drain", workMs });
        if (!done) throw new Error("A worker did not say what it did");
        return done;
      }),
    );
    check(ids, drained);
    const ms = Math.max(...drained.map((one) => one.lastDoneAt)) - Math.min(...drained.map((one) => one.startedAt));
    return { perSecond: (tasks * 1_000) / ms, ms, shares: drained.map((one) => one.taken.length) };
  }

  async close(): Promise<void> {
    try {
      await Promise.all(this.#hosts.map((_, at) => this.#tell(at, { do: "close" })));
    } finally {
      this.#kill();
    }
  }

  #kill(): void {
    for (const host of this.#hosts) host.kill("SIGKILL");
  }

  #tell(at: number, order: Order): Promise<Drained | undefined> {
    const host = this.#hosts[at];
    if (!host) throw new Error(`There is no worker ${at}`);
    return new Promise((resolve, reject) => {
      const gone = () => reject(new Error("A worker's process ended"));
      host.once("exit", gone);
      host.once("message", (report: Report) => {
        host.off("exit", gone);
        if ("failed" in report) reject(new Error(report.failed));
        else resolve(report.done);
      });
      host.send(order);
    });
  }
}

function check(ids: readonly string[], drained: readonly Drained[]): void {
  const refused = drained.flatMap((one) => one.refused);
  if (refused.length > 0) throw new Error(`${refused.length} calls were refused, the first with: ${refused[0]}`);
  const taken = drained.flatMap((one) => one.taken);
  const distinct = new Set(taken);
  if (distinct.size !== taken.length) throw new Error(`${taken.length - distinct.size} tasks were done twice`);
  const lost = ids.filter((id) => !distinct.has(id));
  if (lost.length > 0 || distinct.size !== ids.length) {
    throw new Error(`${lost.length} of ${ids.length} tasks were lost, the first is ${lost[0]}; ${distinct.size} were done`);
  }
}
