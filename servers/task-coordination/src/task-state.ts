/** The states of a task and what leads from one to the other, as a table without any store. */
import { isHeld, type StoredTask, type TaskEvent, type TaskStatus } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";

type Step = { readonly from: readonly TaskStatus[]; readonly to: readonly TaskStatus[] };

const HELD: readonly TaskStatus[] = ["claimed", "working"];
const OPEN: readonly TaskStatus[] = ["blocked", "delayed", "available", ...HELD];
/** Where a task that nobody holds may stand. */
const PLACED: readonly TaskStatus[] = ["blocked", "delayed", "available"];

const STEPS: { readonly [E in Exclude<TaskEvent, "added">]: Step } = {
  unblocked: { from: ["blocked"], to: PLACED },
  due: { from: ["delayed"], to: ["available", "blocked"] },
  held: { from: ["available", "delayed"], to: ["blocked"] },
  claimed: { from: ["available"], to: ["claimed"] },
  started: { from: HELD, to: ["working"] },
  progressed: { from: HELD, to: HELD },
  done: { from: HELD, to: ["done"] },
  attempt_failed: { from: HELD, to: ["delayed", "available", "blocked", "failed"] },
  timed_out: { from: HELD, to: ["delayed", "available", "blocked", "failed"] },
  lease_expired: { from: HELD, to: ["available", "blocked", "failed"] },
  given_back: { from: HELD, to: ["available", "blocked"] },
  cancelled: { from: [...OPEN, "failed"], to: ["cancelled"] },
  reset: { from: ["failed", ...HELD], to: PLACED },
  assigned: { from: OPEN, to: OPEN },
  changed: { from: OPEN, to: OPEN },
  revived: { from: ["cancelled"], to: PLACED },
};

/** What to do about a task that is in another status than an operation needs. */
const NEXT: { readonly [S in TaskStatus]: string } = {
  blocked: "It waits for its dependencies or its workflow: get_task tells which.",
  delayed: "It waits for its time: get_task tells when it becomes available.",
  available: "Nobody holds it: claim it first.",
  claimed: "Its holder must finish it or give it back; reset_failed_task frees it when the holder is stuck.",
  working: "Its holder must finish it or give it back; reset_failed_task frees it when the holder is stuck.",
  done: "It is finished and stays so: add a new task for more work.",
  failed: "Its attempts are used up: reset_failed_task makes it available again.",
  cancelled: "It was cancelled and stays so: add a new task instead.",
};

/** Whether an event may lead from one status to another. */
export function allows(event: Exclude<TaskEvent, "added">, from: TaskStatus, to: TaskStatus): boolean {
  const step = STEPS[event];
  return step.from.includes(from) && step.to.includes(to);
}

/** @throws SwarmError failed_precondition when `event` cannot happen to a task in this status */
export function checkFrom(task: Pick<StoredTask, "id" | "status">, event: Exclude<TaskEvent, "added">): void {
  if (STEPS[event].from.includes(task.status)) return;
  throw new SwarmError("failed_precondition", `Task ${task.id} is ${task.status}.`, { hint: NEXT[task.status] });
}

/**
 * Only the holder of the current claim may change a held task.
 * @throws SwarmError failed_precondition, which names who holds the task now
 */
export function checkHolder(task: StoredTask, agentId: string, fencingToken: number | undefined): void {
  const stale = fencingToken !== undefined && fencingToken !== task.fencingToken;
  const mine = task.claim?.by === agentId && !stale;
  if (isHeld(task) && mine) return;
  if (isHeld(task)) {
    const why = stale
      ? `The fencing token is stale: task ${task.id} was claimed again by ${task.claim?.by} with another token.`
      : `Task ${task.id} is held by ${task.claim?.by}, not by ${agentId}.`;
    throw new SwarmError("failed_precondition", why, {
      hint: "Stop working on it: its lease ended, and another worker may have taken over what you did. Claim another task.",
    });
  }
  if (!stale) checkFrom(task, "progressed");
  throw new SwarmError("failed_precondition", `The claim on task ${task.id} is over; the task is ${task.status} now.`, {
    hint: NEXT[task.status],
  });
}
