/** What came of a batch, compiled from its members: counts, failures and how well the slots that worked on it were used. Pure. */
import { EXECUTION_STATUSES, type ExecutionRecord, type ExecutionStatus, hasEnded, type Requires } from "./execution-record.ts";

/** Of a member, all that the compiled result is made of. */
export type BatchMember = { readonly key: string; readonly record: ExecutionRecord };

/** All times in ms. */
export type Used = {
  /** What the code took by itself, as its sandbox measured it; of a member that runs still, nothing. */
  readonly wallMs: number;
  readonly cpuMs: number;
  /** Slots of workers were taken for so long, claim and collection of results included. */
  readonly busyMs: number;
  /** From when the first of them could run until the last of them ended, or until now. */
  readonly elapsedMs: number;
  /** Slots that worked on them: the most runs that each worker had at one moment, added up. */
  readonly slots: number;
  /** busyMs / (elapsedMs × slots), 0 to 1; absent while nothing has begun. */
  readonly utilisation?: number;
};

export type Counts = Readonly<Partial<Record<ExecutionStatus, number>>>;

/** Members with the same requirements: environment, architecture and labels. */
export type BatchGroup = Used & {
  readonly environment: string;
  readonly requires: Requires;
  readonly tasks: number;
  readonly counts: Counts;
};

export type BatchCompiled = Used & {
  /** Every member has ended. */
  readonly ended: boolean;
  readonly tasks: number;
  readonly counts: Counts;
  /** In order of their first member. */
  readonly groups: readonly BatchGroup[];
  /** Of members that ended otherwise than succeeded, in the order they were given. */
  readonly failures: readonly BatchMember[];
};

/** Which group a member is in. Labels are sorted. */
function groupOf({ environment, requires }: Pick<ExecutionRecord, "environment" | "requires">): string {
  return JSON.stringify([environment, requires.arch ?? "", requires.labels ?? []]);
}

/** `now`: by the store's clock. */
export function compileBatch(members: readonly BatchMember[], now: number): BatchCompiled {
  const groups = new Map<string, BatchMember[]>();
  for (const member of members) {
    const name = groupOf(member.record);
    const group = groups.get(name);
    if (group) group.push(member);
    else groups.set(name, [member]);
  }
  return {
    ended: members.every(({ record }) => hasEnded(record.status)),
    tasks: members.length,
    counts: countsOf(members),
    ...usedBy(members, now),
    groups: [...groups.values()].flatMap((group): BatchGroup[] => {
      const [first] = group;
      if (!first) return [];
      const { environment, requires } = first.record;
      return [{ environment, requires, tasks: group.length, counts: countsOf(group), ...usedBy(group, now) }];
    }),
    failures: members.filter(({ record }) => hasEnded(record.status) && record.status !== "succeeded"),
  };
}

function countsOf(members: readonly BatchMember[]): Counts {
  const counts: Partial<Record<ExecutionStatus, number>> = {};
  for (const status of EXECUTION_STATUSES) {
    const count = members.filter(({ record }) => record.status === status).length;
    if (count > 0) counts[status] = count;
  }
  return counts;
}

type Run = { readonly worker: string; readonly from: number; readonly to: number };

/** The last attempt of a member that a worker began, while its slot was taken. */
function runOf({ record }: BatchMember, now: number): Run[] {
  const { startedAt, endedAt, worker } = record;
  // another process's time may be a little behind the one that began it
  return startedAt === undefined || worker === undefined
    ? []
    : [{ worker: worker.workerId, from: startedAt, to: Math.max(startedAt, endedAt ?? now) }];
}

function usedBy(members: readonly BatchMember[], now: number): Used {
  const runs = members.flatMap((member) => runOf(member, now));
  const sum = (of: (member: BatchMember) => number) => members.reduce((total, member) => total + of(member), 0);
  const busyMs = runs.reduce((total, { from, to }) => total + to - from, 0);
  const slots = slotsOf(runs);
  const from = least([...members.flatMap(({ record }) => record.readyAt ?? []), ...runs.map((run) => run.from)]);
  const open = members.some(({ record }) => !hasEnded(record.status));
  const until = open ? now : greatest(members.flatMap(({ record }) => record.endedAt ?? []));
  const elapsedMs =
    from === undefined || until === undefined ? 0 : Math.max(0, until - from, ...runs.map((run) => run.to - from));
  return {
    wallMs: sum(({ record }) => record.result?.usage.wallMs ?? 0),
    cpuMs: sum(({ record }) => record.result?.usage.cpuMs ?? 0),
    busyMs,
    elapsedMs,
    slots,
    ...(elapsedMs > 0 && slots > 0 ? { utilisation: Math.min(1, busyMs / (elapsedMs * slots)) } : {}),
  };
}

/** The most runs of each worker at one moment, added up. A slot that is taken again in the ms in which it became free is one slot. */
function slotsOf(runs: readonly Run[]): number {
  let slots = 0;
  for (const worker of new Set(runs.map((run) => run.worker))) {
    const own = runs.filter((run) => run.worker === worker);
    const edges = own.flatMap(({ from, to }) => [
      { at: from, by: 1 },
      { at: to, by: -1 },
    ]);
    edges.sort((a, b) => a.at - b.at || a.by - b.by);
    let taken = 0;
    let most = 1; // a run that was over within its first ms took a slot all the same
    for (const { by } of edges) {
      taken += by;
      most = Math.max(most, taken);
    }
    slots += most;
  }
  return slots;
}

function least(numbers: readonly number[]): number | undefined {
  return numbers.length === 0 ? undefined : Math.min(...numbers);
}

function greatest(numbers: readonly number[]): number | undefined {
  return numbers.length === 0 ? undefined : Math.max(...numbers);
}
