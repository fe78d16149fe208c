/** The workers as processes: what each does, who holds the report's lock, and those that are killed or revoked. */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import type { Transcript } from "./transcript.ts";
import type { Refusal, Word, WorkerMessage, WorkerOrder } from "./worker.ts";

export interface Worker {
  agent: string;
  child: ChildProcess;
  serverPids: readonly number[];
  done: number;
  /** The task that it works on. */
  holds: string | undefined;
  lost: How | undefined;
  started: Promise<void>;
  ended: Promise<void>;
}

/** Killed as when a machine dies, or revoked: refused by every server from then on. */
export type How = "killed" | "revoked";

/** A worker that was lost with the report's lock in its hands, and who had the lock next. */
export interface Loss {
  how: How;
  worker: Worker;
  taskId: string;
  token: number;
  at: number;
  next?: { agent: string; token: number; afterMs: number };
  /** What a revoked worker heard when it went on, and when it had heard it from all of its servers. */
  refused?: { refusals: readonly Refusal[]; afterMs: number };
}

/** @param index from 0 */
export function workerName(index: number): string {
  return `worker-${index + 1}`;
}

export interface CrewOptions {
  workers: number;
  order: Omit<WorkerOrder, "agent">;
  transcript: Transcript;
  /** Asked whenever a worker has the lock: whether now is the time to lose it, after `losses` others. */
  loseNow: (done: number, losses: number) => How | undefined;
  /** Shuts an agent out of the swarm. */
  revoke: (agent: string) => Promise<void>;
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
  readonly losses: Loss[] = [];
  readonly #options: CrewOptions;
  #holder: Worker | undefined;
  #lastToken = 0;

  constructor(options: CrewOptions) {
    this.#options = options;
    this.workers = Array.from({ length: options.workers }, (_, index) => this.#start(workerName(index)));
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
      lost: undefined,
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
      if (worker.lost !== "killed" && code !== 0) this.problems.push(`${agent} ended with exit code ${code}`);
    });
    return worker;
  }

  #hear(worker: Worker, message: WorkerMessage): void {
    if (worker.lost === "killed") return;
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
        this.#say(worker, "go on");
        break;
      case "announced":
        this.announced += 1;
        this.#options.onAnnounced(this.announced);
        break;
      case "done":
        worker.holds = undefined;
        worker.done += 1;
        break;
      case "refused":
        this.#refused(worker, message.refusals);
        break;
    }
  }

  #locked(worker: Worker, { taskId, part, token }: Extract<WorkerMessage, { kind: "locked" }>): void {
    const { transcript, loseNow } = this.#options;
    if (this.#holder && !this.#holder.lost) {
      this.problems.push(`${worker.agent} was given the lock that ${this.#holder.agent} held`);
    }
    if (token <= this.#lastToken) this.problems.push(`fencing token ${token} came after ${this.#lastToken}`);
    const last = this.losses.at(-1);
    if (last && !last.next) {
      const afterMs = performance.now() - last.at;
      last.next = { agent: worker.agent, token, afterMs };
      transcript.say(
        `${worker.agent} has the lock that ${last.worker.agent} held (token ${token}), ${afterMs.toFixed(0)} ms after that was ${last.how}`,
      );
    }
    this.#holder = worker;
    this.#lastToken = token;
    this.holdings += 1;
    const how = loseNow(this.done, this.losses.length);
    if (how) {
      const what = how === "killed" ? "it and its servers get SIGKILL now" : "the administrator revokes it now";
      transcript.say(`${worker.agent} has the lock (token ${token}) for its part "${part}": ${what}`);
      this.losses.push({ how, worker, taskId, token, at: performance.now() });
      worker.lost = how;
      if (how === "killed") kill(worker);
      else this.#revoke(worker);
      return;
    }
    transcript.say(`${worker.agent} has the report's lock (token ${token}) and writes "${part}"`, "locked");
    this.#say(worker, "go on");
  }

  #say(worker: Worker, word: Word): void {
    worker.child.send(word);
  }

  /** It is told to keep what it holds, and so what it holds is taken from it. */
  #revoke(worker: Worker): void {
    this.#say(worker, "hold on");
    this.#options.revoke(worker.agent).catch((error: unknown) => {
      this.problems.push(`${worker.agent} was not revoked: ${error}`);
    });
  }

  #refused(worker: Worker, refusals: readonly Refusal[]): void {
    const loss = this.losses.find((one) => one.worker === worker);
    if (loss) loss.refused = { refusals, afterMs: performance.now() - loss.at };
    for (const { tool, text } of refusals) {
      this.#options.transcript.say(`${worker.agent} goes on and is refused: ${text === "" ? `${tool} was NOT` : oneLine(text)}`);
    }
    this.#say(worker, "go on");
  }
}

/** As when a machine dies: the host and its servers are gone at once, and nothing is given back. */
function kill({ child, serverPids }: Worker): void {
  for (const pid of serverPids) process.kill(pid, "SIGKILL");
  child.kill("SIGKILL");
}

/** What it is, without what to do about it. */
function oneLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
