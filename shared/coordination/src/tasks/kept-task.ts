/**
 * The form in which a task is stored. A record is written anew at each step of its task, and an engine may keep a long row
 * apart from its neighbours: so what is as usual is left out, and the history is packed.
 */
import type { Json } from "@mcp-swarm/core";
import type { Claim, StoredTask, TaskChange, TaskEvent, TaskStatus } from "./stored-task.ts";

/**
 * What a field that is left out reads as. Part of the stored form: whatever a task is given by default elsewhere, these stay.
 */
export const USUAL = {
  type: "general",
  dependencies: [],
  open: [],
  priority: 5,
  requiredCapabilities: [],
  maxAttempts: 3,
  backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 },
  attempt: 0,
  fencingToken: 0,
  historyDropped: 0,
} as const satisfies Partial<StoredTask>;

/** Times that are kept as the ms since the task was created. */
const SINCE_CREATION = ["readyAt", "dueAt", "startedAt", "endedAt"] as const;

/**
 * `at` counts from the task's creation. `by` is null for who made the change before, or, in the first, who made the task.
 * `from` is there only when it is not where the change before led to.
 */
type KeptStep = readonly [at: number, by: string | null, event: TaskEvent, to: TaskStatus, attempt: number];
type KeptChange = KeptStep | readonly [...KeptStep, note: string] | readonly [...KeptStep, note: string | null, from: TaskStatus];

/** `at` counts from the task's creation, the end of the lease from `at`. */
type KeptClaim = readonly [
  by: string,
  at: number,
  leaseMs: number,
  endsIn: number,
  processId: string | null,
  workerSlot: number | null,
];

type KeptTask = Omit<StoredTask, keyof typeof USUAL | "history" | "claim"> &
  Partial<Pick<StoredTask, keyof typeof USUAL>> & { readonly history: readonly KeptChange[]; readonly claim?: KeptClaim };

function isUsual(name: string, value: unknown): boolean {
  if (!(name in USUAL)) return false;
  if (name === "backoff") {
    const { initialMs, factor, maxMs } = value as StoredTask["backoff"];
    const { backoff } = USUAL;
    return initialMs === backoff.initialMs && factor === backoff.factor && maxMs === backoff.maxMs;
  }
  return Array.isArray(value) ? value.length === 0 : value === USUAL[name as keyof typeof USUAL];
}

export function keepTask(task: StoredTask): Json {
  const kept: { [name: string]: Json } = {};
  let name: keyof StoredTask;
  for (name in task) {
    const value = task[name];
    if (value !== undefined && !isUsual(name, value)) kept[name] = value;
  }
  for (const name of SINCE_CREATION) {
    const at = task[name];
    if (at !== undefined) kept[name] = at - task.createdAt;
  }
  if (task.claim !== undefined) kept.claim = keepClaim(task.claim, task.createdAt);
  kept.history = keepHistory(task);
  return kept;
}

/** @param value as `keepTask` made it */
export function taskOf(value: Json): StoredTask {
  const { claim, ...kept } = value as unknown as KeptTask;
  const times: { [P in (typeof SINCE_CREATION)[number]]?: number } = {};
  for (const name of SINCE_CREATION) {
    const since = kept[name];
    if (since !== undefined) times[name] = kept.createdAt + since;
  }
  const task = { ...USUAL, ...kept, ...times, history: historyOf(kept) };
  return claim === undefined ? task : { ...task, claim: claimOf(claim, kept.createdAt) };
}

function keepClaim({ by, processId, workerSlot, at, leaseMs, leaseExpiresAt }: Claim, createdAt: number): KeptClaim {
  return [by, at - createdAt, leaseMs, leaseExpiresAt - at, processId ?? null, workerSlot ?? null];
}

function claimOf([by, since, leaseMs, endsIn, processId, workerSlot]: KeptClaim, createdAt: number): Claim {
  const at = createdAt + since;
  return {
    by,
    ...(processId === null ? {} : { processId }),
    ...(workerSlot === null ? {} : { workerSlot }),
    at,
    leaseMs,
    leaseExpiresAt: at + endsIn,
  };
}

function keepHistory({ createdAt, createdBy, history }: StoredTask): KeptChange[] {
  let before: { by: string; to?: TaskStatus } = { by: createdBy };
  return history.map((change): KeptChange => {
    const { at, by, event, from, to, attempt, note } = change;
    const step: KeptStep = [at - createdAt, by === before.by ? null : by, event, to, attempt];
    const unlike = from === before.to ? null : (from ?? null);
    before = change;
    if (unlike !== null) return [...step, note ?? null, unlike];
    return note === undefined ? step : [...step, note];
  });
}

function historyOf({ createdAt, createdBy, history }: Pick<KeptTask, "createdAt" | "createdBy" | "history">): TaskChange[] {
  let before: { by: string; to?: TaskStatus } = { by: createdBy };
  return history.map(([at, by, event, to, attempt, note, unlike]) => {
    const from = unlike ?? before.to;
    const change: TaskChange = {
      at: createdAt + at,
      by: by ?? before.by,
      event,
      ...(from === undefined ? {} : { from }),
      to,
      attempt,
      ...(typeof note === "string" ? { note } : {}),
    };
    before = change;
    return change;
  });
}
