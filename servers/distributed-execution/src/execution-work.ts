/** Where a worker's runs come from and go to: the queue in the store. */
import { TextDecoder } from "node:util";
import { type HeldLease, type Holdings, type KnownQueues, type LeaseKeeper, waitFor } from "@mcp-swarm/coordination";
import { assert, type Clock, newId, type Random } from "@mcp-swarm/core";
import { type Entry, prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import {
  ARTIFACT_BYTES_MAX,
  addArtifact,
  type NewArtifact,
  newArtifact,
  PENDING_MS,
  pendingArtifacts,
  putChunks,
} from "./artifact-layer.ts";
import { Artifacts } from "./artifacts.ts";
import type { Environment } from "./environment.ts";
import { endNow, inExecutions, settle } from "./execution-groups.ts";
import {
  type ExecutionContext,
  type ExecutionTransaction,
  executionKey,
  idOf,
  inputKey,
  type OutputPart,
  prefixes,
  type StoredInput,
} from "./execution-layer.ts";
import {
  claimRun,
  finishRun,
  giveBackRun,
  type Holding,
  heldRun,
  loseRun,
  renewRun,
  wasFinished,
} from "./execution-lifecycle.ts";
import { outputText, PART_CHARS, pieces, putParts, readText, type StreamName } from "./execution-output.ts";
import { type ExecutionQueue, executionQueues, mayServe, queueName } from "./execution-queue.ts";
import { type ExecutionRecord, OUTPUT_KEPT_CHARS, type RunResult, VALUE_KEPT_BYTES } from "./execution-record.ts";
import type { Cut } from "./sandbox/driver.ts";
import {
  type ClaimedRun,
  DEMANDS_MAX,
  type Demand,
  type Finished,
  type WorkerProfile,
  type WorkSource,
} from "./worker/work-source.ts";

/** Most queued executions that one claim looks at when those in front turn out to be over. */
const LOOKED_AT_MAX = 32;
/** Under an execution's key, behind its queue and rank: its place and its id. */
const SHARED_SEGMENTS = 2;
/** What the commit that ends a run writes of its files and output; more goes ahead of it, in commits of their own. */
const ENDING_BYTES_MAX = 1024 * 1024;
/** Rows of files, and characters of output, that one commit writes ahead. */
const CHUNKS_AHEAD = 4;
const OUTPUT_CHARS_AHEAD = 4 * PART_CHARS;
/** How far apart two looks at what was cancelled are at least, in ms: a flood of commits wakes as often as one that matters. */
const CANCEL_LOOK_GAP_MS = 25;
/** And when the look before failed. */
const CANCEL_RETRY_MS = 1_000;
/** Cancelled runs that one look finds. */
const CANCELS_MAX = 200;

export interface ExecutionWorkOptions {
  readonly store: Store;
  readonly context: ExecutionContext;
  readonly clock: Clock;
  readonly random: Random;
  readonly keeper: LeaseKeeper;
  /** The keeper's. */
  readonly leaseMs: number;
  /** Told of a failed look at what was cancelled; the next wake looks again. */
  readonly onError: (error: unknown, message: string) => void;
}

interface Claimed {
  readonly record: ExecutionRecord;
  readonly input: StoredInput;
  readonly environment: Environment;
}

/** What a process knows of a run that it holds. */
interface Held {
  readonly holding: Holding;
  readonly kill: AbortController;
  /** Its lease is over, or may be: what it came to says how it was killed, not how the code ends. */
  lost: boolean;
  readonly decoders: Readonly<Record<StreamName, TextDecoder>>;
  /** Bytes of each stream that were decoded. */
  readonly taken: Record<StreamName, number>;
  /** Decoded, and not in the store yet. */
  pending: OutputPart[];
  /** Characters that are in the store. */
  written: number;
  /** Once its files were made ready, so that a repeated `finish` makes them no second time. */
  files?: PreparedFiles;
}

interface PreparedFiles {
  readonly artifacts: readonly NewArtifact[];
  /** When those that were written ahead are forgotten, by id. */
  readonly ahead: ReadonlyMap<string, number>;
  readonly refused: NonNullable<Cut["files"]>;
}

interface Picked {
  readonly claimed?: Claimed;
  readonly changed: boolean;
}

export class ExecutionWork implements WorkSource {
  readonly #options: ExecutionWorkOptions;
  readonly #artifacts: Artifacts;
  readonly #holdings: Holdings;
  readonly #held = new Map<string, Held>();
  #queues: KnownQueues<ExecutionQueue> | undefined;
  /** The last claim found others. They are read before the next one: what was claimed must not be left behind by a read that fails. */
  #queuesChanged = false;
  /** Where the last run came from: most likely where the next comes from. */
  #lastPrefix: string | undefined;
  #cancelWatch: Disposable | undefined;
  #cancelTimer: Disposable | undefined;

  /** Once for each keeper. */
  constructor(options: ExecutionWorkOptions) {
    this.#options = options;
    this.#artifacts = new Artifacts(options.store);
    this.#holdings = options.keeper.keep({
      name: "executions",
      lapses: true,
      renew: (tx, lease, expiresAt) => this.#renew(tx, lease, expiresAt),
      release: (tx, lease) => this.#release(tx, lease),
      onLost: ({ id, token }) => {
        const held = this.#held.get(id);
        if (held?.holding.attempt !== token) return;
        held.lost = true;
        held.kill.abort();
      },
    });
  }

  async demand(): Promise<readonly Demand[]> {
    const { store } = this.#options;
    const { queues } = await this.#readQueues();
    const heads = await Promise.all(queues.map((queue) => store.scan(prefixRange(readyPrefix(queue), 1))));
    const demands = queues.filter((_, at) => (heads[at]?.length ?? 0) > 0).map(({ opensSession: _, ...queue }) => queue);
    return demands.slice(0, DEMANDS_MAX);
  }

  onDemand(wake: () => void): Disposable {
    return this.#options.store.watch(prefixes.ready, wake);
  }

  async next(
    profile: WorkerProfile,
    { waitMs, signal }: { waitMs: number; signal: AbortSignal },
  ): Promise<ClaimedRun | undefined> {
    if (signal.aborted) return undefined;
    const { store, clock } = this.#options;
    try {
      const claimed = await waitFor<Claimed>({
        store,
        clock,
        prefixes: [prefixes.ready],
        waitMs,
        signal,
        attempt: async () => {
          // of many that are woken most find nothing, and whoever just ended a run found that nothing comes next: they look before
          // they take part in writing
          if (!(await this.#mayFind(profile))) return {};
          const found = await this.#claim(profile);
          return found ? { value: found } : {};
        },
      });
      return claimed && (await this.#begin(claimed, profile));
    } catch (error) {
      if (signal.aborted && error === signal.reason) return undefined;
      throw error;
    }
  }

  async output(run: ClaimedRun, chunks: readonly { stream: StreamName; bytes: Uint8Array }[]): Promise<void> {
    const held = this.#heldOf(run);
    if (!held) return;
    for (const { stream, bytes } of chunks) take(held, stream, bytes);
    await this.#writePending(held, 0);
  }

  async finish(run: ClaimedRun, outcome: Finished, next?: WorkerProfile): Promise<{ accepted: boolean; next?: ClaimedRun }> {
    const { store, context } = this.#options;
    const held = this.#heldOf(run);
    const ending = held && !held.lost ? await this.#prepare(held, outcome) : undefined;
    const known = next && (await this.#knownQueues());
    const { accepted, picked } = await store.transact(
      (tx) =>
        inExecutions(tx, context, (executions) => {
          const accepted = ending !== undefined && end(executions, ending);
          settle(executions);
          return { accepted, picked: next ? this.#pick(executions, next, known) : undefined };
        }),
      {
        prefetch: {
          keys: [executionKey(run.record.id), ...(next ? [executionQueues.versionKey] : [])],
        },
      },
    );
    this.abandon(run);
    if (picked?.changed) this.#queuesChanged = true;
    if (!picked?.claimed || !next) return { accepted };
    try {
      return { accepted, next: await this.#begin(picked.claimed, next) };
    } catch (error) {
      this.#options.onError(error, "A task that was taken along with the end of another could not be begun"); // that end stands
      return { accepted };
    }
  }

  async giveBack(run: ClaimedRun, failure?: "sandbox" | "session_lost", reason?: string): Promise<void> {
    const { store, context } = this.#options;
    const held = this.#heldOf(run);
    if (!held) return;
    await store.transact((tx) =>
      inExecutions(tx, context, (executions) => {
        const record = heldRun(executions, held.holding);
        if (!record) return;
        if (failure === undefined) giveBackRun(executions, record);
        else loseRun(executions, record, "sandbox", reason);
      }),
    );
    this.abandon(run);
  }

  abandon(run: Pick<ClaimedRun, "record">): void {
    const { id, attempt } = run.record;
    this.#holdings.drop(id, attempt);
    if (this.#heldOf(run)) this.#held.delete(id);
    if (this.#held.size > 0) return;
    for (const one of [this.#cancelWatch, this.#cancelTimer]) one?.[Symbol.dispose]();
    this.#cancelWatch = undefined;
    this.#cancelTimer = undefined;
  }

  // ── claiming ──

  async #readQueues(): Promise<KnownQueues<ExecutionQueue>> {
    this.#queuesChanged = false;
    this.#queues = await executionQueues.read(this.#options.store, this.#queues);
    return this.#queues;
  }

  async #knownQueues(): Promise<KnownQueues<ExecutionQueue>> {
    return this.#queues && !this.#queuesChanged ? this.#queues : await this.#readQueues();
  }

  async #mayFind(profile: WorkerProfile): Promise<boolean> {
    const { queues } = await this.#readQueues();
    for (const queue of queues) {
      if (!mayServe(profile, queue)) continue;
      if ((await this.#options.store.scan(prefixRange(readyPrefix(queue), 1))).length > 0) return true;
    }
    return false;
  }

  async #claim(profile: WorkerProfile): Promise<Claimed | undefined> {
    const { store, context } = this.#options;
    const known = await this.#knownQueues();
    const picked = await store.transact(
      (tx) => inExecutions(tx, context, (executions) => this.#pick(executions, profile, known)),
      { prefetch: { keys: [executionQueues.versionKey] } },
    );
    if (picked.changed) this.#queuesChanged = true;
    return picked.claimed;
  }

  /** The first in order over all queues that it may take from, claimed. */
  #pick(executions: ExecutionTransaction, profile: WorkerProfile, known: KnownQueues<ExecutionQueue> | undefined): Picked {
    const { tx, context } = executions;
    const { leaseMs } = this.#options;
    const first = this.#lastPrefix;
    const head = (prefix: string) => tx.pick(prefixRange(prefix, 1), SHARED_SEGMENTS);
    // asked before all else, so that an engine across a network fetches it and what it leads to along with the hints
    const firstHead = first === undefined ? undefined : head(first);
    const { queues, changed } = executionQueues.in(tx, known);
    const heads: { prefix: string; entry: Entry }[] = [];
    for (const queue of queues) {
      if (!mayServe(profile, queue)) continue;
      const prefix = readyPrefix(queue);
      const entry = prefix === first ? firstHead : head(prefix);
      if (entry) heads.push({ prefix, entry });
    }
    for (let looked = 0; looked < LOOKED_AT_MAX; looked++) {
      const best = heads.reduce<(typeof heads)[number] | undefined>((a, b) => (a && place(a) <= place(b) ? a : b), undefined);
      if (!best) break;
      const record = executions.get(idOf(best.entry));
      const environment = context.environments.find(tx, record.environment);
      if (environment?.version !== record.environmentVersion) {
        endNow(executions, record, { status: "failed", failure: "environment_gone" });
      } else {
        const claimed = claimRun(executions, record, { workerId: profile.workerId, leaseMs });
        if (claimed) {
          const input = tx.get(inputKey(record.id))?.value as StoredInput | undefined;
          assert(input !== undefined, "an open execution has its input");
          return { claimed: { record: claimed, input, environment }, changed };
        }
      }
      const [following] = tx.scan(prefixRange(best.prefix, 1, { after: best.entry.key }));
      if (following) best.entry = following;
      else heads.splice(heads.indexOf(best), 1);
    }
    return { changed };
  }

  /** What it needs is read, and its lease is renewed from now on; when that fails it is given back, or else its lease ends it. */
  async #begin({ record, input, environment }: Claimed, { workerId }: WorkerProfile): Promise<ClaimedRun> {
    const { store } = this.#options;
    this.#lastPrefix = record.boundTo === undefined && record.sessionId === undefined ? this.#prefixOf(record) : undefined;
    const holding: Holding = { id: record.id, attempt: record.attempt, workerId };
    const kill = new AbortController();
    const held: Held = {
      holding,
      kill,
      lost: false,
      decoders: { stdout: new TextDecoder(), stderr: new TextDecoder() },
      taken: { stdout: 0, stderr: 0 },
      pending: [],
      written: 0,
    };
    this.#held.set(record.id, held);
    const run = { record, environment, signal: kill.signal };
    try {
      this.#holdings.hold({ id: record.id, token: record.attempt });
      this.#watchCancels();
      const [code, stdin] = await Promise.all([readText(store, input.code), readText(store, input.stdin)]);
      const files = input.files.map((file) => {
        assert("artifactId" in file, "a queued execution has its files");
        return file;
      });
      const contents: Uint8Array[] = [];
      for (const { artifactId } of files) contents.push((await this.#artifacts.whole(artifactId, ARTIFACT_BYTES_MAX)).bytes);
      return { ...run, input: { code, stdin, args: input.args, files }, contents };
    } catch (error) {
      try {
        await this.giveBack({ ...run, input: { code: "", stdin: "", args: [], files: [] }, contents: [] }, "sandbox");
      } finally {
        this.abandon(run);
      }
      throw error;
    }
  }

  #prefixOf(record: ExecutionRecord): string {
    const { environment, environmentVersion: version, requires } = record;
    return readyPrefix({ environment, version, requires });
  }

  // ── holding ──

  #heldOf({ record }: Pick<ClaimedRun, "record">): Held | undefined {
    const held = this.#held.get(record.id);
    return held?.holding.attempt === record.attempt ? held : undefined;
  }

  #holdingOf({ id, token }: HeldLease): Holding | undefined {
    const holding = this.#held.get(id)?.holding;
    return holding?.attempt === token ? holding : undefined;
  }

  #renew(tx: Transaction, lease: HeldLease, expiresAt: number): boolean {
    const holding = this.#holdingOf(lease);
    return inExecutions(tx, this.#options.context, (executions) => {
      const record = holding && heldRun(executions, holding);
      if (record) renewRun(executions, record, expiresAt);
      return record !== undefined;
    });
  }

  #release(tx: Transaction, lease: HeldLease): void {
    const holding = this.#holdingOf(lease);
    inExecutions(tx, this.#options.context, (executions) => {
      const record = holding && heldRun(executions, holding);
      if (record) giveBackRun(executions, record);
    });
  }

  #watchCancels(): void {
    this.#cancelWatch ??= this.#options.store.watch("exec-cancel/", () => this.#lookSoon());
    this.#lookSoon(); // it may have been cancelled before the watch began
  }

  #lookSoon(afterMs = CANCEL_LOOK_GAP_MS): void {
    if (this.#cancelTimer || this.#held.size === 0) return;
    this.#cancelTimer = this.#options.clock.timer(afterMs, () => {
      this.#cancelTimer = undefined;
      this.#killCancelled().catch((error: unknown) => {
        this.#options.onError(error, "What was cancelled could not be looked at; it is tried again");
        this.#lookSoon(CANCEL_RETRY_MS);
      });
    });
  }

  async #killCancelled(): Promise<void> {
    for (const workerId of new Set([...this.#held.values()].map(({ holding }) => holding.workerId))) {
      const rows = await this.#options.store.scan(prefixRange(prefixes.cancelled(workerId), CANCELS_MAX));
      for (const row of rows) {
        const held = this.#held.get(idOf(row));
        if (held?.holding.workerId === workerId) held.kill.abort();
      }
    }
  }

  // ── what came out ──

  /** Writes what is pending while it is more than `keep` characters; false when the run is not this worker's any more. */
  async #writePending(held: Held, keep: number): Promise<boolean> {
    const { store, context } = this.#options;
    while (held.pending.length > 0 && charsOf(held.pending) > keep) {
      const parts = firstOf(held.pending, OUTPUT_CHARS_AHEAD);
      const at = { attempt: held.holding.attempt, chars: held.written };
      const written = await store.transact((tx) =>
        inExecutions(tx, context, (executions) =>
          heldRun(executions, held.holding) ? putParts(tx, held.holding.id, at, parts) : undefined,
        ),
      );
      if (written === undefined) return false;
      held.written = written;
      held.pending = held.pending.slice(parts.length);
    }
    return true;
  }

  async #prepare(held: Held, outcome: Finished): Promise<Ending> {
    const { stdout, stderr } = outcome;
    for (const [stream, bytes] of [
      ["stdout", stdout],
      ["stderr", stderr],
    ] as const) {
      take(held, stream, bytes.subarray(held.taken[stream]), true);
    }
    const texts = { stdout: decoded(stdout), stderr: decoded(stderr) };
    const fits = held.written === 0 && Object.values(texts).every(({ length }) => length <= 2 * OUTPUT_KEPT_CHARS);
    if (!fits) await this.#writePending(held, ENDING_BYTES_MAX / 4);
    held.files ??= await this.#prepareFiles(held, outcome);
    const { artifacts, refused } = held.files;
    const valueBytes = outcome.value === undefined ? 0 : Buffer.byteLength(JSON.stringify(outcome.value));
    const kept = valueBytes <= VALUE_KEPT_BYTES;
    const cutFiles = [...(outcome.cut.files ?? []), ...refused];
    const result: RunResult = {
      ending: outcome.ending,
      ...(outcome.value === undefined ? {} : kept ? { value: outcome.value } : { valueBytes }),
      stdout: outputText(texts.stdout),
      stderr: outputText(texts.stderr),
      ...(fits ? {} : { outputKept: true as const }),
      usage: outcome.usage,
      files: artifacts.map(({ id, name, bytes, sha256, mimeType }) => ({ path: name, artifactId: id, bytes, sha256, mimeType })),
      cut: { ...outcome.cut, ...(cutFiles.length > 0 ? { files: cutFiles } : {}) },
    };
    return {
      holding: held.holding,
      result,
      ...(kept ? {} : { value: outcome.value }),
      parts: fits ? [] : held.pending,
      written: held.written,
      files: held.files,
    };
  }

  async #prepareFiles(held: Held, { files }: Finished): Promise<PreparedFiles> {
    const artifacts: NewArtifact[] = [];
    const refused: { path: string; because: string }[] = [];
    const ahead = new Map<string, number>();
    let bytes = 0;
    for (const file of files) {
      if (file.bytes.length > ARTIFACT_BYTES_MAX) {
        refused.push({ path: file.path, because: `it has more than ${ARTIFACT_BYTES_MAX} bytes` });
        continue;
      }
      const artifact = await newArtifact(newId("art", this.#options.random), file.path, file.bytes);
      artifacts.push(artifact);
      bytes += artifact.bytes;
      if (bytes > ENDING_BYTES_MAX) ahead.set(artifact.id, await this.#writeAhead(held, artifact));
    }
    return { artifacts, ahead, refused };
  }

  /** The rows of a file before anything refers to it; answers until when they wait for that. */
  async #writeAhead(held: Held, artifact: NewArtifact): Promise<number> {
    const { store, context } = this.#options;
    let due = 0;
    for (let at = 0; at < Math.max(1, artifact.chunks); at += CHUNKS_AHEAD) {
      const begunAt = due;
      due = await store.transact((tx) =>
        inExecutions(tx, context, (executions) => {
          const until = begunAt || tx.now + PENDING_MS;
          if (!heldRun(executions, held.holding)) return until; // nobody will refer to it
          pendingArtifacts.put(tx, until, artifact.id);
          putChunks(tx, artifact, at, Math.min(artifact.chunks, at + CHUNKS_AHEAD));
          return until;
        }),
      );
    }
    return due;
  }
}

/** All that the commit of an end writes. */
interface Ending {
  readonly holding: Holding;
  readonly result: RunResult;
  readonly value?: Finished["value"];
  readonly parts: readonly OutputPart[];
  readonly written: number;
  readonly files: PreparedFiles;
}

/** False when the run is not this worker's any more. */
function end(executions: ExecutionTransaction, { holding, result, value, parts, written, files }: Ending): boolean {
  const record = heldRun(executions, holding);
  if (!record) return wasFinished(executions, holding);
  const { tx } = executions;
  putParts(tx, record.id, { attempt: record.attempt, chars: written }, parts);
  for (const artifact of files.artifacts) {
    const { agentId, id: executionId } = record;
    addArtifact(tx, artifact, { agentId, executionId, ahead: files.ahead.get(artifact.id) });
  }
  finishRun(executions, record, { result, value });
  return true;
}

function readyPrefix(queue: ExecutionQueue): string {
  return prefixes.readyIn(queueName(queue));
}

function place({ prefix, entry }: { prefix: string; entry: Entry }): string {
  return entry.key.slice(prefix.length);
}

/** Decodes bytes of a stream behind those that were taken before, in pieces that fit rows. */
function take(held: Held, stream: StreamName, bytes: Uint8Array, last = false): void {
  held.taken[stream] += bytes.length;
  const text = held.decoders[stream].decode(bytes, { stream: !last });
  for (const piece of pieces(text, PART_CHARS)) held.pending.push({ stream, text: piece });
}

function decoded(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function charsOf(parts: readonly OutputPart[]): number {
  return parts.reduce((sum, { text }) => sum + text.length, 0);
}

/** At least one. */
function firstOf(parts: readonly OutputPart[], charsMax: number): OutputPart[] {
  const taken: OutputPart[] = [];
  let chars = 0;
  for (const part of parts) {
    chars += part.text.length;
    if (taken.length > 0 && chars > charsMax) break;
    taken.push(part);
  }
  return taken;
}
