/** Tasks on their way in: checked as far as they say themselves, then, in the commit that adds them, against what is there. */
import { createHash } from "node:crypto";
import { sequenceAt } from "@mcp-swarm/coordination";
import { type Json, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Caller, rootAgent } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import {
  addArtifact,
  artifactKey,
  findArtifact,
  type NewArtifact,
  newArtifact,
  noSuchArtifact,
  refer,
} from "./artifact-layer.ts";
import type { Environment } from "./environment.ts";
import { noSuchEnvironment } from "./environments.ts";
import { place, settle } from "./execution-groups.ts";
import {
  type Edge,
  type ExecutionTransaction,
  edgeKey,
  inputKey,
  prefixes,
  type StoredFile,
  type StoredInput,
  textRefKey,
} from "./execution-layer.ts";
import { storedText } from "./execution-output.ts";
import { executionQueues, QUEUES_MAX, queueOf } from "./execution-queue.ts";
import {
  ARG_MAX,
  ARGS_BYTES_MAX,
  ARGS_MAX,
  ATTEMPTS_DEFAULT,
  ATTEMPTS_MAX,
  CODE_BYTES_MAX,
  DEDUPE_MAX,
  type ExecutionRecord,
  INPUT_BYTES_MAX,
  INPUT_FILES_MAX,
  INPUT_WHOLE_BYTES_MAX,
  LABEL_LENGTH_MAX,
  LABELS_MAX,
  PRIORITY_DEFAULT,
  PRIORITY_MAX,
  QUEUE_MS_DEFAULT,
  QUEUE_MS_MAX,
  QUEUE_MS_MIN,
  type Requires,
  RUN_MS_DEFAULT,
  RUN_MS_MAX,
  RUN_MS_MIN,
  STDIN_BYTES_MAX,
} from "./execution-record.ts";
import { checkPaths, inputPath } from "./file-path.ts";
import { checkMcpTask, MCP_RUNTIME } from "./mcp/mcp-code.ts";
import { SESSION_OPEN_TASKS_MAX, usableSession } from "./session-layer.ts";

/** Longest text that stands in the input's own row, in UTF-16 units. */
const INLINE_CHARS = 24 * 1024;
/** Digits for the place among those that one call adds. */
const PLACE_DIGITS = 3;

/** Exactly one of `text`, `base64`, `artifactId`, `from`. */
export interface NewFile {
  readonly path: string;
  readonly text?: string | undefined;
  readonly base64?: string | undefined;
  readonly artifactId?: string | undefined;
  /** The id of a task that is waited for: its file `output`, by default of the same path. */
  readonly from?: string | undefined;
  readonly output?: string | undefined;
}

/** As a caller gives it; times in ms. */
export interface NewExecution {
  readonly code: string;
  readonly environment: string;
  readonly args?: readonly string[] | undefined;
  readonly stdin?: string | undefined;
  readonly files?: readonly NewFile[] | undefined;
  /** 0 to PRIORITY_MAX, 9 first. */
  readonly priority?: number | undefined;
  /** Run time. */
  readonly timeout?: number | undefined;
  /** How long it may wait for a worker. */
  readonly queueTimeout?: number | undefined;
  readonly maxAttempts?: number | undefined;
  readonly requires?: Requires | undefined;
  readonly sessionId?: string | undefined;
  readonly dedupe?: string | undefined;
}

/** What a batch says of a member besides. */
export interface Membership {
  readonly batchId: string;
  /** Whether the batch has a group row, which must be there already: `openGroup`. */
  readonly grouped: boolean;
  /** Ids of members of the same call that must end before. */
  readonly waitsFor: readonly string[];
  /** `any`: it runs whatever came of them. */
  readonly after: "success" | "any";
  readonly hasDependents: boolean;
}

/** Checked, with an id, and with its rows ready to be written. */
export interface PreparedExecution {
  readonly id: string;
  readonly given: NewExecution;
  readonly input: StoredInput;
  readonly rows: readonly { readonly key: string; readonly value: Json }[];
  readonly artifacts: readonly NewArtifact[];
  readonly codeBytes: number;
  readonly requires: Requires;
  /** Of everything that decides what it computes. */
  readonly hash: string;
  readonly membership?: Membership;
  /** Its code is kept once for several. */
  readonly shared: boolean;
}

/** Code that several tasks of one call share is kept once, under this name. */
export interface SharedCode {
  readonly code: string;
  readonly textId: string;
}

/**
 * Checks what a task says of itself, and makes its id and rows. Nothing is read or written.
 * @throws SwarmError invalid_argument, limit_exceeded
 */
export async function prepareExecution(
  given: NewExecution,
  {
    random,
    id = newId("exec", random),
    membership,
    shared,
  }: {
    random: Random;
    id?: string;
    membership?: Membership;
    shared?: SharedCode | undefined;
  },
): Promise<PreparedExecution> {
  const { code, args = [], stdin = "", files = [] } = given;
  const codeBytes = checkCode(code);
  checkArgs(args);
  checkText("stdin", stdin, STDIN_BYTES_MAX);
  checkNumbers(given);
  checkPaths(files.map(({ path }) => path));
  if (files.length > INPUT_FILES_MAX) throw outOfBounds("files", `at most ${INPUT_FILES_MAX} files`);
  const requires = checkRequires(given.requires ?? {});
  const artifacts: NewArtifact[] = [];
  const stored: StoredFile[] = [];
  let bytes = 0;
  for (const file of files) {
    const content = contentOf(file);
    if (content === undefined) {
      stored.push(elsewhere(file));
      continue;
    }
    bytes += content.length;
    if (bytes > INPUT_BYTES_MAX) throw outOfBounds("files", `at most ${INPUT_BYTES_MAX} bytes by value together`);
    const artifact = await newArtifact(newId("art", random), file.path, content);
    artifacts.push(artifact);
    stored.push({ path: file.path, artifactId: artifact.id });
  }
  const codeText = shared ? storedText(code, shared.textId, 0) : storedText(code, `${id}-code`, INLINE_CHARS);
  const stdinText = storedText(stdin, `${id}-stdin`, INLINE_CHARS);
  return {
    id,
    given,
    input: { code: codeText.stored, args, stdin: stdinText.stored, files: stored },
    rows: [...codeText.rows, ...stdinText.rows],
    artifacts,
    codeBytes,
    requires,
    hash: hashOf(given, requires, stored, artifacts),
    ...(membership ? { membership } : {}),
    shared: shared !== undefined,
  };
}

/** Keys that adding them reads. */
export function keysOf(prepared: readonly PreparedExecution[]): string[] {
  return prepared.flatMap(({ input }) =>
    input.files.flatMap((file) => ("artifactId" in file ? [artifactKey(file.artifactId)] : [])),
  );
}

/**
 * Adds them all, each queued or blocked. Pure, within a transaction.
 * @param sequence from `SequenceSource.next()`
 * @throws SwarmError not_found (environment, artifact, session), invalid_argument (a limit above the environment's),
 *   permission_denied, failed_precondition (the session is over), limit_exceeded
 */
export function addExecutions(
  executions: ExecutionTransaction,
  prepared: readonly PreparedExecution[],
  { caller, sequence }: { caller: Caller; sequence: string },
): ExecutionRecord[] {
  const { tx, now } = executions;
  const newQueues = new Set<string>();
  const rows = new Set<string>();
  for (const [at, one] of prepared.entries()) {
    const record = recordFor(executions, one, caller, sequenceAt(now, sequence + at.toString(36).padStart(PLACE_DIGITS, "0")));
    const fresh = executionQueues.key(queueOf(record));
    if (!newQueues.has(fresh) && !tx.get(fresh)) {
      newQueues.add(fresh);
      if (tx.scan(executionQueues.all).length >= QUEUES_MAX) throw tooManyQueues();
    }
    checkArtifacts(executions, one, caller);
    for (const { key, value } of one.rows) {
      if (!rows.has(key)) tx.put(key, value);
      rows.add(key);
    }
    for (const artifact of one.artifacts) addArtifact(tx, artifact, { agentId: caller.agentId, executionId: one.id });
    for (const file of one.input.files) if ("artifactId" in file) refer(tx, file.artifactId, one.id);
    const { code } = one.input;
    if (one.shared && typeof code !== "string") tx.put(textRefKey(code.textId, one.id), { id: one.id });
    tx.put(inputKey(one.id), one.input);
    for (const other of record.waitsFor ?? []) {
      tx.put(edgeKey(other, one.id), { id: one.id, after: one.membership?.after ?? "success" } satisfies Edge);
    }
    const added = executions.insert(record);
    if (added.status === "blocked" && !added.waitsFor) place(executions, added);
  }
  settle(executions);
  return prepared.map(({ id }) => executions.get(id));
}

function recordFor(executions: ExecutionTransaction, one: PreparedExecution, caller: Caller, seq: string): ExecutionRecord {
  const { now, tx } = executions;
  const { given, membership, input } = one;
  const environment = executions.context.environments.find(tx, given.environment);
  if (!environment) throw noSuchEnvironment(given.environment);
  if (environment.runtime === MCP_RUNTIME) checkMcpTask(given, executions.context.mcp);
  const session = given.sessionId === undefined ? undefined : sessionFor(executions, given.sessionId, caller, environment);
  const queueMs = given.queueTimeout ?? QUEUE_MS_DEFAULT;
  const waitsFor = membership?.waitsFor ?? [];
  const groupId = session?.id ?? (membership?.grouped ? membership.batchId : undefined);
  const takesFiles = input.files.some((file) => "from" in file);
  const free = waitsFor.length === 0 && groupId === undefined;
  return {
    id: one.id,
    status: free ? "queued" : "blocked",
    agentId: caller.agentId,
    environment: environment.name,
    environmentVersion: environment.version,
    requires: merged(environment.requires, session?.requires ?? {}, one.requires),
    priority: given.priority ?? PRIORITY_DEFAULT,
    runMs: runMs(given.timeout, environment),
    queueMs,
    maxAttempts: given.maxAttempts ?? ATTEMPTS_DEFAULT,
    createdAt: now,
    ...(free ? { readyAt: now, queueDeadlineAt: now + queueMs } : {}),
    seq,
    attempt: 0,
    spent: 0,
    ...(session ? { sessionId: session.id } : {}),
    ...(membership ? { batchId: membership.batchId } : {}),
    ...(groupId === undefined ? {} : { groupId }),
    ...(waitsFor.length === 0 ? {} : { waitsFor }),
    ...(membership?.hasDependents ? { hasDependents: true as const } : {}),
    ...(takesFiles ? { takesFiles: true as const } : {}),
    ...(given.dedupe === undefined ? {} : { dedupe: given.dedupe }),
    codeBytes: one.codeBytes,
  };
}

/** A session lets one task run at a time, and only its own agent's, in its own environment. */
function sessionFor(executions: ExecutionTransaction, sessionId: string, { agentId }: Caller, environment: Environment) {
  const { tx } = executions;
  const session = usableSession(tx, sessionId, agentId);
  if (session.environment !== environment.name || session.environmentVersion !== environment.version) {
    throw new SwarmError(
      "failed_precondition",
      `Session ${sessionId} is of environment ${session.environment} as it was when it began.`,
      {
        hint: "Name that environment; if it was changed since, begin another session with start_session.",
      },
    );
  }
  if (tx.scan(prefixRange(prefixes.open(sessionId), SESSION_OPEN_TASKS_MAX)).length >= SESSION_OPEN_TASKS_MAX) {
    throw new SwarmError("limit_exceeded", `Session ${sessionId} has ${SESSION_OPEN_TASKS_MAX} tasks that have not ended.`, {
      hint: "Wait for some of them with get_result first.",
    });
  }
  if (!executions.group(sessionId)) executions.putGroup(sessionId, { limit: 1, active: 0 });
  return session;
}

/** Run time when none is given: the default, or less where the environment allows less. */
function runMs(timeout: number | undefined, { name, limits }: Environment): number {
  if (timeout === undefined) return Math.min(RUN_MS_DEFAULT, limits.wallMs);
  if (timeout <= limits.wallMs) return timeout;
  throw new SwarmError("invalid_argument", `In environment ${name} a task runs for at most ${limits.wallMs} ms.`, {
    hint: "Use a shorter timeout, or an environment that allows for more: list_environments shows their limits.",
  });
}

function merged(...all: readonly Requires[]): Requires {
  const archs = new Set(all.flatMap(({ arch }) => arch ?? []));
  if (archs.size > 1) {
    throw new SwarmError("invalid_argument", "The environment, or the session, requires another architecture than the task.", {
      hint: "Leave requires.arch out.",
    });
  }
  const [arch] = archs;
  const labels = [...new Set(all.flatMap(({ labels = [] }) => labels))].sort();
  return { ...(arch === undefined ? {} : { arch }), ...(labels.length === 0 ? {} : { labels }) };
}

/** In a secured swarm an id alone opens nothing: another agent's file is not read by handing it to one's own code. */
function checkArtifacts(executions: ExecutionTransaction, { input, artifacts }: PreparedExecution, caller: Caller): void {
  const own = new Set(artifacts.map(({ id }) => id));
  let bytes = artifacts.reduce((sum, artifact) => sum + artifact.bytes, 0);
  for (const file of input.files) {
    if (!("artifactId" in file) || own.has(file.artifactId)) continue;
    const artifact = findArtifact(executions.tx, file.artifactId);
    if (!artifact) throw noSuchArtifact(file.artifactId);
    bytes += artifact.bytes;
    if (bytes > INPUT_WHOLE_BYTES_MAX) throw outOfBounds("files", `at most ${INPUT_WHOLE_BYTES_MAX} bytes together`);
    if (caller.verified && rootAgent(artifact.agentId) !== rootAgent(caller.agentId)) {
      throw new SwarmError("permission_denied", `Artifact ${file.artifactId} is another agent's.`, {
        hint: "Read it with get_artifact, if you may, and hand its content over by value.",
      });
    }
  }
}

function tooManyQueues(): SwarmError {
  return new SwarmError(
    "limit_exceeded",
    `There would be more than ${QUEUES_MAX} combinations of environment, architecture and labels.`,
    {
      hint: "Use an environment and requirements that other tasks have. Nothing was queued.",
    },
  );
}

// ── what a task says of itself ──

function outOfBounds(field: string, may: string): SwarmError {
  return new SwarmError("invalid_argument", `"${field}" is out of bounds.`, { hint: `Use ${may}.` });
}

/** Answers its length in bytes of UTF-8. */
function checkCode(code: string): number {
  if (code.trim() === "")
    throw new SwarmError("invalid_argument", "There is no code.", { hint: 'Give what is to run as "code".' });
  if (code.includes("\0") || !code.isWellFormed()) {
    throw new SwarmError("invalid_argument", "The code is no text: it holds NUL characters or broken Unicode.", {
      hint: "Hand over source code; give a program or other binary content as a file with base64.",
    });
  }
  const bytes = Buffer.byteLength(code);
  if (bytes <= CODE_BYTES_MAX) return bytes;
  throw new SwarmError("limit_exceeded", `The code has ${bytes} bytes; at most ${CODE_BYTES_MAX} are taken.`, {
    hint: "Give data as files, and keep the code to what is to run.",
  });
}

function checkText(field: string, text: string, bytesMax: number): void {
  if (text.includes("\0") || !text.isWellFormed()) {
    throw new SwarmError("invalid_argument", `"${field}" holds NUL characters or broken Unicode.`, {
      hint: "Give binary content as a file with base64.",
    });
  }
  if (Buffer.byteLength(text) > bytesMax) throw outOfBounds(field, `at most ${bytesMax} bytes`);
}

function checkArgs(args: readonly string[]): void {
  if (args.length > ARGS_MAX || args.some((arg) => arg.length > ARG_MAX)) {
    throw outOfBounds("args", `at most ${ARGS_MAX} arguments of at most ${ARG_MAX} characters`);
  }
  checkText("args", args.join(""), ARGS_BYTES_MAX);
}

function checkNumbers({ priority, timeout, queueTimeout, maxAttempts, dedupe }: NewExecution): void {
  const whole = (field: string, value: number | undefined, min: number, max: number) => {
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
    throw outOfBounds(field, `${min} to ${max}`);
  };
  whole("priority", priority, 0, PRIORITY_MAX);
  whole("timeout", timeout, RUN_MS_MIN, RUN_MS_MAX);
  whole("queueTimeout", queueTimeout, QUEUE_MS_MIN, QUEUE_MS_MAX);
  whole("maxAttempts", maxAttempts, 1, ATTEMPTS_MAX);
  if (
    dedupe !== undefined &&
    (dedupe.length === 0 || dedupe.length > DEDUPE_MAX || dedupe.includes("\0") || !dedupe.isWellFormed())
  ) {
    throw outOfBounds("dedupe", `1 to ${DEDUPE_MAX} characters`);
  }
}

const LABEL = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,${LABEL_LENGTH_MAX - 1}}$`);

function checkRequires({ arch, labels = [] }: Requires): Requires {
  const wrong = labels.length > LABELS_MAX || [...labels, ...(arch === undefined ? [] : [arch])].some((one) => !LABEL.test(one));
  if (wrong)
    throw outOfBounds("requires", `at most ${LABELS_MAX} labels of letters, digits and . _ : / -, and an arch such as x64`);
  return merged({ ...(arch === undefined ? {} : { arch }), labels });
}

/** Of a file by value. @throws SwarmError invalid_argument */
function contentOf({ path, text, base64, artifactId, from }: NewFile): Buffer | undefined {
  if ([text, base64, artifactId, from].filter((one) => one !== undefined).length !== 1) {
    throw new SwarmError("invalid_argument", "A file needs exactly one source.", {
      hint: 'Give it "text", "base64" or "artifactId".',
    });
  }
  inputPath(path);
  if (text !== undefined) {
    if (!text.isWellFormed())
      throw new SwarmError("invalid_argument", "The text of a file holds broken Unicode.", { hint: "Use base64." });
    return Buffer.from(text);
  }
  if (base64 === undefined) return undefined;
  const bytes = Buffer.from(base64, "base64");
  if (bytes.toString("base64").replace(/=+$/, "") !== base64.replace(/\s+/g, "").replace(/=+$/, "")) {
    throw new SwarmError("invalid_argument", "The base64 of a file is not whole.", {
      hint: "Use standard base64, without line breaks inside.",
    });
  }
  return bytes;
}

function elsewhere({ path, artifactId, from, output }: NewFile): StoredFile {
  if (artifactId !== undefined) return { path, artifactId };
  return { path, from: from ?? "", output: output ?? path };
}

function hashOf(
  given: NewExecution,
  requires: Requires,
  files: readonly StoredFile[],
  artifacts: readonly NewArtifact[],
): string {
  const sums = new Map(artifacts.map(({ id, sha256 }) => [id, sha256]));
  const { environment, code, args = [], stdin = "", sessionId = null, timeout = null } = given;
  const { arch = null, labels = [] } = requires;
  const sources = files.map((file) =>
    "artifactId" in file ? [file.path, sums.get(file.artifactId) ?? file.artifactId] : [file.path, file.from, file.output],
  );
  const text = JSON.stringify([environment, code, args, stdin, sources, arch, labels, sessionId, timeout]);
  return createHash("sha256").update(text).digest("base64url").slice(0, 22);
}
