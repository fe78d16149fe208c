/** Executions as callers hand them over, follow and cancel them. */
import { decodeCursor, encodeCursor, type SequenceSource, waitFor } from "@mcp-swarm/coordination";
import { type Clock, type Json, PAGE_DEFAULT, PAGE_MAX, type Random, SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import { type KeyRange, prefixRange, type Store } from "@mcp-swarm/store";
import { addExecutions, keysOf, type NewExecution, prepareExecution } from "./execution-adding.ts";
import { endNow, inExecutions, requestCancel } from "./execution-groups.ts";
import {
  type Deduped,
  deadlines,
  dedupeKey,
  type ExecutionContext,
  type ExecutionTransaction,
  ended,
  executionKey,
  groupKey,
  idOf,
  leases,
  noSuchExecution,
  prefixes,
  recordOf,
  valueKey,
} from "./execution-layer.ts";
import { decodePosition, encodePosition, OUTPUT_READ_CHARS_MAX, readOutput } from "./execution-output.ts";
import { executionQueues, queueOf } from "./execution-queue.ts";
import { DEDUPE_TTL_MS, type ExecutionRecord, type ExecutionStatus, hasEnded } from "./execution-record.ts";
import { sessionKey } from "./session-layer.ts";

/** Most executions that one page looks at to find those that match. */
const LOOKED_AT_MAX = 1_000;
/** Most environments whose last queue a process remembers. */
const LAST_QUEUES_MAX = 100;

export interface ExecutionsOptions {
  readonly store: Store;
  readonly context: ExecutionContext;
  readonly clock: Clock;
  readonly random: Random;
  readonly sequence: SequenceSource;
}

export interface Waiting {
  /** 0 to WAIT_MS_MAX. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

export type Submitted = {
  readonly task: ExecutionRecord;
  /** The task was there before, under the same `dedupe` key. */
  readonly deduped: boolean;
};

export interface FollowOutput {
  readonly taskId: string;
  /** `next` of the answer before; from the beginning when absent. */
  readonly after?: string | undefined;
  /** 1 to OUTPUT_READ_CHARS_MAX, which is the default. */
  readonly limit?: number | undefined;
}

export type FollowedOutput = {
  readonly task: ExecutionRecord;
  /** In the order in which it came; of a task that ended before anybody could follow it, stdout before stderr. */
  readonly parts: readonly { readonly stream: "stdout" | "stderr"; readonly text: string }[];
  /** Where to go on. */
  readonly next: string;
  /** More is there already. */
  readonly more: boolean;
  /** The task has ended and all of its output was read. */
  readonly ended: boolean;
};

export interface ListExecutions {
  readonly status?: ExecutionStatus | undefined;
  /** Exactly this agent's. */
  readonly agentId?: string | undefined;
  readonly environment?: string | undefined;
  readonly batchId?: string | undefined;
  readonly sessionId?: string | undefined;
  /** 1 to PAGE_MAX. */
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export type ExecutionPage = { readonly tasks: ExecutionRecord[]; readonly nextCursor?: string };

export class Executions {
  readonly #options: ExecutionsOptions;
  /** Which queue's row the last task of an environment looked up: most likely the next one's too. */
  readonly #lastQueues = new Map<string, string>();

  constructor(options: ExecutionsOptions) {
    this.#options = options;
  }

  /**
   * Everything is checked before anything is queued.
   * @throws SwarmError invalid_argument, limit_exceeded, not_found (environment, artifact, session), permission_denied,
   *   failed_precondition (the session is over), conflict (`dedupe` stands for another task)
   */
  async submit(call: Call, input: NewExecution): Promise<Submitted> {
    const { context, random, sequence } = this.#options;
    const { caller } = call;
    const prepared = await prepareExecution(input, { random });
    const place = sequence.next();
    const dedupe = input.dedupe === undefined ? undefined : dedupeKey(caller.agentId, input.dedupe);
    await context.environments.ready(call.store);
    const keys = [context.environments.keyOf(input.environment), ...keysOf([prepared])];
    const guess = this.#lastQueues.get(input.environment);
    if (guess !== undefined) keys.push(guess);
    if (dedupe !== undefined) keys.push(dedupe);
    if (input.sessionId !== undefined) keys.push(sessionKey(input.sessionId), groupKey(input.sessionId));
    const submitted = await call.transact(
      (tx): Submitted =>
        inExecutions(tx, context, (executions) => {
          const known = dedupe === undefined ? undefined : sameTask(executions, dedupe, prepared.hash);
          if (known) return { task: known, deduped: true };
          const [task] = addExecutions(executions, [prepared], { caller, sequence: place });
          if (!task) throw new SwarmError("internal", "A task that was added is not there.");
          if (dedupe !== undefined) {
            tx.put(dedupe, { id: task.id, hash: prepared.hash } satisfies Deduped, { ttlMs: DEDUPE_TTL_MS });
          }
          return { task, deduped: false };
        }),
      { prefetch: { keys } },
    );
    if (this.#lastQueues.size >= LAST_QUEUES_MAX) this.#lastQueues.clear();
    this.#lastQueues.set(input.environment, executionQueues.key(queueOf(submitted.task)));
    return submitted;
  }

  /** The task with its value, as soon as it has ended or `waiting.waitMs` is over. @throws SwarmError not_found */
  async get(
    call: Pick<Call, "store">,
    { taskId }: { taskId: string },
    waiting: Waiting = { waitMs: 0 },
  ): Promise<ExecutionRecord> {
    const { store } = call;
    let latest: ExecutionRecord | undefined;
    const found = await waitFor({
      store,
      clock: this.#options.clock,
      prefixes: [executionKey(taskId)],
      ...waiting,
      attempt: async () => {
        latest = await readExecution(store, taskId);
        return hasEnded(latest.status) ? { value: latest } : {};
      },
    });
    const record = found ?? latest ?? (await readExecution(store, taskId));
    return await withValue(store, record);
  }

  /**
   * What a task wrote behind a place. Waits for more when there is none and it has not ended.
   * @throws SwarmError not_found, invalid_argument
   */
  async output(call: Pick<Call, "store">, input: FollowOutput, waiting: Waiting = { waitMs: 0 }): Promise<FollowedOutput> {
    const { store } = call;
    const { taskId, limit = OUTPUT_READ_CHARS_MAX } = input;
    if (!Number.isInteger(limit) || limit < 1 || limit > OUTPUT_READ_CHARS_MAX) {
      throw new SwarmError("invalid_argument", "limit is out of bounds.", { hint: `Use 1 to ${OUTPUT_READ_CHARS_MAX}.` });
    }
    const after = input.after === undefined ? undefined : decodePosition(input.after);
    const look = async (): Promise<FollowedOutput> => {
      const task = await readExecution(store, taskId);
      const { parts, next, more } = await readOutput(store, task, after, limit);
      return { task, parts, next: encodePosition(next), more, ended: hasEnded(task.status) && !more };
    };
    let latest: FollowedOutput | undefined;
    const found = await waitFor({
      store,
      clock: this.#options.clock,
      prefixes: [executionKey(taskId), prefixes.output(taskId)],
      ...waiting,
      attempt: async () => {
        latest = await look();
        return latest.parts.length > 0 || latest.ended ? { value: latest } : {};
      },
    });
    return found ?? latest ?? (await look());
  }

  /** The latest first; members of a batch or session in the order in which they were added. */
  async list(call: Pick<Call, "store">, filter: ListExecutions): Promise<ExecutionPage> {
    const { limit = PAGE_DEFAULT } = filter;
    if (!Number.isInteger(limit) || limit < 1 || limit > PAGE_MAX) {
      throw new SwarmError("invalid_argument", "limit is out of bounds.", { hint: `Use 1 to ${PAGE_MAX}.` });
    }
    const { status, agentId, environment, batchId, sessionId } = filter;
    const { prefix, reverse } = indexFor(filter);
    const scope = { list: JSON.stringify([status, agentId, environment, batchId, sessionId].map((one) => one ?? null)), prefix };
    const matches = (record: ExecutionRecord) =>
      (status === undefined || record.status === status) &&
      (agentId === undefined || record.agentId === agentId) &&
      (environment === undefined || record.environment === environment) &&
      (batchId === undefined || record.batchId === batchId) &&
      (sessionId === undefined || record.sessionId === sessionId);
    const page: ExecutionRecord[] = [];
    let after = filter.cursor === undefined ? undefined : decodeCursor(scope, filter.cursor);
    let more = true;
    for (let looked = 0; more && page.length < limit && looked < LOOKED_AT_MAX; ) {
      const size = Math.min(LOOKED_AT_MAX - looked, limit - page.length + 1);
      const range: KeyRange = prefixRange(prefix, size, { reverse, ...(after === undefined ? {} : { after }) });
      const entries = await call.store.scan(range);
      const records = await call.store.getMany(entries.map((entry) => executionKey(idOf(entry))));
      looked += entries.length;
      more = entries.length === size;
      for (const [at, entry] of records.entries()) {
        if (page.length === limit) {
          more = true;
          break;
        }
        after = entries[at]?.key;
        if (entry && matches(recordOf(entry))) page.push(recordOf(entry));
      }
    }
    return more && after !== undefined ? { tasks: page, nextCursor: encodeCursor(scope, after) } : { tasks: page };
  }

  /**
   * What waits is cancelled at once; what runs is killed, and is `cancelled` when its worker has said so: `get` with waitMs waits for
   * that. Of one that was cancelled before nothing changes.
   * @throws SwarmError not_found, failed_precondition (it ended otherwise)
   */
  async cancel(call: Call, { taskId }: { taskId: string }): Promise<{ task: ExecutionRecord }> {
    const task = await call.transact(
      (tx): ExecutionRecord =>
        inExecutions(tx, this.#options.context, (executions) => {
          const record = executions.get(taskId);
          if (record.status === "cancelled") return record;
          if (hasEnded(record.status)) {
            throw new SwarmError("failed_precondition", `Task ${taskId} has ended already: ${record.status}.`, {
              hint: "get_result has what came of it.",
            });
          }
          if (record.status === "running") return requestCancel(executions, record);
          return endNow(executions, record, { status: "cancelled" });
        }),
      { prefetch: { keys: [executionKey(taskId)] } },
    );
    return { task };
  }
}

/** The task that a `dedupe` key stands for, while it is open or when it succeeded. @throws SwarmError conflict */
function sameTask(executions: ExecutionTransaction, key: string, hash: string): ExecutionRecord | undefined {
  const known = executions.tx.get(key)?.value as Deduped | undefined;
  const record = known && executions.find(known.id);
  if (!record || (hasEnded(record.status) && record.status !== "succeeded")) return undefined;
  if (known.hash === hash) return record;
  throw new SwarmError("conflict", `This dedupe key stands for another task, ${record.id}.`, {
    hint: "Use another key for other code or input; a key is free again a day after its task, or when that did not succeed.",
    retryable: false,
  });
}

function indexFor({ status, agentId, batchId, sessionId }: ListExecutions): { prefix: string; reverse: boolean } {
  const group = batchId ?? sessionId;
  if (group !== undefined) return { prefix: prefixes.members(group), reverse: false };
  if (agentId !== undefined) return { prefix: prefixes.by(agentId), reverse: true };
  if (status === "running") return { prefix: leases.prefix, reverse: false };
  if (status === "queued") return { prefix: deadlines.prefix, reverse: false };
  if (status !== undefined && hasEnded(status)) return { prefix: ended.prefix, reverse: true };
  return { prefix: prefixes.all, reverse: true };
}

/** @throws SwarmError not_found */
export async function readExecution(store: Store, id: string): Promise<ExecutionRecord> {
  const entry = await store.get(executionKey(id));
  if (entry) return recordOf(entry);
  throw noSuchExecution(id);
}

async function withValue(store: Store, record: ExecutionRecord): Promise<ExecutionRecord> {
  const { result } = record;
  if (result?.valueBytes === undefined) return record;
  const value: Json | undefined = (await store.get(valueKey(record.id)))?.value;
  return value === undefined ? record : { ...record, result: { ...result, value } };
}
