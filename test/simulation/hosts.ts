/** Hosts that work: each a process with a subagent, which does by chance what agents do, and remembers what it was told. */

import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import { hasEnded, isHeld } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, onceCall, type plainCall } from "@mcp-swarm/identity";
import { type TaskCoordination, taskCoordination } from "../../servers/task-coordination/src/task-coordination.ts";
import type { ClaimInput, ClaimOperation } from "./claims-model.ts";
import type { Observer } from "./observer.ts";
import { must, Violation } from "./violation.ts";
import { type Actor, Process, type World } from "./world.ts";

export const LEASE_MS = 2_000;
const REMOTE_LEASE_MS = 4_000;
const SLOTS = 3;
/** Open tasks beyond which nobody adds more. */
const OPEN_TASKS_MAX = 24;
const RETRIES_MAX = 4;
const REST_MS_MAX = 120;
const SKEW_MS_MAX = 600_000;

/** What an agent may be told without anything being wrong. */
const EXPECTED = new Set(["conflict", "failed_precondition", "not_found", "limit_exceeded", "unavailable"]);

/** What all hosts share: the outside view. */
export interface Stage {
  readonly world: World;
  readonly observer: Observer;
  /** Task → what was asked of it, and what was answered. */
  readonly history: Map<string, ClaimOperation[]>;
  /** storm: anything goes. drain: nobody adds anything, what is there gets done. rest: nobody begins anything. */
  mode: "storm" | "drain" | "rest";
  keys: number;
}

interface Asked {
  readonly calledAt: number;
  readonly finish?: { readonly taskId: string; readonly token: number };
}

export class SimulatedHost {
  readonly process: Process;
  readonly agents: SimulatedAgent[];
  readonly coordination: TaskCoordination;
  /** When a dead one comes back, by the world's time. */
  restartAt: number | undefined;

  constructor(stage: Stage, name: string, incarnation: number) {
    const { world } = stage;
    this.process = new Process(`${name}#${incarnation}`, world.random.integer(SKEW_MS_MAX));
    const actor: Actor = { name: this.process.name, process: this.process };
    const store = world.storeOf(actor);
    const clock = world.clockOf(this.process);
    const onError = (error: unknown) => {
      if (!(error instanceof SwarmError && error.code === "unavailable")) world.fail(error);
    };
    const keeper = new LeaseKeeper({ store, clock, leaseMs: LEASE_MS, onError });
    this.coordination = taskCoordination({
      store,
      clock,
      random: world.random,
      keeper,
      leaseMs: LEASE_MS,
      remoteLeaseMs: REMOTE_LEASE_MS,
      workerSlots: SLOTS,
    });
    const maintenance = new Maintenance({ clock, random: world.random, onError });
    for (const job of this.coordination.jobs) maintenance.add(job);
    maintenance.start();
    // the last host stands for a caller over HTTP: nothing renews for it
    const processId = name.endsWith("remote") ? undefined : this.process.name;
    this.agents = [name, `${name}/sub`].map(
      (agentId) => new SimulatedAgent(stage, this.process, this.coordination, { agentId, verified: false, processId }),
    );
    for (const agent of this.agents) agent.start();
  }
}

export class SimulatedAgent {
  readonly actor: Actor;
  readonly #stage: Stage;
  readonly #swarm: TaskCoordination;
  readonly #base: Parameters<typeof onceCall>[0];
  readonly #held = new Map<string, number>();
  readonly #past: { taskId: string; token: number }[] = [];
  #slot: number | undefined;
  #asked: Asked | undefined;

  constructor(stage: Stage, process: Process, swarm: TaskCoordination, caller: Parameters<typeof plainCall>[1]) {
    this.#stage = stage;
    this.#swarm = swarm;
    this.actor = { name: `${caller.agentId}@${process.name}`, process };
    this.#base = { store: stage.world.storeOf(this.actor), caller };
  }

  start(): void {
    this.#live().catch((error: unknown) => this.#stage.world.fail(error));
  }

  /** Whether it waits for an answer. */
  get busy(): boolean {
    return this.#asked !== undefined;
  }

  /** Its process died: what it asked for last may have happened, or not. */
  died(): void {
    if (this.#asked) this.#unanswered(this.#asked);
  }

  async #live(): Promise<never> {
    const { world } = this.#stage;
    const clock = world.clockOf(this.actor.process);
    for (;;) {
      await new Promise<void>((rested) => clock.timer(world.random.integer(REST_MS_MAX), rested));
      try {
        await this.#choose()();
      } catch (error) {
        if (!(error instanceof SwarmError) || !EXPECTED.has(error.code)) {
          throw new Violation(`${this.actor.name}: ${error instanceof Error ? error.message : "?"}`, error);
        }
      }
    }
  }

  #choose(): () => Promise<void> {
    const { mode } = this.#stage;
    if (mode === "rest") return async () => {};
    const roll = this.#stage.world.random.integer(100);
    const [taskId, token] = this.#any([...this.#held]) ?? [];
    if (taskId !== undefined && token !== undefined) {
      if (mode === "drain" || roll < 45) return () => this.#finish(taskId, token);
      if (roll < 52) return () => this.#update(taskId, token, "failed");
      if (roll < 58) return () => this.#update(taskId, token, "available");
      if (roll < 68) return () => this.#update(taskId, token, "working");
      if (roll < 74) return () => this.#renew(taskId, token);
    }
    if (mode === "drain" || roll < 82) return () => this.#claimNext();
    if (roll < 86) return () => this.#claimAny();
    if (roll < 92) return () => this.#add();
    if (roll < 93) return () => this.#cancel();
    if (roll < 94) return () => this.#reset();
    if (roll < 96) return () => this.#intrude();
    if (roll < 98) return () => this.#takeSlot();
    return () => this.#read();
  }

  #any<T>(from: readonly T[]): T | undefined {
    return from[this.#stage.world.random.integer(Math.max(1, from.length))];
  }

  /** One operation, tried again under its idempotency key while the engine does not answer. */
  async #ask<T>(work: (call: Call) => Promise<T>, finish?: Asked["finish"]): Promise<{ answer: T; calledAt: number }> {
    const { world } = this.#stage;
    const key = `key-${++this.#stage.keys}`;
    const call = onceCall(this.#base, { key, fingerprint: key });
    const calledAt = world.steps;
    this.#asked = { calledAt, ...(finish === undefined ? {} : { finish }) };
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await work(call);
        this.#asked = undefined;
        return { answer, calledAt };
      } catch (error) {
        if (error instanceof SwarmError && error.code === "unavailable" && attempt < RETRIES_MAX) continue;
        if (error instanceof SwarmError && error.code === "unavailable")
          this.#unanswered({ calledAt, ...(finish && { finish }) });
        this.#asked = undefined;
        throw error;
      }
    }
  }

  #record(taskId: string, operation: Omit<ClaimOperation, "by">): void {
    const operations = this.#stage.history.get(taskId) ?? [];
    operations.push({ by: this.actor.name, ...operation });
    this.#stage.history.set(taskId, operations);
  }

  #unanswered({ calledAt, finish }: Asked): void {
    const { observer } = this.#stage;
    if (finish) {
      const input: ClaimInput = { kind: "finish", token: finish.token };
      this.#record(finish.taskId, { input, invoked: calledAt });
    }
    // claims of which nobody was told are known from outside alone
    for (const { taskId, token, by } of observer.claims) {
      if (by !== this.actor) continue;
      const told = this.#stage.history.get(taskId)?.some(({ output }) => output?.kind === "claimed" && output.token === token);
      const input: ClaimInput = { kind: "claim" };
      if (!told) this.#record(taskId, { input, output: { kind: "claimed", token }, invoked: calledAt });
    }
  }

  #claimed(taskId: string, token: number, calledAt: number): void {
    const { world } = this.#stage;
    this.#record(taskId, {
      input: { kind: "claim" },
      output: { kind: "claimed", token },
      invoked: calledAt,
      returned: world.steps,
    });
    this.#held.set(taskId, token);
    this.#past.push({ taskId, token });
    if (this.#past.length > 10) this.#past.shift();
    world.note(`${this.actor.name} claimed ${taskId} with ${token}`);
  }

  async #claimNext(): Promise<void> {
    const workerSlot = this.#slot;
    const { answer, calledAt } = await this.#ask((call) =>
      this.#swarm.claims.claimNext(call, { workerId: this.#base.caller.agentId, ...(workerSlot ? { workerSlot } : {}) }),
    ).catch((error: unknown) => {
      if (error instanceof SwarmError && error.code === "failed_precondition") this.#slot = undefined; // it was lost
      throw error;
    });
    if (answer) this.#claimed(answer.task.id, answer.fencingToken, calledAt);
  }

  async #claimAny(): Promise<void> {
    const task = this.#any([...this.#stage.observer.tasks.values()]);
    if (!task) return;
    const { answer, calledAt } = await this.#ask((call) => this.#swarm.claims.claimTask(call, { taskId: task.id }));
    this.#claimed(task.id, answer.fencingToken, calledAt);
  }

  async #update(taskId: string, token: number, status: "working" | "failed" | "available"): Promise<void> {
    const given = this.#stage.world.chance(5_000) ? { fencingToken: token } : {};
    await this.#speak(taskId, token, (call) =>
      this.#swarm.claims.update(call, { taskId, status, checkpoint: "so far", ...given }),
    );
    if (status !== "working") this.#held.delete(taskId);
  }

  async #finish(taskId: string, token: number): Promise<void> {
    const { world, observer } = this.#stage;
    const old = world.chance(500) ? this.#any(this.#past.filter((past) => past.taskId === taskId)) : undefined;
    const sent = old?.token ?? token;
    const given = old || world.chance(5_000) ? { fencingToken: sent } : {};
    const input: ClaimInput = { kind: "finish", token: sent };
    const calledAt = world.steps;
    try {
      await this.#speak(
        taskId,
        sent,
        (call) => this.#swarm.claims.update(call, { taskId, status: "done", output: sent, ...given }),
        {
          taskId,
          token: sent,
        },
      );
      this.#record(taskId, { input, output: { kind: "finished" }, invoked: calledAt, returned: world.steps });
      const task = observer.tasks.get(taskId);
      must(task?.status === "done", `${this.actor.name} was told that task ${taskId} is done, and it is ${task?.status}`);
      must(task.output === sent, `task ${taskId} is done with another's output`);
      this.#held.delete(taskId);
      observer.acknowledged.set(taskId, { by: this.actor.name, token: sent });
      world.note(`${this.actor.name} finished ${taskId} with ${sent}`);
    } catch (error) {
      if (error instanceof SwarmError && error.code === "failed_precondition") {
        this.#record(taskId, { input, output: { kind: "refused" }, invoked: calledAt, returned: world.steps });
      }
      throw error;
    }
  }

  async #renew(taskId: string, token: number): Promise<void> {
    await this.#ask((call) => this.#swarm.claims.renew(call, { taskId, fencingToken: token }));
  }

  /** An update: the observer is told which claim it stands on, and a refusal ends what the agent believes. */
  async #speak(taskId: string, token: number, work: (call: Call) => Promise<unknown>, finish?: Asked["finish"]): Promise<void> {
    const { observer } = this.#stage;
    observer.claimsOf.set(this.actor, { taskId, token });
    try {
      await this.#ask(work, finish);
    } catch (error) {
      const refused = error instanceof SwarmError && error.code === "failed_precondition";
      if (refused && this.#held.get(taskId) === token) this.#held.delete(taskId);
      throw error;
    } finally {
      observer.claimsOf.delete(this.actor);
    }
  }

  /** Writes to what another holds: never accepted. */
  async #intrude(): Promise<void> {
    const { observer } = this.#stage;
    const foreign = [...observer.tasks.values()].filter((task) => isHeld(task) && task.claim?.by !== this.#base.caller.agentId);
    const task = this.#any(foreign);
    if (task) await this.#speak(task.id, -1, (call) => this.#swarm.claims.update(call, { taskId: task.id, status: "done" }));
  }

  async #add(): Promise<void> {
    const { world, observer } = this.#stage;
    const open = [...observer.tasks.values()].filter((task) => !hasEnded(task));
    if (open.length >= OPEN_TASKS_MAX) return;
    const count = 1 + world.random.integer(4);
    const batch = Array.from({ length: count }, () => `t${++this.#stage.keys}`);
    const tasks = batch.map((id, at) => {
      const dependency = world.chance(3_000) ? this.#any(open)?.id : undefined;
      const sibling = at > 0 && world.chance(4_000) ? batch[world.random.integer(at)] : undefined;
      return {
        id,
        description: "work",
        type: world.chance(2_000) ? "rare" : "general",
        priority: world.random.integer(10),
        maxAttempts: 1 + world.random.integer(4),
        backoff: { initialMs: world.random.integer(300), factor: 2, maxMs: 2_000 },
        dependencies: [dependency, sibling].filter((one) => one !== undefined),
        ...(world.chance(1_000) ? { timeoutMs: 1 + world.random.integer(LEASE_MS * 3) } : {}),
        ...(world.chance(1_000) ? { notBeforeAt: world.now + world.random.integer(1_000) } : {}),
        ...(world.chance(1_500) ? { files: [`src/${world.random.integer(3)}/**`] } : {}),
      };
    });
    await this.#ask((call) => this.#swarm.tasks.addMany(call, { tasks }));
  }

  async #cancel(): Promise<void> {
    const task = this.#any([...this.#stage.observer.tasks.values()]);
    if (!task) return;
    const withDependents = this.#stage.world.chance(5_000);
    await this.#ask((call) => this.#swarm.tasks.cancel(call, { taskId: task.id, withDependents }));
  }

  async #reset(): Promise<void> {
    const task = this.#any(
      [...this.#stage.observer.tasks.values()].filter(({ status }) => status === "failed" || status === "claimed"),
    );
    if (task) await this.#ask((call) => this.#swarm.tasks.reset(call, { taskId: task.id }));
  }

  async #takeSlot(): Promise<void> {
    const workerId = this.#base.caller.agentId;
    if (this.#slot === undefined) {
      this.#slot = (await this.#ask((call) => this.#swarm.slots.claim(call, { workerId }))).answer.slot.slot;
      return;
    }
    const slot = this.#slot;
    this.#slot = undefined;
    await this.#ask((call) => this.#swarm.slots.release(call, { slot, workerId }));
  }

  async #read(): Promise<void> {
    const { store } = this.#base;
    const task = this.#any([...this.#stage.observer.tasks.values()]);
    const page = await this.#swarm.tasks.list({ store }, { limit: 20, ...(task ? { status: task.status } : {}) });
    must(
      page.tasks.every(({ status }) => status === task?.status || task === undefined),
      "a list by status has that status alone",
    );
    if (task) await this.#swarm.tasks.get({ store }, { taskId: task.id });
    await this.#swarm.slots.workers({ store });
  }
}
