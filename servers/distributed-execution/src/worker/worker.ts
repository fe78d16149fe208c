/** Takes runs while it has a slot free, runs them on the drivers it has, and hands back what came out; until it is stopped. */
import { waitFor } from "@mcp-swarm/coordination";
import { type Clock, SwarmError, WAIT_MS_MAX } from "@mcp-swarm/core";
import type { Driver, SandboxOutcome, SandboxTask } from "../sandbox/driver.ts";
import type { Offers } from "./offers.ts";
import { OutputFlow } from "./output-flow.ts";
import { aborted, pause } from "./pause.ts";
import type { SessionHost } from "./session-host.ts";
import type { ClaimedRun, Demand, Finished, WorkerProfile, WorkSource } from "./work-source.ts";

/** The least time between two looks at what others wait for, ms: more comes in a burst than is new. */
const SCOUT_GAP_MS = 100;
/** Pauses after the store could not be reached, ms: the first, and the longest. */
const RETRY_MS_MIN = 50;
const RETRY_MS_MAX = 2_000;

export interface WorkerOptions {
  readonly workerId: string;
  readonly arch: string;
  readonly labels: readonly string[];
  /** Runs at once. */
  readonly slots: number;
  readonly source: WorkSource;
  readonly offers: Offers;
  readonly sessions: Pick<SessionHost, "ids" | "hasRoom" | "onRoom" | "run" | "close">;
  /** Whether policy lets this worker run tasks of an environment, asked anew each time. */
  readonly mayRun: (environment: string) => boolean;
  readonly clock: Clock;
  readonly onError: (error: unknown, message: string) => void;
}

export class Worker {
  readonly #options: WorkerOptions;
  readonly #stopping = new AbortController();
  /** Aborted, and made anew, when it offers something else than before. */
  #offering = new AbortController();
  readonly #slots = new Set<Promise<void>>();
  #wakeScout = () => {};
  #slotFreed: (() => void) | undefined;
  #loops: Promise<void>[] = [];
  #watches: readonly Disposable[] = [];
  #busyAt: number;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#busyAt = options.clock.now();
  }

  get running(): number {
    return this.#slots.size;
  }

  /** For how long nothing has run, ms; 0 while something runs or a session is kept. */
  get idleMs(): number {
    const { clock, sessions } = this.#options;
    return this.running > 0 || sessions.ids().length > 0 ? 0 : clock.now() - this.#busyAt;
  }

  start(): void {
    const { offers, sessions } = this.#options;
    this.#watches = [
      offers.onFound((runs) => runs && this.offersChanged()),
      sessions.onRoom(() => this.offersChanged()), // with room it takes first tasks of sessions, without it does not
    ];
    this.#loops = [this.#claimWhileFree(), this.#scout()];
  }

  /** Takes nothing more, kills what runs and gives it back. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const watch of this.#watches) watch[Symbol.dispose]();
    this.#slotFreed?.();
    await Promise.all(this.#loops);
    await Promise.all(this.#slots);
    await this.#options.sessions.close();
  }

  async #claimWhileFree(): Promise<void> {
    const stop = this.#stopping.signal;
    let retryMs = RETRY_MS_MIN;
    while (!stop.aborted) {
      if (this.running >= this.#options.slots) {
        await new Promise<void>((resolve) => {
          this.#slotFreed = resolve;
        });
        continue;
      }
      const changed = this.#offering.signal;
      const profile = this.#profile();
      const signal = AbortSignal.any([stop, changed]);
      if (profile.environments.length === 0 && profile.sessions.length === 0) {
        await aborted(signal);
        continue;
      }
      try {
        const run = await this.#options.source.next(profile, { waitMs: WAIT_MS_MAX, signal });
        if (run) this.#occupy(run);
        retryMs = RETRY_MS_MIN;
      } catch (error) {
        this.#options.onError(error, "No work could be asked for; it is tried again");
        await this.#pause(retryMs);
        retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
      }
    }
  }

  /** Finds out about environments that tasks wait for and this worker knows nothing of yet. */
  async #scout(): Promise<void> {
    const { source, offers, clock, workerId, onError } = this.#options;
    const stop = this.#stopping.signal;
    for (let retryMs = SCOUT_GAP_MS; !stop.aborted; await this.#pause(retryMs)) {
      try {
        const unknown = await waitFor<Demand[]>({
          store: {
            watch: (_prefix, wake) => {
              this.#wakeScout = wake;
              return source.onDemand(wake);
            },
          },
          clock,
          prefixes: [""],
          attempt: async () => {
            const demands = await source.demand();
            const wanted = offers.unknown(demands, workerId).filter((demand) => !offers.isLookedAt(demand));
            if (wanted.length > 0) return { value: wanted };
            const againInMs = offers.unknownInMs(demands, workerId);
            return againInMs === undefined ? {} : { againInMs };
          },
          waitMs: WAIT_MS_MAX,
          signal: stop,
        });
        if (unknown) await Promise.race([offers.lookForAny(unknown), aborted(stop)]); // the slow ones go on
        retryMs = SCOUT_GAP_MS;
      } catch (error) {
        retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
        if (!stop.aborted) onError(error, "What tasks wait for could not be looked at; it is tried again");
      }
    }
  }

  /** Asks for work anew with what it offers now. */
  offersChanged(): void {
    this.#offering.abort();
    this.#offering = new AbortController();
  }

  #profile(): WorkerProfile {
    const { workerId, arch, labels, offers, sessions, mayRun } = this.#options;
    const environments = offers.served().filter(({ name }) => mayRun(name));
    return { workerId, arch, labels, environments, sessions: sessions.ids(), takesSessions: sessions.hasRoom };
  }

  /** Takes a slot for a run, and for those that are taken in the commits that end them. */
  #occupy(first: ClaimedRun): void {
    const { source, clock, onError } = this.#options;
    const occupied = (async () => {
      for (let run: ClaimedRun | undefined = first; run; ) {
        const served: ClaimedRun = run;
        run = await this.#serve(served).catch((error: unknown) => {
          onError(error, "A run was not brought to its end; its lease ends it");
          source.abandon(served);
          return undefined;
        });
      }
    })().finally(() => {
      this.#slots.delete(occupied);
      this.#busyAt = clock.now();
      this.#slotFreed?.();
    });
    this.#slots.add(occupied);
  }

  /** Runs it and writes down what came of it. Answers the run that comes next in this slot. */
  async #serve(run: ClaimedRun): Promise<ClaimedRun | undefined> {
    const { source, offers, mayRun } = this.#options;
    const { environment, record } = run;
    if (this.#stopping.signal.aborted || !mayRun(environment.name)) return await this.#giveBack(run);
    const driver = await offers.driverOf(environment);
    if (!driver) return await this.#giveBack(run, "sandbox");
    let finished: Finished;
    try {
      finished = await this.#run(run, driver);
    } catch (error) {
      this.#options.onError(error, "A sandbox could not be started");
      offers.doubt(driver.name);
      this.#wakeScout(); // others may wait already, and nothing that is written will say so
      const reason = error instanceof SwarmError ? error.message : undefined;
      return await this.#giveBack(run, record.sessionId === undefined ? "sandbox" : "session_lost", reason);
    }
    const stopped = this.#stopping.signal.aborted;
    if (stopped && finished.ending.kind === "killed" && !run.signal.aborted) return await this.#giveBack(run);
    const ended = await this.#insist(() => source.finish(run, finished, stopped ? undefined : this.#profile()));
    return ended?.next;
  }

  async #run(run: ClaimedRun, driver: Driver): Promise<Finished> {
    const { source, sessions, clock, onError } = this.#options;
    const { environment, record } = run;
    const task = sandboxTask(run);
    const flow = new OutputFlow({
      clock,
      bytesMax: task.limits.outputBytes,
      write: (chunks) => source.output(run, chunks),
      onError: (error) => onError(error, "Output was not written while it came; it comes with the result"),
    });
    const hooks = {
      signal: AbortSignal.any([run.signal, this.#stopping.signal]),
      onOutput: flow.push.bind(flow),
    };
    let outcome: SandboxOutcome;
    try {
      if (record.sessionId === undefined) outcome = await driver.run(task, hooks);
      else outcome = await sessions.run(record.sessionId, () => openSession(driver, task), task, hooks);
    } catch (error) {
      await flow.end();
      throw error;
    }
    return { ...outcome, ...(await flow.end()) };

    async function openSession(on: Driver, { runId, runtime, limits, env, network, mounts, packages, options }: SandboxTask) {
      // a later task of a session looks for what earlier ones made: a fresh sandbox would have none of it
      if (record.boundTo !== undefined) throw new SwarmError("unavailable", "The sandbox of this session is gone.");
      if (on.openSession) return await on.openSession({ runId, runtime, limits, env, network, mounts, packages, options });
      throw new SwarmError("unavailable", `Environment ${environment.name} keeps no sessions here.`);
    }
  }

  async #giveBack(run: ClaimedRun, failure?: "sandbox" | "session_lost", reason?: string): Promise<undefined> {
    await this.#insist(() => this.#options.source.giveBack(run, failure, reason));
  }

  /** Writes until the store takes it. A worker that stops tries no more: the lease gives back what could not be written. */
  async #insist<T>(write: () => Promise<T>): Promise<T | undefined> {
    for (let pauseMs = RETRY_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, RETRY_MS_MAX)) {
      try {
        return await write();
      } catch (error) {
        if (!(error instanceof SwarmError && error.retryable)) throw error;
        this.#options.onError(error, "What became of a run was not written down; it is tried again");
      }
      if (this.#stopping.signal.aborted) return undefined;
      await this.#pause(pauseMs);
    }
  }

  #pause(ms: number): Promise<void> {
    return pause(this.#options.clock, ms, this.#stopping.signal);
  }
}

/** The run as a driver takes it: its own run time within the environment's limits. */
export function sandboxTask({ record, input, environment, contents }: ClaimedRun): SandboxTask {
  const { runtime, limits, network, mounts, packages, env, options } = environment;
  return {
    runId: `${record.id}-${record.attempt}`,
    runtime,
    code: input.code,
    args: input.args,
    stdin: Buffer.from(input.stdin),
    files: input.files.map(({ path }, at) => ({ path, bytes: contents[at] ?? new Uint8Array() })),
    env,
    limits: { ...limits, wallMs: Math.min(limits.wallMs, record.runMs) },
    network,
    mounts,
    packages,
    options,
  };
}
