/** Server processes over one store in memory, that can be killed, stopped and continued, with time that moves only when told. */
import { LeaseKeeper, type MaintenanceJob, type PathOptions } from "@mcp-swarm/coordination";
import { type Clock, type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { Leaders } from "../../src/leaders.ts";
import { Locks } from "../../src/locks.ts";
import { Reservations } from "../../src/reservations.ts";

export const LEASE_MS = 15_000;
/** Rounds of the event loop in which what was started comes to rest, as long as no time passes. */
const TURNS_TO_REST = 24;
/** How often a living process looks at its background jobs, ms. */
const JOBS_EVERY_MS = 1_000;

export interface Process {
  readonly agentId: string;
  readonly call: Call;
  readonly locks: Locks;
  readonly leaders: Leaders;
  readonly reservations: Reservations;
  readonly jobs: readonly MaintenanceJob[];
  state(): "runs" | "stopped" | "dead";
  /** SIGKILL: nothing of it happens any more. */
  kill(): void;
  /** SIGSTOP, and SIGCONT: what was due happens then. */
  stop(): void;
  continue(): void;
  /** The clean end. */
  close(): Promise<void>;
}

export interface Machine {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  /** @param remote a caller over HTTP: nothing renews for it */
  process(agentId: string, options?: { remote?: boolean; paths?: PathOptions }): Process;
  /** Lets time pass, and what comes of it come to rest. */
  pass(ms: number): Promise<void>;
}

export function machine(): Machine {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let started = 0;
  const rest = async () => {
    for (let turn = 0; turn < TURNS_TO_REST; turn++) await new Promise<void>((done) => setImmediate(done));
  };
  return {
    store,
    clock,
    process: (agentId, options = {}) => startProcess({ store, clock, agentId, number: ++started, ...options }),
    async pass(ms) {
      await clock.advance(ms);
      await rest();
    },
  };
}

interface Start {
  store: Store;
  clock: ManualClock;
  agentId: string;
  number: number;
  remote?: boolean;
  paths?: PathOptions;
}

function startProcess({ store: shared, clock: time, agentId, number, remote = false, paths = {} }: Start): Process {
  let state: "runs" | "stopped" | "dead" = "runs";
  const held: (() => void)[] = [];
  /** Now while it runs, later while it is stopped, never once it is dead. */
  const whenItRuns = (work: () => void) => {
    if (state === "runs") work();
    else if (state === "stopped") held.push(work);
  };
  const gate = () => new Promise<void>((resolve) => whenItRuns(resolve));
  const clock: Clock = { now: () => time.now(), timer: (delayMs, fire) => time.timer(delayMs, () => whenItRuns(fire)) };
  const store: Store = {
    engine: shared.engine,
    location: shared.location,
    transact: (plan, options) => gate().then(() => shared.transact(plan, options)),
    get: (key) => gate().then(() => shared.get(key)),
    getMany: (keys) => gate().then(() => shared.getMany(keys)),
    scan: (range) => gate().then(() => shared.scan(range)),
    search: (query) => gate().then(() => shared.search(query)),
    watch: (prefix, wake) => shared.watch(prefix, () => whenItRuns(wake)),
    now: () => gate().then(() => shared.now()),
    keyv: (namespace) => shared.keyv(namespace),
    snapshot: (read) => gate().then(() => shared.snapshot(read)),
    sweep: (limit) => gate().then(() => shared.sweep(limit)),
    close: () => shared.close(),
  };
  const errors: unknown[] = [];
  const keeper = new LeaseKeeper({ store, clock, leaseMs: LEASE_MS, onError: (error) => errors.push(error) });
  const locks = new Locks({ clock, keeper, leaseMs: LEASE_MS });
  const leaders = new Leaders({ clock, keeper, leaseMs: LEASE_MS });
  const random = seededRandom(number);
  const reservations = new Reservations({ clock, random, keeper, leaseMs: LEASE_MS, pathOptions: async () => paths });
  const jobs = [locks.tidyJob(store), leaders.job(store)];
  let closing = false;
  const work = async () => {
    for (const job of jobs) await job.run();
    if (!closing) clock.timer(JOBS_EVERY_MS, () => void work());
  };
  if (!remote) clock.timer(JOBS_EVERY_MS, () => void work());
  return {
    agentId,
    call: plainCall(store, { agentId, verified: false, processId: remote ? undefined : `process-${number}` }),
    locks,
    leaders,
    reservations,
    jobs,
    state: () => state,
    kill() {
      state = "dead";
      held.length = 0;
    },
    stop() {
      if (state === "runs") state = "stopped";
    },
    continue() {
      if (state !== "stopped") return;
      state = "runs";
      for (const work of held.splice(0)) whenItRuns(work);
    },
    async close() {
      closing = true;
      await keeper.releaseAll();
      state = "dead";
      if (errors.length > 0) throw errors[0];
    },
  };
}
