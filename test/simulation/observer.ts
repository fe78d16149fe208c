/** What must hold after every commit, whoever made it. */
import { hasEnded, isHeld, type StoredTask, taskOf } from "@mcp-swarm/coordination/tasks";
import { must } from "./violation.ts";
import type { Actor, Commit } from "./world.ts";

type SlotRow = { slot: number; token: number; holding?: { by: string; leaseExpiresAt: number } };

export class Observer {
  /** The tasks as of the last commit. */
  readonly tasks = new Map<string, StoredTask>();
  /** Completions that a worker was told of. */
  readonly acknowledged = new Map<string, { by: string; token: number }>();
  readonly counts = { commits: 0, claimed: 0, done: 0, expired: 0, takenOver: 0, failed: 0 };
  /** The token with which an actor says that it holds a task. */
  readonly claimsOf = new Map<Actor, { taskId: string; token: number }>();
  /** Claims that were committed, whether or not anyone was told. */
  readonly claims: { taskId: string; token: number; by: Actor }[] = [];
  readonly #slots = new Map<number, SlotRow>();

  observe(commit: Commit): void {
    this.counts.commits++;
    const changed: StoredTask[] = [];
    for (const { key, before, after } of commit.changes) {
      if (key.startsWith("worker-slot/")) this.#slot(commit, after as SlotRow | undefined);
      if (!key.startsWith("task/")) continue;
      const was = before === undefined ? undefined : taskOf(before);
      const is = after === undefined ? undefined : taskOf(after);
      const known = was ?? is;
      must(known, "a task is changed");
      must(
        JSON.stringify(this.tasks.get(known.id)) === JSON.stringify(was),
        `task ${known.id} was changed from what the last commit left`,
      );
      if (is) {
        this.#step(commit, was, is);
        this.tasks.set(is.id, is);
        changed.push(is);
      } else {
        must(was && hasEnded(was), `task ${known.id} was deleted though it had not ended`);
        this.tasks.delete(known.id);
        this.acknowledged.delete(known.id);
      }
    }
    for (const task of changed) this.#inItsPlace(task);
  }

  #step({ by, now }: Commit, was: StoredTask | undefined, is: StoredTask): void {
    const { id } = is;
    if (!was) {
      must(is.fencingToken === 0, `task ${id} begins without a claim`);
      return;
    }
    must(is.fencingToken === was.fencingToken || is.fencingToken === was.fencingToken + 1, `task ${id}: tokens go up by one`);
    must(was.status !== "done" && was.status !== "cancelled", `task ${id} was ${was.status} for good, and is ${is.status}`);
    const events = is.history.slice(was.history.length + was.historyDropped - is.historyDropped).map(({ event }) => event);

    if (is.fencingToken > was.fencingToken) {
      this.counts.claimed++;
      this.claims.push({ taskId: id, token: is.fencingToken, by });
      must(isHeld(is), `task ${id} got a token without a claim`);
      const left = was.error?.code === "lease_expired" ? was.error.by : undefined;
      if (left !== undefined && left !== is.claim?.by) this.counts.takenOver++;
    }
    if (isHeld(was) && isHeld(is) && is.fencingToken === was.fencingToken) {
      must(is.claim?.by === was.claim?.by && is.claim?.at === was.claim?.at, `task ${id} has two holders with one token`);
    }
    if (isHeld(was) && (!isHeld(is) || is.fencingToken !== was.fencingToken)) {
      const over = was.claim !== undefined && was.claim.leaseExpiresAt <= now;
      if (events.includes("lease_expired") || events.includes("timed_out")) {
        must(over, `task ${id} was taken from ${was.claim?.by} before its lease ended`);
        this.counts.expired++;
      } else {
        const right = ["done", "attempt_failed", "given_back", "cancelled", "reset"] as const;
        must(
          right.some((event) => events.includes(event)),
          `task ${id} left ${was.claim?.by} without a reason: ${events.join()}`,
        );
      }
    }
    for (const event of ["done", "attempt_failed", "given_back", "started", "progressed"] as const) {
      if (!events.includes(event)) continue;
      if (event === "done") this.counts.done++;
      if (event === "attempt_failed") this.counts.failed++;
      const claim = this.claimsOf.get(by);
      if (!claim) continue; // the process itself gives back at its end
      must(claim.taskId === id, `${by.name} changed task ${id} while it spoke of ${claim.taskId}`);
      must(claim.token === was.fencingToken, `${by.name} changed task ${id} with the stale token ${claim.token}`);
    }
    must(is.attempt <= is.maxAttempts, `task ${id} had too many attempts`);
  }

  #inItsPlace(task: StoredTask): void {
    if (isHeld(task) || task.status === "available" || task.status === "delayed") {
      for (const id of task.dependencies) {
        const dependency = this.tasks.get(id);
        must(!dependency || dependency.status === "done", `task ${task.id} is ${task.status} before task ${id} is done`);
      }
    }
    const done = this.acknowledged.get(task.id);
    must(!done || task.status === "done", `the completion of task ${task.id} was acknowledged and is lost`);
  }

  #slot({ now }: Commit, is: SlotRow | undefined): void {
    must(is, "a slot's row stays");
    const was = this.#slots.get(is.slot);
    if (was?.holding && was.holding.leaseExpiresAt > now && is.holding) {
      must(is.token === was.token, `slot ${is.slot} was taken from ${was.holding.by} before its lease ended`);
    }
    must(is.token >= (was?.token ?? 0), `slot ${is.slot}: tokens go up`);
    this.#slots.set(is.slot, is);
  }
}
