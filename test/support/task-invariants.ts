/**
 * Recounts a store of tasks from its records alone and says where an index, a count, a reservation or a slot tells something
 * else. Reads one snapshot, so it may be asked while others work.
 */

import { isDeepStrictEqual } from "node:util";
import { globsOverlap, type Reservation } from "@mcp-swarm/coordination";
import { isHeld, type StoredTask, TASK_STATUSES, type TaskChange, type TaskStatus, taskOf } from "@mcp-swarm/coordination/tasks";
import type { Json } from "@mcp-swarm/core";
import { ordered, prefixRange, SCAN_LIMIT_MAX, type Snapshot, type Store, segment } from "@mcp-swarm/store";
import { TALLY_EVENTS } from "../../servers/task-coordination/src/tally.ts";
import { queueName, queueOf, rankOf } from "../../servers/task-coordination/src/task-queue.ts";

type Counts = Record<string, number>;
/** What is kept of the counts: by status, and of what happened. */
type Tally = { status: Counts; events: Counts };

export interface TaskCensus {
  readonly tasks: ReadonlyMap<string, StoredTask>;
  /** Slot number → who holds it at the time of the snapshot. */
  readonly slots: ReadonlyMap<number, string>;
  readonly reservations: readonly Reservation[];
  /** Empty when all agrees; else one sentence each. */
  readonly problems: readonly string[];
}

const ENDED: readonly TaskStatus[] = ["done", "failed", "cancelled"];
/** PostgreSQL takes a commit whose plan has a time this old: one process's change may be dated before another's that it follows. */
const CLOCK_LAG_MS = 500;
/** Most problems of one kind that are told. */
const TOLD_MAX = 10;

export async function taskCensus(store: Store): Promise<TaskCensus> {
  const rows = await store.snapshot(readRows);
  const now = await store.now(); // not before the snapshot: what lasts until now lasted then
  const under = (namespace: string) => [...rows].filter(([key]) => key.startsWith(`${namespace}/`));
  const tasks = new Map(
    under("task").map(([, value]) => {
      const task = taskOf(value as Json);
      return [task.id, task];
    }),
  );
  const reservations = [...rows].flatMap(([key, value]) => (key.startsWith("resv/id/") ? [value as Reservation] : []));
  const slots = new Map<number, string>();
  const problems: string[] = [];

  for (const [, value] of under("worker-slot")) {
    const row = value as { slot: number; token: number; holding?: { by: string; leaseExpiresAt: number } };
    if (row.holding && row.holding.leaseExpiresAt > now) slots.set(row.slot, row.holding.by);
    if (row.token < 1) problems.push(`Worker slot ${row.slot} was taken without a fencing token.`);
  }
  for (const [key, value] of under("task")) {
    if (key !== `task/${segment((value as { id: string }).id)}`) problems.push(`A task is kept under another's key: ${key}`);
  }
  for (const task of tasks.values()) problems.push(...recordProblems(task, tasks), ...historyProblems(task));
  problems.push(...indexProblems(rows, tasks));
  problems.push(...tallyProblems(rows, tasks));
  problems.push(...reservationProblems(rows, tasks, reservations, now));
  return { tasks, slots, reservations, problems };
}

async function readRows(view: Snapshot): Promise<Map<string, unknown>> {
  const rows = new Map<string, unknown>();
  for (const namespace of await view.namespaces()) {
    if (!/^(task|resv$|worker-slot$)/.test(namespace)) continue;
    for (let after: string | undefined; ; ) {
      const page = await view.scan(prefixRange(`${namespace}/`, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
      for (const { key, value } of page) rows.set(key, value);
      after = page.at(-1)?.key;
      if (page.length < SCAN_LIMIT_MAX || after === undefined) break;
    }
  }
  return rows;
}

// ── one record ──

function recordProblems(task: StoredTask, tasks: ReadonlyMap<string, StoredTask>): string[] {
  const wrong: string[] = [];
  const must = (holds: boolean, what: string) => {
    if (!holds) wrong.push(`Task ${task.id} (${task.status}) ${what}.`);
  };
  const ended = ENDED.includes(task.status);
  must(isHeld(task) ? task.claim !== undefined : ended || task.claim === undefined, "has a claim if and only if it is held");
  must(ended === (task.endedAt !== undefined), "has an end if and only if it ended");
  must((task.status === "available") === (task.readyAt !== undefined) || isHeld(task) || ended, "knows since when it is ready");
  must((task.status === "delayed") === (task.dueAt !== undefined) || isHeld(task) || ended, "knows when it is due");
  must(task.attempt >= 0 && task.attempt <= task.maxAttempts, `has attempt ${task.attempt} of ${task.maxAttempts}`);
  if (ended) return wrong;
  const notDone = task.dependencies.filter((id) => tasks.get(id)?.status !== "done").sort();
  must(isDeepStrictEqual([...task.open].sort(), notDone), `waits for [${task.open}] and should wait for [${notDone}]`);
  must((task.status === "blocked") === (task.open.length > 0 || task.held === true), "is blocked if and only if it waits");
  return wrong;
}

/** The history must be a chain that leads to what the record says, attempts and fencing tokens included. */
function historyProblems(task: StoredTask): string[] {
  const wrong: string[] = [];
  const { history } = task;
  for (const [index, change] of history.entries()) {
    const before = history[index - 1];
    if (before && (change.from ?? before.to) !== before.to) wrong.push(`${change.event} from ${change.from} after ${before.to}`);
    if (before && change.at < before.at - CLOCK_LAG_MS) wrong.push(`${change.event} is older than what came before it`);
    if (change.event === "claimed" && before && before.to !== "available") wrong.push(`claimed while ${before.to}`);
  }
  if (history.at(-1)?.to !== task.status) wrong.push(`the last change leads to ${history.at(-1)?.to}`);
  if (task.historyDropped === 0) {
    const claims = history.filter(({ event }) => event === "claimed").length;
    if (claims !== task.fencingToken) wrong.push(`${claims} claims but fencing token ${task.fencingToken}`);
    const attempt = history.reduce(countAttempt, 0);
    if (attempt !== task.attempt) wrong.push(`attempt ${task.attempt}, and by its history ${attempt}`);
  }
  return wrong.map((what) => `History of task ${task.id}: ${what}.`);
}

function countAttempt(attempt: number, { event }: TaskChange): number {
  if (event === "claimed") return attempt + 1;
  if (event === "given_back") return attempt - 1;
  return event === "reset" || event === "revived" ? 0 : attempt;
}

// ── indexes ──

/** Every index key that the records ask for, and which record asks. */
function wantedIndexes(tasks: ReadonlyMap<string, StoredTask>): Map<string, string> {
  const wanted = new Map<string, string>();
  for (const task of tasks.values()) {
    const id = segment(task.id);
    const want = (key: string) => wanted.set(key, task.id);
    const ended = ENDED.includes(task.status);
    want(`task-all/${task.seq}/${id}`);
    if (task.workflowId !== undefined) want(`task-workflow/${segment(task.workflowId)}/${task.seq}/${id}`);
    if (!ended && task.deadlineAt !== undefined) want(`task-deadline/${ordered(task.deadlineAt)}/${id}`);
    if (!ended && task.assignedTo !== undefined) want(`task-assigned/${segment(task.assignedTo)}/${id}`);
    if (!ended) for (const dependency of task.dependencies) want(`task-dependents/${segment(dependency)}/${id}`);
    if (task.status === "available") {
      const rest = `${rankOf(task, task.readyAt ?? 0)}/${task.seq}/${id}`;
      want(`task-ready/${queueName(queueOf(task))}/${rest}`);
      if (task.workflowId !== undefined) want(`task-wready/${queueName(queueOf(task), task.workflowId)}/${rest}`);
    } else if (task.status === "blocked") {
      want(`task-blocked/${task.seq}/${id}`);
      if (task.held && task.workflowId !== undefined) want(`task-held/${segment(task.workflowId)}/${task.seq}/${id}`);
    } else if (task.status === "delayed") {
      want(`task-delay/${ordered(task.dueAt ?? 0)}/${id}`);
    } else if (isHeld(task)) {
      want(`${LEASES}${ordered(task.claim?.leaseExpiresAt ?? 0)}/${id}`);
    } else {
      want(`task-ended/${task.status}/${ordered(task.endedAt ?? 0)}/${id}`);
    }
  }
  return wanted;
}

const LEASES = "task-live/lease/";
const FANOUT = "task-live/fanout/";
/** Kept beside the records, and no index of them. */
const NO_INDEX = /^task-(live\/(agent|fanout|tally)|tally|queue|queues|assignee)\//;

function indexProblems(rows: ReadonlyMap<string, unknown>, tasks: ReadonlyMap<string, StoredTask>): string[] {
  const wanted = wantedIndexes(tasks);
  const wrong: string[] = [];
  for (const [key, value] of rows) {
    if (!key.startsWith("task-") || NO_INDEX.test(key)) continue;
    const { id, by } = value as { id: string; by?: string };
    if (wanted.get(key) === id) wanted.delete(key);
    else wrong.push(`An index leads to what no record says: ${key}`);
    // whose a held task is, is read from the index alone
    if (by !== (key.startsWith(LEASES) ? tasks.get(id)?.claim?.by : undefined)) wrong.push(`An index names ${by}: ${key}`);
  }
  for (const [key, id] of wanted) wrong.push(`Task ${id} is missing in an index: ${key}`);
  for (const task of tasks.values()) {
    const queue = `task-queue/${queueName(queueOf(task))}`;
    if (task.status === "available" && !rows.has(queue)) wrong.push(`The queue of task ${task.id} is not known: ${queue}`);
  }
  for (const task of tasks.values()) {
    if (ENDED.includes(task.status) || task.assignedTo === undefined) continue;
    const assignee = `task-assignee/${segment(task.assignedTo)}`;
    if (!rows.has(assignee)) wrong.push(`The assignee of task ${task.id} is not known: ${assignee}`);
  }
  const waiting: Counts = {};
  for (const task of tasks.values()) {
    if (!ENDED.includes(task.status)) for (const id of task.open) add(waiting, `${FANOUT}${segment(id)}`);
  }
  const fanout = Object.fromEntries([...rows].filter(([key]) => key.startsWith(FANOUT)));
  if (!isDeepStrictEqual(waiting, fanout)) wrong.push(`How many wait for a task: ${told(waiting)}, kept ${told(fanout)}`);
  return wrong.slice(0, TOLD_MAX);
}

// ── counts ──

/** What is counted in a row: `swarm`, `wf.<workflow>` or `agent.<agent>`, as segments of keys; undefined when nothing is. */
function scopeOf(key: string): string | undefined {
  const [namespace, first, second = ""] = key.split("/");
  if (namespace === "task-tally") return first;
  if (namespace !== "task-live") return undefined;
  return first === "tally" ? "swarm" : first === "agent" ? `agent.${second}` : undefined;
}

function tallyProblems(rows: ReadonlyMap<string, unknown>, tasks: ReadonlyMap<string, StoredTask>): string[] {
  const kept = new Map<string, Tally>();
  for (const [key, value] of rows) {
    const scope = scopeOf(key);
    if (scope === undefined) continue;
    const sum = kept.get(scope) ?? { status: {}, events: {} };
    for (const [part, names] of [
      ["status", TASK_STATUSES],
      ["events", TALLY_EVENTS],
    ] as const) {
      const counts = (value as { [P in typeof part]?: readonly number[] })[part] ?? [];
      for (const [at, count] of counts.entries()) add(sum[part], names[at] ?? `unknown ${at}`, count);
    }
    kept.set(scope, sum);
  }
  const scopes = new Map<string, StoredTask[]>([["swarm", [...tasks.values()]]]);
  for (const task of tasks.values()) {
    if (task.workflowId === undefined || task.rollbackOf !== undefined) continue; // rollbacks count for the swarm alone
    const scope = segment(`wf.${task.workflowId}`);
    scopes.set(scope, [...(scopes.get(scope) ?? []), task]);
  }
  const wrong: string[] = [];
  for (const [scope, members] of scopes) {
    const { status, events } = kept.get(scope) ?? { status: {}, events: {} };
    const recount: Counts = {};
    for (const task of members) add(recount, task.status);
    if (!same(recount, status)) wrong.push(`Counts of ${scope} by status: ${told(recount)}, kept ${told(status)}`);
    if (members.some(({ historyDropped }) => historyDropped > 0)) continue; // the records do not tell all that happened
    const happened: Counts = {};
    for (const task of members) for (const change of task.history) countEvents(happened, change);
    if (!same(happened, events)) wrong.push(`Counts of ${scope} by event: ${told(happened)}, kept ${told(events)}`);
  }
  if ([...tasks.values()].some(({ historyDropped }) => historyDropped > 0)) return wrong;
  const byAgent = new Map<string, Counts>();
  for (const task of tasks.values()) countForHolders(byAgent, task);
  for (const scope of new Set([...byAgent.keys(), ...[...kept.keys()].filter((name) => name.startsWith("agent."))])) {
    const [happened, events] = [byAgent.get(scope) ?? {}, kept.get(scope)?.events ?? {}];
    if (!same(happened, events)) wrong.push(`Counts of ${scope}: ${told(happened)}, kept ${told(events)}`);
  }
  return wrong;
}

const COUNTED: Partial<Record<TaskChange["event"], string>> = {
  added: "added",
  claimed: "claimed",
  done: "done",
  cancelled: "cancelled",
  timed_out: "timedOut",
  lease_expired: "expired",
  given_back: "givenBack",
  reset: "reset",
};

function countEvents(counts: Counts, { event, to }: TaskChange): void {
  const name = COUNTED[event];
  if (name !== undefined) add(counts, name);
  if (event === "attempt_failed" || event === "timed_out" || event === "lease_expired") {
    add(counts, to === "failed" ? "failed" : "retried");
  }
}

const COUNTED_FOR_HOLDER = new Set(["done", "timedOut", "expired", "givenBack", "failed", "retried"]);

/** How its attempts ended counts for whoever held it. */
function countForHolders(byAgent: Map<string, Counts>, { history }: StoredTask): void {
  let holder: string | undefined;
  for (const change of history) {
    if (change.event === "claimed") holder = change.by;
    if (holder === undefined) continue;
    const happened: Counts = {};
    countEvents(happened, change);
    const scope = `agent.${segment(holder)}`;
    const counts = byAgent.get(scope) ?? {};
    for (const name of Object.keys(happened)) if (COUNTED_FOR_HOLDER.has(name)) add(counts, name);
    byAgent.set(scope, counts);
  }
}

// ── reservations ──

function reservationProblems(
  rows: ReadonlyMap<string, unknown>,
  tasks: ReadonlyMap<string, StoredTask>,
  reservations: readonly Reservation[],
  now: number,
): string[] {
  const wrong: string[] = [];
  const byId = new Map(reservations.map((reservation) => [reservation.id, reservation]));
  const globs: Counts = {};
  for (const [key, value] of rows) {
    const { id } = value as { id?: string };
    if (key.startsWith("resv/at/") && id !== undefined) add(globs, id);
    const known = id !== undefined && byId.has(id);
    if (/^resv\/(at|by)\//.test(key) && !known) wrong.push(`An index leads to no reservation: ${key}`);
  }
  const reserved = new Set<string>();
  for (const { id, holder, taskId, fencingToken, expiresAt, globs: named } of reservations) {
    if (globs[id] !== named.length) wrong.push(`Reservation ${id} has ${named.length} globs and ${globs[id]} in the index.`);
    if (!rows.has(`resv/by/${segment(holder)}/${segment(id)}`)) wrong.push(`Reservation ${id} is not among its holder's.`);
    const task = taskId === undefined ? undefined : tasks.get(taskId);
    if (taskId !== undefined) reserved.add(taskId);
    const claim = task && isHeld(task) && task.fencingToken === fencingToken ? task.claim : undefined;
    if (taskId !== undefined && (claim?.by !== holder || claim.leaseExpiresAt !== expiresAt)) {
      wrong.push(`Reservation ${id} of ${holder} is for a claim on ${taskId} that is over, or has another end.`);
    }
  }
  for (const task of tasks.values()) {
    // when its lease is over, its reservation is gone for every reader, while the task itself waits to be freed
    const running = isHeld(task) && (task.claim?.leaseExpiresAt ?? 0) > now;
    if (task.files !== undefined && running && !reserved.has(task.id)) wrong.push(`Task ${task.id} is held without its files.`);
  }
  for (const [index, one] of reservations.entries()) {
    for (const other of reservations.slice(index + 1)) {
      if (one.holder === other.holder || (one.mode === "shared" && other.mode === "shared")) continue;
      if (one.globs.some((glob) => other.globs.some((another) => globsOverlap(glob, another)))) {
        wrong.push(`${one.holder} and ${other.holder} hold overlapping files: [${one.globs}] and [${other.globs}]`);
      }
    }
  }
  return wrong;
}

function add(counts: Counts, name: string, by = 1): void {
  counts[name] = (counts[name] ?? 0) + by;
}

function same(a: Counts, b: Counts): boolean {
  const nonZero = (counts: Counts) => Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0));
  return isDeepStrictEqual(nonZero(a), nonZero(b));
}

function told(counts: Record<string, unknown>): string {
  return JSON.stringify(counts).slice(0, 400);
}
