/** Random programs over locks: several processes take, wait, cancel, renew, release, sleep and die, and a referee watches. */
import { SwarmError } from "@mcp-swarm/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkLinearizable, type Operation, type SequentialModel } from "../../../test/support/linearizability.ts";
import { checkFence } from "../src/fence.ts";
import { BUSY_LOCKS_PREFIX, lockKey } from "../src/lock-layer.ts";
import { isIdle, type LockMode, type LockRecord } from "../src/lock-record.ts";
import { PLACE_MS_MAX } from "../src/locks.ts";
import { LEASE_MS, type Machine, machine, type Process } from "./support/processes.ts";

const PROCESSES = 4;
const LOCKS = ["one", "two"] as const;
const STEPS_MAX = 40;
const RUNS = Number(process.env.SWARM_RUNS ?? 150);
/** Longer than any wait and, after it, any ttl of these programs. */
const ALL_OVER_MS = 115_000;
/** The gap that a waiting call may keep between two looks, and what the last in line lets pass. */
const LOOK_MS = 40;

type Step =
  | { do: "acquire"; who: number; lock: (typeof LOCKS)[number]; mode: LockMode; waitMs: number; ttlMs: number }
  | { do: "release" | "renew" | "cancel"; who: number; lock: (typeof LOCKS)[number] }
  | { do: "kill" | "stop" | "continue" | "close"; who: number }
  | { do: "pass"; ms: number };

const who = fc.nat(PROCESSES - 1);
const lock = fc.constantFrom(...LOCKS);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("acquire" as const),
      who,
      lock,
      mode: fc.constantFrom<LockMode>("exclusive", "exclusive", "shared"),
      waitMs: fc.constantFrom(0, 1_000, 20_000, 50_000),
      ttlMs: fc.constantFrom(5_000, 20_000, 60_000),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("release" as const), who, lock }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("renew" as const, "cancel" as const), who, lock }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("kill" as const, "stop" as const, "close" as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("continue" as const), who }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(30, 900, 4_000, 16_000) }) },
);

interface Request {
  readonly order: number;
  readonly process: Process;
  readonly lock: string;
  readonly mode: LockMode;
  /** That it stood in line when the referee last looked: from then on nobody may overtake it. */
  stood: boolean;
  /** Its process was stopped while it waited. */
  mayLosePlace: boolean;
  state: "waits" | "over";
  /** When it stops waiting. */
  readonly until: number;
  abort: AbortController;
}

interface Given {
  readonly process: Process;
  readonly lock: string;
  readonly mode: LockMode;
  readonly token: number;
  /** When it ends at the latest; a renewal moves it. */
  endsAt: number;
  /** Given back, or the process was stopped or killed while it had it: then it may be over at any time. */
  mayBeOver: boolean;
  overAt?: number;
}

class Referee {
  readonly machine: Machine = machine();
  readonly processes: Process[] = [];
  readonly requests: Request[] = [];
  readonly given: Given[] = [];
  readonly greatest = new Map<string, number>();
  readonly wrong: string[] = [];
  grants = 0;
  waited = 0;
  #started = 0;
  /** Releases under way, and tokens given back. */
  readonly #releasing: string[] = [];
  readonly #released = new Set<string>();

  constructor() {
    for (let number = 0; number < PROCESSES; number++) this.#start(number);
  }

  /** Each with a name of its own, so that what a dead one left is told from what its successor has. */
  #start(number: number): void {
    this.processes[number] = this.machine.process(`agent-${this.#started++}`);
  }

  async run(step: Step): Promise<void> {
    if (step.do === "pass") return this.#settle(step.ms);
    const process = this.processes[step.who] as Process;
    if (process.state() === "dead") {
      this.#start(step.who);
      return this.#settle(0);
    }
    if (step.do === "kill" || step.do === "stop" || step.do === "close") {
      for (const given of this.given) if (given.process === process) given.mayBeOver = true;
      for (const request of this.requests) request.mayLosePlace ||= request.process === process;
      if (step.do === "close") {
        if (process.state() === "stopped") process.continue();
        await process.close();
        for (const given of this.given) if (given.process === process) given.overAt ??= this.machine.clock.now();
      } else if (step.do === "kill") process.kill();
      else process.stop();
    } else if (step.do === "continue") process.continue();
    else if (step.do === "acquire") this.#acquire(process, step);
    else if (step.do === "cancel") {
      for (const request of this.requests) {
        if (request.process === process && request.lock === step.lock && request.state === "waits")
          request.abort.abort(new Error("cancelled"));
      }
    } else if (step.do === "release") void this.#release(process, step.lock);
    else if (step.do === "renew") {
      void process.locks.renew(process.call, { name: step.lock, ttlMs: 40_000 }).then(
        ({ lock: { fencingToken, endsAt } }) => {
          const given = this.given.find((one) => one.lock === step.lock && one.token === fencingToken);
          if (given) given.endsAt = endsAt;
        },
        (error: unknown) => this.#refused(error, ["failed_precondition"]),
      );
    }
    await this.#settle(0);
  }

  #acquire(process: Process, { lock, mode, waitMs, ttlMs }: Extract<Step, { do: "acquire" }>): void {
    const request: Request = {
      order: this.requests.length,
      process,
      lock,
      mode,
      stood: false,
      mayLosePlace: process.state() === "stopped",
      state: "waits",
      until: this.machine.clock.now() + waitMs,
      abort: new AbortController(),
    };
    this.requests.push(request);
    process.locks.acquire(process.call, { name: lock, mode, ttlMs }, { waitMs, signal: request.abort.signal }).then(
      ({ lock: held, alreadyHeld }) => {
        request.state = "over";
        if (!alreadyHeld) this.#granted(request, held);
      },
      (error: unknown) => {
        request.state = "over";
        if (!request.abort.signal.aborted) this.#refused(error, ["conflict", "failed_precondition"]);
      },
    );
  }

  async #release(process: Process, lock: string): Promise<void> {
    for (const given of this.given) if (given.process === process && given.lock === lock) given.mayBeOver = true;
    this.#releasing.push(`${process.agentId} ${lock}`);
    await process.locks.release(process.call, { name: lock }).then(
      ({ lock: { fencingToken } }) => {
        this.#released.add(`${lock} ${fencingToken}`);
        const given = this.given.find((one) => one.lock === lock && one.token === fencingToken);
        if (given) given.overAt ??= this.machine.clock.now();
      },
      (error: unknown) => this.#refused(error, ["failed_precondition"]),
    );
    this.#releasing.splice(this.#releasing.indexOf(`${process.agentId} ${lock}`), 1);
  }

  #refused(error: unknown, codes: readonly string[]): void {
    if (error instanceof SwarmError && (codes.includes(error.code) || error.message.includes("shutting down"))) return;
    this.wrong.push(`an answer that nobody expected: ${String(error)}`);
  }

  #granted(request: Request, held: { fencingToken: number; endsAt: number; mode: LockMode }): void {
    const { lock, process, mode } = request;
    const now = this.machine.clock.now();
    const shares = (one: Given) => one.mode === "shared" && one.overAt === undefined && one.endsAt > now;
    const upgraded = this.given.find((one) => one.process === process && one.lock === lock && shares(one));
    const before = this.greatest.get(lock) ?? 0;
    if (held.fencingToken <= before) this.wrong.push(`token ${held.fencingToken} of ${lock} came after ${before}`);
    this.greatest.set(lock, Math.max(before, held.fencingToken));
    this.grants += 1;
    if (request.stood) this.waited += 1;
    const upgrade = mode === "exclusive" && upgraded !== undefined;
    for (const other of this.requests) {
      if (upgrade || other.lock !== lock || other.order >= request.order || other.state !== "waits" || !other.stood) continue;
      if (other.mayLosePlace || other.abort.signal.aborted || other.until <= this.machine.clock.now()) continue;
      if (mode === "exclusive" || other.mode === "exclusive") {
        this.wrong.push(`${process.agentId} got ${lock} before ${other.process.agentId}, who came earlier`);
      }
    }
    if (upgraded && upgrade) upgraded.overAt = this.machine.clock.now();
    // a release may have been asked for while this was under way, and even be answered already
    const mayBeOver = this.#releasing.includes(`${process.agentId} ${lock}`);
    const over = this.#released.has(`${lock} ${held.fencingToken}`) ? { overAt: this.machine.clock.now() } : {};
    this.given.push({ process, lock, mode, token: held.fencingToken, endsAt: held.endsAt, mayBeOver, ...over });
  }

  async #settle(ms: number): Promise<void> {
    await this.machine.pass(ms + LOOK_MS);
    const now = this.machine.clock.now();
    for (const lock of LOCKS) await this.#look(lock, now);
    for (const given of this.given) await this.#checkFence(given, now);
  }

  async #look(name: string, now: number): Promise<void> {
    const stored = (await this.machine.store.get(lockKey(name)))?.value as LockRecord | undefined;
    if (!stored) return;
    const listed = (await this.machine.store.get(`${BUSY_LOCKS_PREFIX}${name}`)) !== undefined;
    if (listed === isIdle(stored)) this.wrong.push(`the list of busy locks is wrong about ${name}`);
    const holders = stored.holders.filter(({ leaseExpiresAt }) => leaseExpiresAt > now);
    const waiters = stored.waiters.filter(({ until }) => until > now);
    if (holders.length > 1 && holders.some(({ mode }) => mode === "exclusive")) {
      this.wrong.push(`${name} is held exclusive and by ${holders.length}`);
    }
    if (stored.token < (this.greatest.get(name) ?? 0)) this.wrong.push(`the token of ${name} went back`);
    for (const request of this.requests) {
      request.stood ||= request.lock === name && waiters.some((waiter) => waiter.agentId === request.process.agentId);
    }
    // a living holder that gave nothing back still has it
    for (const given of this.given) {
      if (given.lock !== name || given.mayBeOver || given.overAt !== undefined || given.endsAt <= now) continue;
      if (!holders.some(({ token }) => token === given.token))
        this.wrong.push(`${given.process.agentId} lost ${name} while it lived`);
    }
    // what is free is not waited for by the living
    const first = waiters[0];
    if (first === undefined) return;
    const living = this.requests.some(
      ({ process, lock, state }) =>
        lock === name && state === "waits" && process.agentId === first.agentId && process.state() === "runs",
    );
    const free = holders.length === 0 || (first.mode === "shared" && holders.every(({ mode }) => mode === "shared"));
    if (living && free) this.wrong.push(`${name} is free and ${first.agentId} waits for it`);
  }

  /** A write with the token lands exactly while the holding lasts. */
  async #checkFence(given: Given, now: number): Promise<void> {
    const { lock, token, process } = given;
    const landed = await this.machine.store
      .transact((tx) => checkFence(tx, { lock, fencingToken: token }, process.agentId))
      .then(
        () => true,
        () => false,
      );
    const mustNot = given.overAt !== undefined || given.endsAt <= now || this.#replaced(given);
    if (landed && mustNot) this.wrong.push(`a write of ${process.agentId} with token ${token} of ${lock} landed, which is over`);
    const must = !given.mayBeOver && !mustNot;
    if (!landed && must) this.wrong.push(`a write of ${process.agentId} with token ${token} of ${lock} was refused`);
  }

  /** A later holding that could not stand beside it began. */
  #replaced(given: Given): boolean {
    return this.given.some(
      (other) =>
        other.lock === given.lock && other.token > given.token && (other.mode === "exclusive" || given.mode === "exclusive"),
    );
  }

  /** In the end everything is over by itself, and every lock can be had at once. */
  async end(): Promise<void> {
    for (const process of this.processes) if (process.state() === "stopped") process.continue();
    await this.#settle(ALL_OVER_MS);
    const stuck = this.requests.filter(({ process, state }) => state === "waits" && process.state() !== "dead");
    if (stuck.length > 0) this.wrong.push(`${stuck.length} calls never ended`);
    const last = this.machine.process("last");
    for (const name of LOCKS) {
      const { lock } = await last.locks.acquire(last.call, { name });
      if (lock.fencingToken <= (this.greatest.get(name) ?? 0)) this.wrong.push(`the token of ${name} did not rise in the end`);
    }
    expect(this.machine.clock.now()).toBeGreaterThan(LEASE_MS + PLACE_MS_MAX);
  }
}

test("whatever processes do and suffer, a lock has one exclusive holder or sharing ones, is granted in order, and never stays stuck", async () => {
  verifies("STATE-08", "STATE-09");
  let grants = 0;
  let waited = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: STEPS_MAX, size: "max" }), async (steps) => {
      const referee = new Referee();
      for (const one of steps) await referee.run(one);
      await referee.end();
      expect(referee.wrong).toEqual([]);
      grants += referee.grants;
      waited += referee.waited;
    }),
    { numRuns: RUNS },
  );
  expect(grants).toBeGreaterThan(RUNS); // else the programs prove little
  expect(waited).toBeGreaterThan(RUNS / 5);
}, 600_000);

describe("histories", () => {
  type In = { readonly do: "acquire" | "release"; readonly by: string; readonly mode: LockMode };
  type Out = { readonly ok: boolean; readonly token?: number };
  type State = { readonly holders: readonly { by: string; mode: LockMode; token: number }[]; readonly token: number };

  /** A lock without time: nobody dies, no lease ends, and nobody waits. */
  const model: SequentialModel<State, In, Out> = {
    initial: { holders: [], token: 0 },
    step({ holders, token }, { input: { do: what, by, mode }, output }) {
      const own = holders.find((holder) => holder.by === by);
      const others = holders.filter((holder) => holder.by !== by);
      if (what === "release") {
        if (output && output.ok !== (own !== undefined)) return [];
        return [{ holders: others, token }];
      }
      const free = mode === "exclusive" ? holders.length === 0 : holders.every((holder) => holder.mode === "shared");
      if (output && output.ok !== free) return [];
      if (!free) return [{ holders, token }];
      if (output && output.token !== token + 1) return [];
      return [{ holders: [...holders, { by, mode, token: token + 1 }], token: token + 1 }];
    },
    key: ({ holders, token }) => `${token} ${holders.map(({ by, mode }) => `${by} ${mode}`).sort()}`,
  };

  test("of processes that take and give back one lock at once are linearizable, tokens included", async () => {
    verifies("STATE-08", "STATE-11");
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            who: fc.nat(5),
            mode: fc.constantFrom<LockMode>("exclusive", "shared"),
            turns: fc.nat(3),
            together: fc.nat(3),
          }),
          { minLength: 10, maxLength: 60 },
        ),
        async (program) => {
          const { process } = machine();
          const agents = Array.from({ length: 6 }, (_, number) => process(`agent-${number}`));
          const history: Operation<In, Out>[] = [];
          const holds = new Set<string>();
          let moment = 0;
          const once = async (agent: Process, mode: LockMode) => {
            const input: In = { do: holds.has(agent.agentId) ? "release" : "acquire", by: agent.agentId, mode };
            const invoked = moment++;
            let output: Out;
            try {
              if (input.do === "release") {
                await agent.locks.release(agent.call, { name: "one" });
                output = { ok: true };
              } else {
                const { lock } = await agent.locks.acquire(agent.call, { name: "one", mode });
                output = { ok: true, token: lock.fencingToken };
              }
            } catch (error) {
              expect(error).toMatchObject({ code: "conflict" });
              output = { ok: false };
            }
            if (output.ok) holds[input.do === "release" ? "delete" : "add"](agent.agentId);
            history.push({ by: agent.agentId, invoked, returned: moment++, input, output });
          };
          const underWay = new Map<number, Promise<void>>();
          for (const { who, mode, turns, together } of program) {
            await underWay.get(who);
            underWay.set(who, once(agents[who] as Process, mode));
            for (let turn = 0; turn < turns; turn++) await new Promise<void>((done) => setImmediate(done));
            if (together === 0) await Promise.all(underWay.values());
          }
          await Promise.all(underWay.values());
          expect(checkLinearizable(history, model)).toEqual({ linearizable: true });
        },
      ),
      { numRuns: RUNS },
    );
  });
});
