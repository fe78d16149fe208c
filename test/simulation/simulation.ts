/** A run: faults while hosts work, then calm, in which everything that can be done must get done; and again. */

import { LeaseKeeper } from "@mcp-swarm/coordination";
import { hasEnded, type StoredTask } from "@mcp-swarm/coordination/tasks";
import { plainCall } from "@mcp-swarm/identity";
import { taskCoordination } from "../../servers/task-coordination/src/task-coordination.ts";
import { problemsOf } from "../../servers/task-coordination/test/support/invariants.ts";
import { checkLinearizable } from "../support/linearizability.ts";
import { claimsModel } from "./claims-model.ts";
import { LEASE_MS, SimulatedHost, type Stage } from "./hosts.ts";
import { Observer } from "./observer.ts";
import { must, Violation } from "./violation.ts";
import { FAULTS, NO_FAULTS, Process, type Sabotage, World } from "./world.ts";

const HOSTS = ["ada", "bob", "cyd", "eve-remote"];
/** Steps with faults before each calm. */
const STORM_STEPS = 4_000;
/** Steps within which a calm swarm has done all there is. */
const CALM_STEPS_MAX = 20_000;
/** Steps between two looks at everything. */
const CHECK_EVERY = 1_000;
const DOWN_MS_MAX = 8_000;
const PAUSE_MS_MAX = LEASE_MS * 3;
const JUMP_MS_MAX = LEASE_MS * 3;

export interface Summary {
  readonly steps: number;
  readonly storms: number;
  readonly commits: number;
  readonly claimed: number;
  readonly done: number;
  readonly expired: number;
  readonly takenOver: number;
  readonly failed: number;
  readonly kills: number;
}

/** @throws Violation, which tells how to replay the run */
export async function simulate(options: { seed: number; steps: number; sabotage?: Sabotage }): Promise<Summary> {
  const run = new Run(options.seed, options.sabotage);
  try {
    return await run.go(options.steps);
  } catch (error) {
    const message = error instanceof Error ? error.message : "unknown";
    throw new Violation(
      `${message}\nstep ${run.world.steps}; SWARM_SIMULATION_SEED=${options.seed} SWARM_SIMULATION_STEPS=${options.steps} replays it.\n${run.world.trace()}`,
      error,
    );
  }
}

class Run {
  readonly world: World;
  readonly #stage: Stage;
  readonly #observer = new Observer();
  readonly #hosts: SimulatedHost[];
  #incarnations = 0;
  #kills = 0;
  #storms = 0;

  constructor(seed: number, sabotage: Sabotage | undefined) {
    this.world = new World({ seed, observe: (commit) => this.#observer.observe(commit), sabotage });
    this.#stage = { world: this.world, observer: this.#observer, history: new Map(), mode: "storm", keys: 0 };
    this.#hosts = HOSTS.map((name) => new SimulatedHost(this.#stage, name, ++this.#incarnations));
  }

  async go(steps: number): Promise<Summary> {
    while (this.world.steps < steps) {
      this.world.faults = FAULTS;
      for (let step = 0; step < STORM_STEPS; step++) {
        this.#breakSomething();
        await this.#step();
      }
      await this.#calm();
      await this.#clear();
    }
    return { steps: this.world.steps, storms: this.#storms, kills: this.#kills, ...this.#observer.counts };
  }

  async #step(): Promise<void> {
    const { world } = this;
    for (const [at, host] of this.#hosts.entries()) {
      if (host.restartAt === undefined || host.restartAt > world.now) continue;
      this.#hosts[at] = new SimulatedHost(this.#stage, HOSTS[at] ?? "", ++this.#incarnations);
    }
    await world.step();
    if (world.steps % CHECK_EVERY === 0) await this.#checkAll();
  }

  #breakSomething(): void {
    const { world } = this;
    const host = this.#hosts[world.random.integer(this.#hosts.length)];
    if (!host?.process.alive) return;
    if (world.chance(world.faults.kill)) {
      this.#kills++;
      world.kill(host.process);
      for (const agent of host.agents) agent.died();
      host.restartAt = world.now + world.random.integer(DOWN_MS_MAX);
    } else if (world.chance(world.faults.pause)) {
      world.pause(host.process, world.random.integer(PAUSE_MS_MAX));
    } else if (world.chance(world.faults.jump)) {
      world.jump(world.random.integer(JUMP_MS_MAX));
    }
  }

  /** A dead or slow agent never blocks a live one: once nothing breaks, all that can be done is done. */
  async #calm(): Promise<void> {
    const { world } = this;
    world.faults = NO_FAULTS;
    this.#stage.mode = "drain";
    for (const host of this.#hosts) {
      if (host.process.alive) host.process.pausedUntil = 0;
      else host.restartAt = world.now;
    }
    const until = world.steps + CALM_STEPS_MAX;
    for (let left = this.#doable(); left.length > 0; left = this.#doable()) {
      const named = left.slice(0, 5).map(({ id, status }) => `${id} (${status})`);
      must(world.steps < until, `nobody does ${named.join(", ")} though nothing is in the way`);
      await this.#step();
    }
    this.#stage.mode = "rest";
    while (this.#hosts.some(({ agents }) => agents.some((agent) => agent.busy))) {
      must(world.steps < until, "an agent waits for an answer that does not come");
      await this.#step();
    }
    await this.#checkAll();
    this.#checkHistories();
  }

  /** Open tasks that do not wait for one that failed or was cancelled. */
  #doable(): StoredTask[] {
    const { tasks } = this.#observer;
    const stuck = new Map<string, boolean>();
    const isStuck = (id: string): boolean => {
      const known = stuck.get(id);
      if (known !== undefined) return known;
      const task = tasks.get(id);
      const answer =
        task !== undefined &&
        (task.status === "failed" || task.status === "cancelled" || (!hasEnded(task) && task.open.some(isStuck)));
      stuck.set(id, answer);
      return answer;
    };
    return [...tasks.values()].filter((task) => !hasEnded(task) && !isStuck(task.id));
  }

  async #checkAll(): Promise<void> {
    const { tasks, problems } = await problemsOf(this.world.store, { swept: this.#storms > 0 });
    must(problems.length === 0, `the store is not of one piece: ${problems.join(" ")}`);
    must(tasks.length === this.#observer.tasks.size, "the store has not the tasks that were committed");
    for (const task of tasks) {
      const seen = this.#observer.tasks.get(task.id);
      must(JSON.stringify(seen) === JSON.stringify(task), `task ${task.id} is not as it was committed`);
    }
    for (const id of this.#observer.acknowledged.keys()) {
      must(this.#observer.tasks.get(id)?.status === "done", `the acknowledged completion of ${id} is lost`);
    }
  }

  #checkHistories(): void {
    for (const [taskId, operations] of this.#stage.history) {
      const verdict = checkLinearizable(operations, claimsModel);
      must(verdict.linearizable, `the history of task ${taskId} is not linearizable: ${JSON.stringify(verdict)}`);
    }
  }

  /** The stage is emptied for the next storm, through the same operations. */
  async #clear(): Promise<void> {
    const process = new Process("janitor", 0);
    const store = this.world.storeOf({ name: "janitor", process }, { immediate: true });
    const clock = this.world.clockOf(process);
    const keeper = new LeaseKeeper({ store, clock, leaseMs: LEASE_MS, onError: (error) => this.world.fail(error) });
    const { tasks } = taskCoordination({ store, clock, random: this.world.random, keeper });
    const call = plainCall(store, { agentId: "janitor", verified: false, processId: undefined });
    for (const task of [...this.#observer.tasks.values()]) {
      if (!hasEnded(task)) await tasks.cancel(call, { taskId: task.id });
    }
    this.world.jump(1);
    this.#storms++;
    for (let after: string | undefined, more = true; more; more = after !== undefined) {
      after = (await tasks.sweepEnded(store, { olderThanMs: 0, limit: 100, after })).after;
    }
    must(this.#observer.tasks.size === 0, "a sweep removes all that ended and that nobody depends on");
    await this.#checkAll();
    this.#stage.mode = "storm";
    this.#stage.history.clear();
    this.#observer.claims.length = 0;
  }
}
