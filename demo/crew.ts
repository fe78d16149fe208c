/** The workers as processes: what each does, who holds the report's lock, and the one that is killed. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { Transcript } from "./transcript.ts";
import type { WorkerMessage, WorkerOrder } from "./worker.ts";

export interface Worker {
  agent: string;
  child: ChildProcess;
  serverPids: readonly number[];
  done: number;
  /** The task that it works on. */
  holds: string | undefined;
  killed: boolean;
  started: Promise<void>;
  ended: Promise<void>;
}

/** A worker that died with the report's lock in its hands, and who had the lock next. */
export interface Kill {
  worker: Worker;
  taskId: string;
  token: number;
  at: number;
  next?: { agent: string; token: number; afterMs: number };
}

export interface CrewOptions {
  workers: number;
  order: Omit<WorkerOrder, "agent">;
  transcript: Transcript;
  /** Asked whenever a worker has the lock: whether now is the time to kill it. */
  killNow: (done: number) => boolean;
  /** Told of each part that was announced, with how many there are. */
  onAnnounced: (count: number) => void;
}

export class Crew {
  readonly workers: readonly Worker[];
  /** Parts of the report that were announced on its topic. */
  announced = 0;
  readonly problems: string[] = [];
  /** How often the lock was held. */
  holdings = 0;
  kill: Kill | undefined;
  readonly #options: CrewOptions;
  #holder: Worker | undefined;
  #lastToken = 0;

  constructor(options: CrewOptions) {
    this.#options = options;
    this.workers = Array.from({ length: options.workers }, (_, index) => this.#start(`worker-${index + 1}`));
  }

  get done(): number {
    return this.workers.reduce((total, worker) => total + worker.done, 0);
  }

  get allEnded(): boolean {
    return this.workers.every(({ child }) => child.exitCode !== null || child.signalCode !== null);
  }

  /** When all have their servers. */
  async started(): Promise<void> {
    await Promise.all(this.workers.map(({ started }) => started));
  }

  async ended(): Promise<void> {
    await Promise.all(this.workers.map(({ ended }) => ended));
  }

  #start(agent: string): Worker {
    const child = fork(join(import.meta.dirname, "worker.ts"), [JSON.stringify({ ...this.#options.order, agent })]);
    let hasStarted = () => {};
    const worker: Worker = {
      agent,
      child,
      serverPids: [],
      done: 0,
      holds: undefined,
      killed: false,
      started: new Promise((started) => {
        hasStarted = started;
      }),
      ended: new Promise((ended) => child.once("exit", () => ended())),
    };
    child.on("message", (message: WorkerMessage) => {
      this.#hear(worker, message);
      if (message.kind === "started") hasStarted();
    });
    child.once("exit", (code) => {
      hasStarted(); // one that could not is waited for no longer
      if (!worker.killed && code !== 0) this.problems.push(`${agent} ended with exit code ${code}`);
    });
    return worker;
  }

  #hear(worker: Worker, message: WorkerMessage): void {
    if (worker.killed) return;
    switch (message.kind) {
      case "started":
        worker.serverPids = message.serverPids;
        break;
      case "claimed":
        worker.holds = message.taskId;
        break;
      case "locked":
        this.#locked(worker, message);
        break;
      case "unlocking":
        this.#holder = undefined;
        worker.child.send("go on");
        break;
      case "announced":
        this.announced += 1;
        this.#options.onAnnounced(this.announced);
        break;
      case "done":
        worker.holds = undefined;
        worker.done += 1;
        break;
    }
  }

  #locked(worker: Worker, { taskId, part, token }: Extract<WorkerMessage, { kind: "locked" }>): void {
    const { transcript, killNow } = this.#options;
    if (this.#holder && !this.#holder.killed) {
      this.problems.push(`${worker.agent} was given the lock that ${this.#holder.agent} held`);
    }
    if (token <= this.#lastToken) this.problems.push(`fencing token ${token} came after ${this.#lastToken}`);
    if (this.kill && !this.kill.next) {
      this.kill.next = { agent: worker.agent, token, afterMs: performance.now() - this.kill.at };
      transcript.say(`${worker.agent} has the lock of the dead (token ${token}), ${this.kill.next.afterMs.toFixed(0)} ms later`);
    }
    this.#holder = worker;
    this.#lastToken = token;
    this.holdings += 1;
    if (!this.kill && killNow(this.done)) {
      transcript.say(`${worker.agent} has the lock (token ${token}) for its part "${part}": it and its servers get SIGKILL now`);
      this.#killNow(worker, taskId, token);
      return;
    }
    transcript.say(`${worker.agent} has the report's lock (token ${token}) and writes "${part}"`, "locked");
    worker.child.send("go on");
  }

  /** As when a machine dies: the host and its servers are gone at once, and nothing is given back. */
  #killNow(worker: Worker, taskId: string, token: number): void {
    this.kill = { worker, taskId, token, at: performance.now() };
    worker.killed = true;
    for (const pid of worker.serverPids) process.kill(pid, "SIGKILL");
    worker.child.kill("SIGKILL");
  }
}
