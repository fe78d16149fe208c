/** Batches: handed over as a whole, read as one result, called off. */
import { decodeCursor, encodeCursor, type SequenceSource, waitFor } from "@mcp-swarm/coordination";
import { assert, type Clock, newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, rootAgent } from "@mcp-swarm/identity";
import { ordered, prefixRange, type Store } from "@mcp-swarm/store";
import { addBatch, type BatchRecord, batchKey, noSuchBatch, readBatch } from "./batch-layer.ts";
import { BATCH_TASKS_MAX, type BatchFields, type BatchTask, type PlannedMember, planBatch } from "./batch-plan.ts";
import { type BatchCompiled, type BatchMember, compileBatch } from "./batch-result.ts";
import { addExecutions, keysOf, type PreparedExecution, prepareExecution, type SharedCode } from "./execution-adding.ts";
import { endMembers, inExecutions } from "./execution-groups.ts";
import { type ExecutionContext, executionKey, openPage, prefixes, recordOf } from "./execution-layer.ts";
import { executionQueues } from "./execution-queue.ts";

/** Records that one read fetches. */
const READ_AT_ONCE = 100;
/** Shorter code stands with each member that has it: a row of its own would cost each run more. */
const SHARED_CHARS_MIN = 1_024;
/** Longest name, in characters. */
export const BATCH_NAME_MAX = 120;

export interface SubmitBatch {
  readonly tasks: readonly BatchTask[];
  readonly defaults?: BatchFields | undefined;
  /** Most members that are queued or running at once; 1 to BATCH_TASKS_MAX, all when absent. */
  readonly maxConcurrency?: number | undefined;
  /** The first member that does not succeed ends the others. */
  readonly stopOnFailure?: boolean | undefined;
  readonly name?: string | undefined;
}

/** How a batch stands, and a page of what its members came to. */
export interface BatchStanding {
  readonly batch: BatchRecord;
  readonly compiled: BatchCompiled;
  /** Members that retention has removed already. */
  readonly forgotten: number;
  /** In the order they were given. */
  readonly page: readonly BatchMember[];
  /** Of the member at a place of the page: what goes on behind it; undefined behind the last of all. */
  cursorAfter(at: number): string | undefined;
}

export type SubmittedBatch = {
  readonly id: string;
  readonly tasks: number;
  readonly queued: number;
  /** By what they wait for, or because so many may be queued at once. */
  readonly blocked: number;
  readonly createdAt: number;
};

export interface BatchesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly context: ExecutionContext;
  readonly sequence: SequenceSource;
}

export class Batches {
  readonly #options: BatchesOptions;

  constructor(options: BatchesOptions) {
    this.#options = options;
  }

  /**
   * All of it or nothing: everything is checked before anything is queued.
   * @throws SwarmError invalid_argument and limit_exceeded naming the key, not_found (environment, artifact), permission_denied
   */
  async submit(call: Call, input: SubmitBatch): Promise<SubmittedBatch> {
    const { context, random, sequence } = this.#options;
    const { caller } = call;
    const { maxConcurrency, stopOnFailure = false, name } = input;
    checkSettings(input);
    const members = planBatch(input.tasks, input.defaults);
    const id = newId("batch", random);
    const ids = new Map(members.map(({ key }) => [key, newId("exec", random)]));
    const grouped = maxConcurrency !== undefined || stopOnFailure;
    const prepared = await prepareMembers(members, { batchId: id, ids, grouped, random });
    const place = sequence.next();
    await context.environments.ready(call.store);
    const environments = new Set(members.map(({ environment }) => context.environments.keyOf(environment)));
    return await call.transact(
      (tx): SubmittedBatch =>
        inExecutions(tx, context, (executions) => {
          if (grouped) {
            executions.putGroup(id, {
              ...(maxConcurrency === undefined ? {} : { limit: maxConcurrency }),
              active: 0,
              ...(stopOnFailure ? { stopOnFailure } : {}),
            });
          }
          const added = addExecutions(executions, prepared, { caller, sequence: place });
          addBatch(tx, {
            id,
            agentId: caller.agentId,
            ...(name === undefined ? {} : { name }),
            createdAt: tx.now,
            ...(maxConcurrency === undefined ? {} : { maxConcurrency }),
            ...(stopOnFailure ? { stopOnFailure } : {}),
            members: [...ids],
          });
          const queued = added.filter(({ status }) => status === "queued").length;
          return { id, tasks: added.length, queued, blocked: added.length - queued, createdAt: tx.now };
        }),
      { prefetch: { keys: [...environments, executionQueues.versionKey, ...keysOf(prepared)] } },
    );
  }

  /**
   * How it stands; with `waitMs` after its last member has ended, if that is in time.
   * @throws SwarmError not_found, invalid_argument
   */
  async get(
    call: Call,
    input: {
      readonly batchId: string;
      readonly limit?: number | undefined;
      readonly cursor?: string | undefined;
      readonly waitMs?: number | undefined;
    },
    waiting: { signal?: AbortSignal | undefined; onProgress?: ((waitedMs: number) => void) | undefined } = {},
  ): Promise<BatchStanding> {
    const { store } = call;
    const { batchId, limit = PAGE_DEFAULT, waitMs = 0 } = input;
    const batch = readBatchFrom(await store.get(batchKey(batchId)), batchId);
    const scope = { list: "batch", prefix: `${batchKey(batchId)}/` };
    const after = input.cursor === undefined ? -1 : Number(decodeCursor(scope, input.cursor).slice(scope.prefix.length));
    if (waitMs > 0) {
      const open = prefixRange(prefixes.open(batchId), 1);
      await waitFor<true>({
        store,
        clock: this.#options.clock,
        prefixes: [prefixes.open(batchId)],
        attempt: async () => ((await store.scan(open)).length === 0 ? { value: true } : {}),
        waitMs,
        ...waiting,
      });
    }
    const members = await readMembers(store, batch);
    const known = members.flatMap(({ key, record }) => (record ? [{ key, record }] : []));
    const page = members.slice(after + 1).flatMap(({ key, record }, n) => (record ? [{ key, record, at: after + 1 + n }] : []));
    const shown = page.slice(0, limit);
    return {
      batch,
      compiled: compileBatch(known, await store.now()),
      forgotten: members.length - known.length,
      page: shown,
      cursorAfter: (at) => {
        const member = shown[at];
        return member && member !== page.at(-1) ? encodeCursor(scope, `${scope.prefix}${ordered(member.at)}`) : undefined;
      },
    };
  }

  /**
   * Members that wait are cancelled at once, those that run are killed. Of a batch that has ended nothing changes.
   * @throws SwarmError not_found, permission_denied (another agent's)
   */
  async cancel(call: Call, { batchId }: { readonly batchId: string }): Promise<{ readonly open: number }> {
    return await call.transact(
      (tx) => {
        const batch = readBatch(tx, batchId);
        if (!batch) throw noSuchBatch(batchId);
        if (rootAgent(batch.agentId) !== rootAgent(call.caller.agentId)) {
          throw new SwarmError("permission_denied", `Batch ${batchId} is another agent's.`, {
            hint: "Only the agent that submitted a batch, its parent and its subagents cancel it.",
          });
        }
        return inExecutions(tx, this.#options.context, (executions) => ({
          open: endMembers(executions, batchId, { status: "cancelled" }),
        }));
      },
      { prefetch: { keys: [batchKey(batchId)], ranges: [openPage(batchId)] } },
    );
  }
}

function checkSettings({ maxConcurrency, name }: SubmitBatch): void {
  if (
    maxConcurrency !== undefined &&
    !(Number.isInteger(maxConcurrency) && maxConcurrency >= 1 && maxConcurrency <= BATCH_TASKS_MAX)
  ) {
    throw new SwarmError("invalid_argument", '"maxConcurrency" is out of bounds.', { hint: `Use 1 to ${BATCH_TASKS_MAX}.` });
  }
  if (name !== undefined && (name.length === 0 || name.length > BATCH_NAME_MAX)) {
    throw new SwarmError("invalid_argument", '"name" is out of bounds.', { hint: `Use 1 to ${BATCH_NAME_MAX} characters.` });
  }
}

/** Each checked by itself, with its dependencies as ids; code that several have is kept once. */
async function prepareMembers(
  members: readonly PlannedMember[],
  { batchId, ids, grouped, random }: { batchId: string; ids: ReadonlyMap<string, string>; grouped: boolean; random: Random },
): Promise<PreparedExecution[]> {
  const waitedFor = new Set(members.flatMap(({ dependencies }) => dependencies));
  const shared = sharedCode(members, batchId);
  const idOf = (key: string): string => {
    const id = ids.get(key);
    assert(id !== undefined, "a planned batch names its own keys");
    return id;
  };
  const prepared: PreparedExecution[] = [];
  for (const { key, dependencies, after, files, ...given } of members) {
    const membership = { batchId, grouped, waitsFor: dependencies.map(idOf), after, hasDependents: waitedFor.has(key) };
    const taken = files?.map((file) => (file.from === undefined ? file : { ...file, from: idOf(file.from) }));
    try {
      const options = { random, id: idOf(key), membership, shared: shared.get(given.code) };
      prepared.push(await prepareExecution({ ...given, files: taken }, options));
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      const { code, message, hint, retryable } = error;
      throw new SwarmError(code, `Task ${key}: ${message}`, {
        ...(hint === undefined ? {} : { hint }),
        retryable,
        cause: error.cause,
      });
    }
  }
  return prepared;
}

function sharedCode(members: readonly PlannedMember[], batchId: string): Map<string, SharedCode> {
  const times = new Map<string, number>();
  for (const { code } of members) times.set(code, (times.get(code) ?? 0) + 1);
  const several = [...times].filter(([code, count]) => count > 1 && code.length > SHARED_CHARS_MIN);
  return new Map(several.map(([code], at) => [code, { code, textId: `${batchId}-code${at}` }]));
}

function readBatchFrom(entry: { readonly value: unknown } | undefined, batchId: string): BatchRecord {
  if (!entry) throw noSuchBatch(batchId);
  return entry.value as BatchRecord;
}

async function readMembers(store: Pick<Store, "getMany">, { members }: BatchRecord) {
  const read: { key: string; record?: BatchMember["record"] }[] = [];
  for (let at = 0; at < members.length; at += READ_AT_ONCE) {
    const some = members.slice(at, at + READ_AT_ONCE);
    const entries = await store.getMany(some.map(([, id]) => executionKey(id)));
    for (const [n, [key]] of some.entries()) {
      const entry = entries[n];
      read.push(entry ? { key, record: recordOf(entry) } : { key });
    }
  }
  return read;
}
