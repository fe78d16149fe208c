import { backoffDelay } from "@mcp-swarm/coordination";
import { RETRY_BACKOFF } from "../../src/execution-lifecycle.ts";
import { type ExecutionRecord, type ExecutionStatus, type Failure, hasEnded } from "../../src/execution-record.ts";

const AGE_MS = 10 * 60_000;

export interface ModelRun {
  readonly id: string;
  /** Its place in the order of creation. */
  readonly seq: string;
  readonly priority: number;
  readonly maxAttempts: number;
  readonly queueMs: number;
  readonly batch: ModelBatch | undefined;
  readonly after: "success" | "any";
  readonly waitsFor: Set<string>;
  status: ExecutionStatus;
  failure: Failure | undefined;
  readyAt: number | undefined;
  dueAt: number | undefined;
  deadlineAt: number;
  attempt: number;
  spent: number;
  worker: string | undefined;
  leaseEnd: number;
  cancelling: boolean;
}

export interface ModelBatch {
  readonly limit: number | undefined;
  readonly stopOnFailure: boolean;
  stopped: boolean;
}

/** What executions do, said as simply as can be: everything in one map, every question by looking at all of it. */
export class QueueModel {
  readonly runs = new Map<string, ModelRun>();
  now: number;
  #ended: ModelRun[] = [];

  constructor(now: number) {
    this.now = now;
  }

  add(
    records: readonly Pick<ExecutionRecord, "id" | "seq" | "priority" | "maxAttempts" | "queueMs">[],
    how: { batch?: ModelBatch; waitsFor?: (at: number) => readonly string[]; after?: (at: number) => "success" | "any" } = {},
  ): void {
    for (const [at, { id, seq, priority, maxAttempts, queueMs }] of records.entries()) {
      this.runs.set(id, {
        ...{ id, seq, priority, maxAttempts, queueMs },
        batch: how.batch,
        after: how.after?.(at) ?? "success",
        waitsFor: new Set(how.waitsFor?.(at) ?? []),
        status: "blocked",
        failure: undefined,
        readyAt: undefined,
        dueAt: undefined,
        deadlineAt: 0,
        attempt: 0,
        spent: 0,
        worker: undefined,
        leaseEnd: Number.POSITIVE_INFINITY,
        cancelling: false,
      });
    }
    for (const { id } of records) this.#place(this.get(id));
    this.#settle();
  }

  get(id: string): ModelRun {
    const run = this.runs.get(id);
    if (!run) throw new Error(`The model knows no ${id}`);
    return run;
  }

  claim(worker: string): { id: string; attempt: number } | undefined {
    const [best] = this.#inOrder((run) => run.status === "queued" && run.dueAt === undefined);
    if (!best) return undefined;
    best.status = "running";
    best.attempt += 1;
    best.worker = worker;
    best.leaseEnd = Number.POSITIVE_INFINITY; // for as long as its worker lives
    return { id: best.id, attempt: best.attempt };
  }

  holds(worker: string, id: string, attempt: number): boolean {
    const run = this.get(id);
    return run.status === "running" && run.worker === worker && run.attempt === attempt;
  }

  /** The worker died; what it holds is its own until then. */
  die(worker: string, leaseEnds: ReadonlyMap<string, number>): void {
    for (const run of this.runs.values()) {
      if (run.status === "running" && run.worker === worker) run.leaseEnd = leaseEnds.get(run.id) ?? 0;
    }
  }

  finish(id: string, code: "ok" | "failed" | "killed"): void {
    const run = this.get(id);
    this.#end(run, code === "killed" && run.cancelling ? "cancelled" : code === "ok" ? "succeeded" : "failed");
    this.#settle();
  }

  giveBack(id: string, failure: "sandbox" | undefined): void {
    const run = this.get(id);
    if (failure) this.#lose(run, failure);
    else if (run.cancelling) this.#end(run, "cancelled");
    else this.#enqueue(run, undefined);
    this.#settle();
  }

  cancel(id: string): "refused" | "went" {
    const run = this.get(id);
    if (run.status === "cancelled") return "went";
    if (hasEnded(run.status)) return "refused";
    this.#cancel(run);
    this.#settle();
    return "went";
  }

  maintain(): void {
    const due = (of: (run: ModelRun) => number | undefined) =>
      [...this.runs.values()]
        .filter((run) => (of(run) ?? Number.POSITIVE_INFINITY) <= this.now)
        .sort((a, b) => (of(a) ?? 0) - (of(b) ?? 0) || (a.id < b.id ? -1 : 1));
    for (const run of due((one) => (one.status === "running" ? one.leaseEnd : undefined))) {
      if (run.status === "running") this.#lose(run, "worker_lost");
      this.#settle();
    }
    for (const run of due((one) => (one.status === "queued" ? one.dueAt : undefined))) run.dueAt = undefined;
    for (const run of due((one) => (one.status === "queued" ? one.deadlineAt : undefined))) {
      if (run.status === "queued") this.#end(run, "expired");
      this.#settle();
    }
  }

  #inOrder(which: (run: ModelRun) => boolean): ModelRun[] {
    const level = ({ readyAt = 0, priority }: ModelRun) => Math.floor(readyAt / AGE_MS) - priority;
    return [...this.runs.values()]
      .filter(which)
      .sort((a, b) => level(a) - level(b) || b.priority - a.priority || (a.seq < b.seq ? -1 : 1));
  }

  #place(run: ModelRun): void {
    if (run.waitsFor.size > 0) return;
    run.readyAt = this.now;
    if (run.batch?.limit === undefined) this.#enqueue(run, undefined);
  }

  #enqueue(run: ModelRun, dueAt: number | undefined): void {
    run.status = "queued";
    run.dueAt = dueAt;
    run.deadlineAt = this.now + run.queueMs;
  }

  #lose(run: ModelRun, failure: "worker_lost" | "sandbox"): void {
    if (run.cancelling) {
      this.#end(run, "cancelled");
      return;
    }
    run.spent += 1;
    if (run.spent >= run.maxAttempts) this.#end(run, "failed", failure);
    else this.#enqueue(run, this.now + backoffDelay(RETRY_BACKOFF, run.spent));
  }

  #cancel(run: ModelRun): void {
    if (run.status === "running") run.cancelling = true;
    else this.#end(run, "cancelled");
  }

  #end(run: ModelRun, status: ExecutionStatus, failure?: Failure): void {
    run.status = status;
    run.failure = failure;
    run.dueAt = undefined;
    this.#ended.push(run);
  }

  #settle(): void {
    const open = (batch: ModelBatch) => [...this.runs.values()].filter((run) => run.batch === batch && !hasEnded(run.status));
    while (this.#ended.length > 0) {
      const ended = this.#ended;
      this.#ended = [];
      for (const run of ended) {
        if (run.batch?.stopOnFailure && !run.batch.stopped && (run.status === "failed" || run.status === "expired")) {
          run.batch.stopped = true;
          for (const other of open(run.batch)) this.#cancel(other);
        }
        for (const other of this.runs.values()) {
          if (!other.waitsFor.delete(run.id) || hasEnded(other.status)) continue;
          if (run.status !== "succeeded" && other.after === "success") this.#end(other, "failed", "dependency");
          else this.#place(other);
        }
      }
    }
    for (const batch of new Set([...this.runs.values()].flatMap((run) => run.batch ?? []))) {
      if (batch.limit === undefined) continue;
      const taken = open(batch).filter(({ status }) => status !== "blocked").length;
      const waiting = this.#inOrder((run) => run.batch === batch && run.status === "blocked" && run.readyAt !== undefined);
      for (const run of waiting.slice(0, Math.max(0, batch.limit - taken))) this.#enqueue(run, undefined);
    }
  }
}
