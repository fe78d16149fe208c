import type { TaskStatus } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";

const AGE_MS = 10 * 60_000;

export interface ModelTask {
  readonly id: string;
  readonly order: number;
  readonly priority: number;
  readonly deadlineAt: number;
  readonly dependencies: readonly string[];
  readonly maxAttempts: number;
  readonly backoffMs: number;
  readonly timeoutMs: number | undefined;
  readonly notBeforeAt: number;
  status: TaskStatus;
  attempt: number;
  token: number;
  holder: string | undefined;
  claimedAt: number;
  leaseMs: number;
  leaseEnd: number;
  readyAt: number;
  dueAt: number;
}

/** What tasks do, said as simply as can be: everything in one map, every question by looking at all of it. */
export class Model {
  readonly tasks = new Map<string, ModelTask>();
  readonly remoteLeaseMs: number;
  now: number;

  constructor(now: number, remoteLeaseMs: number) {
    this.now = now;
    this.remoteLeaseMs = remoteLeaseMs;
  }

  add(
    given: Pick<
      ModelTask,
      "id" | "priority" | "deadlineAt" | "dependencies" | "maxAttempts" | "backoffMs" | "timeoutMs" | "notBeforeAt"
    >,
  ): void {
    if (this.tasks.has(given.id)) refuse("already_exists");
    if (given.dependencies.some((id) => !this.tasks.has(id))) refuse("invalid_argument");
    const task: ModelTask = {
      ...given,
      order: this.tasks.size,
      status: "blocked",
      attempt: 0,
      token: 0,
      holder: undefined,
      claimedAt: 0,
      leaseMs: 0,
      leaseEnd: 0,
      readyAt: 0,
      dueAt: 0,
    };
    this.tasks.set(task.id, task);
    this.#place(task, task.notBeforeAt);
  }

  claim(agent: string, id: string): number {
    const task = this.#get(id);
    const before = { ...task };
    if (this.#held(task) && task.leaseEnd <= this.now) this.#expire(task);
    if (task.status === "delayed" && task.dueAt <= this.now) this.#place(task, 0);
    if (task.status === "available") return this.#claim(agent, task);
    const { status } = task;
    Object.assign(task, before); // what is refused changes nothing
    return refuse(status === "claimed" || status === "working" ? "conflict" : "failed_precondition");
  }

  claimNext(agent: string): { id: string; token: number } | undefined {
    for (const round of ["as it is", "with what is due"]) {
      if (round !== "as it is") this.freeDue();
      const [best] = [...this.tasks.values()]
        .filter(({ status }) => status === "available")
        .sort(
          (a, b) =>
            this.#level(a) - this.#level(b) || b.priority - a.priority || a.deadlineAt - b.deadlineAt || a.order - b.order,
        );
      if (best) return { id: best.id, token: this.#claim(agent, best) };
    }
    return undefined;
  }

  update(agent: string, id: string, token: number, status: "working" | "done" | "failed" | "available"): void {
    const task = this.#holderOf(agent, id, token);
    if (status === "working") task.status = "working";
    if (status === "failed") this.#fail(task);
    if (status === "available") {
      task.attempt--;
      this.#place(task, 0);
    }
    if (status !== "done") return;
    task.status = "done";
    for (const other of this.tasks.values()) {
      if (other.status === "blocked" && other.dependencies.includes(id)) this.#place(other, other.notBeforeAt);
    }
  }

  renew(agent: string, id: string, token: number): void {
    const task = this.#holderOf(agent, id, token);
    const end = Math.min(this.now + task.leaseMs, task.claimedAt + (task.timeoutMs ?? Number.POSITIVE_INFINITY));
    if (end <= this.now) refuse("failed_precondition");
    task.leaseEnd = Math.max(task.leaseEnd, end);
  }

  cancel(id: string, withDependents: boolean): void {
    const task = this.#get(id);
    if (task.status === "done" || task.status === "cancelled") refuse("failed_precondition");
    const dependents = withDependents ? this.#dependents(id) : [];
    task.status = "cancelled";
    for (const dependent of dependents) dependent.status = "cancelled";
  }

  reset(id: string): void {
    const task = this.#get(id);
    if (task.status !== "failed" && !this.#held(task)) refuse("failed_precondition");
    task.attempt = 0;
    this.#place(task, 0);
  }

  freeDue(): void {
    for (const task of this.tasks.values()) {
      if (this.#held(task) && task.leaseEnd <= this.now) this.#expire(task);
      else if (task.status === "delayed" && task.dueAt <= this.now) this.#place(task, 0);
    }
  }

  #get(id: string): ModelTask {
    return this.tasks.get(id) ?? refuse("not_found");
  }

  #held(task: ModelTask): boolean {
    return task.status === "claimed" || task.status === "working";
  }

  #holderOf(agent: string, id: string, token: number): ModelTask {
    const task = this.#get(id);
    return this.#held(task) && task.holder === agent && task.token === token ? task : refuse("failed_precondition");
  }

  #level(task: ModelTask): number {
    return Math.floor(task.readyAt / AGE_MS) - task.priority;
  }

  #claim(agent: string, task: ModelTask): number {
    const leaseMs = task.timeoutMs ?? this.remoteLeaseMs;
    Object.assign(task, { status: "claimed", holder: agent, claimedAt: this.now, leaseMs, leaseEnd: this.now + leaseMs });
    task.attempt++;
    task.token++;
    return task.token;
  }

  #place(task: ModelTask, dueAt: number, readyAt = this.now): void {
    task.holder = undefined;
    if (task.dependencies.some((id) => this.tasks.get(id)?.status !== "done")) task.status = "blocked";
    else if (dueAt > this.now) Object.assign(task, { status: "delayed", dueAt });
    else Object.assign(task, { status: "available", readyAt });
  }

  #fail(task: ModelTask): void {
    if (task.attempt >= task.maxAttempts) task.status = "failed";
    else this.#place(task, this.now + task.backoffMs * 2 ** (task.attempt - 1));
  }

  #expire(task: ModelTask): void {
    if (task.timeoutMs !== undefined && this.now >= task.claimedAt + task.timeoutMs) this.#fail(task);
    else if (task.attempt >= task.maxAttempts) task.status = "failed";
    else this.#place(task, 0, task.readyAt);
  }

  #dependents(id: string): ModelTask[] {
    const found = new Set<ModelTask>();
    const look = (on: string): void => {
      for (const task of this.tasks.values()) {
        if (found.has(task) || task.status !== "blocked" || !task.dependencies.includes(on)) continue;
        found.add(task);
        look(task.id);
      }
    };
    look(id);
    return [...found];
  }
}

function refuse(code: SwarmError["code"]): never {
  throw new SwarmError(code, "The model refuses.");
}
