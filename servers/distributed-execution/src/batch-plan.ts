/** A batch as it is handed over, checked as a whole and with its defaults in place, before anything of it is queued. Pure. */
import { checkGraph } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import type { Requires } from "./execution-record.ts";

export const BATCH_TASKS_MAX = 500;
/** Distinct code of all members, in bytes of UTF-8; code that several share counts once. */
export const BATCH_CODE_BYTES_MAX = 2 * 1024 * 1024;
/** Arguments, standard input and files by value of all members, in characters. */
export const BATCH_INPUT_CHARS_MAX = 4 * 1024 * 1024;
/** Members that one waits for, and edges of the whole graph. */
export const BATCH_DEPENDENCIES_MAX = BATCH_TASKS_MAX - 1;
export const BATCH_EDGES_MAX = 5_000;

/** What a member may say itself or leave to the defaults of its batch. All as of a single task; times in ms. */
export interface BatchFields {
  readonly code?: string | undefined;
  readonly environment?: string | undefined;
  readonly args?: readonly string[] | undefined;
  readonly stdin?: string | undefined;
  readonly files?: readonly BatchFile[] | undefined;
  readonly priority?: number | undefined;
  readonly timeout?: number | undefined;
  readonly queueTimeout?: number | undefined;
  readonly maxAttempts?: number | undefined;
  readonly requires?: Requires | undefined;
}

/** A file by value, by artifact, or `from` a member that ended before: the file `output` of its folder `out/`, by default of the same path. */
export interface BatchFile {
  readonly path: string;
  readonly text?: string | undefined;
  readonly base64?: string | undefined;
  readonly artifactId?: string | undefined;
  readonly from?: string | undefined;
  readonly output?: string | undefined;
}

export interface BatchTask extends BatchFields {
  /** Names it within the batch. */
  readonly key: string;
  /** Keys of members that must end before it. Whose files it takes are among them without being named. */
  readonly dependencies?: readonly string[] | undefined;
  /** `any`: it runs whatever came of them; otherwise only when all of them succeeded. */
  readonly after?: "success" | "any" | undefined;
}

/** A member with its defaults in place. */
export type PlannedMember = Omit<BatchFields, "code" | "environment"> & {
  readonly key: string;
  readonly code: string;
  readonly environment: string;
  readonly dependencies: readonly string[];
  readonly after: "success" | "any";
};

/**
 * What a member does not say itself comes from `defaults`, field by field.
 * @throws SwarmError invalid_argument naming the keys (a key twice, an unknown dependency, a cycle, no code), limit_exceeded
 */
export function planBatch(tasks: readonly BatchTask[], defaults: BatchFields = {}): PlannedMember[] {
  if (tasks.length === 0 || tasks.length > BATCH_TASKS_MAX) {
    throw new SwarmError("invalid_argument", `A batch holds 1 to ${BATCH_TASKS_MAX} tasks.`);
  }
  const keys = new Set(tasks.map(({ key }) => key));
  const members = tasks.map((task): PlannedMember => {
    const { dependencies, after = "success", ...own } = task;
    const { code = defaults.code, environment = defaults.environment, ...others } = own;
    const rest = withDefaults(others, defaults);
    if (code === undefined) throw missing(task.key, "code");
    if (environment === undefined) throw missing(task.key, "environment");
    return { ...rest, code, environment, dependencies: dependenciesOf({ ...rest, dependencies }, keys), after };
  });
  checkGraph(members.map(({ key, dependencies }) => ({ id: key, dependencies })));
  checkSizes(members);
  return members;
}

function withDefaults<T extends Omit<BatchFields, "code" | "environment">>(own: T, defaults: BatchFields): T {
  const { args, stdin, files, priority, timeout, queueTimeout, maxAttempts, requires } = defaults;
  return {
    ...own,
    args: own.args ?? args,
    stdin: own.stdin ?? stdin,
    files: own.files ?? files,
    priority: own.priority ?? priority,
    timeout: own.timeout ?? timeout,
    queueTimeout: own.queueTimeout ?? queueTimeout,
    maxAttempts: own.maxAttempts ?? maxAttempts,
    requires: own.requires ?? requires,
  };
}

function dependenciesOf({ key, dependencies = [], files = [] }: BatchTask, keys: ReadonlySet<string>): string[] {
  const named = new Set([...dependencies, ...files.flatMap(({ from }) => from ?? [])]);
  for (const dependency of named) {
    if (keys.has(dependency)) continue;
    throw new SwarmError("invalid_argument", `Task ${key} depends on ${dependency}, which is not in the batch.`, {
      hint: "Dependencies are keys of tasks of the same batch.",
    });
  }
  return [...named].sort();
}

function missing(key: string, field: "code" | "environment"): SwarmError {
  return new SwarmError("invalid_argument", `Task ${key} has no ${field}.`, {
    hint: `Give "${field}" in the task, or in "defaults" for all that name none.`,
  });
}

function checkSizes(members: readonly (BatchFields & { code: string; dependencies: readonly string[] })[]): void {
  let codeBytes = 0;
  for (const code of new Set(members.map((member) => member.code))) codeBytes += Buffer.byteLength(code);
  if (codeBytes > BATCH_CODE_BYTES_MAX) {
    throw new SwarmError("limit_exceeded", `The code of a batch is larger than ${BATCH_CODE_BYTES_MAX} bytes together.`, {
      hint: 'Give code that several tasks share once, in "defaults", with their own args; or submit several batches.',
    });
  }
  let chars = 0;
  for (const { args = [], stdin = "", files = [] } of members) {
    chars += stdin.length;
    for (const arg of args) chars += arg.length;
    for (const { text = "", base64 = "" } of files) chars += text.length + base64.length;
  }
  if (chars > BATCH_INPUT_CHARS_MAX) {
    throw new SwarmError("limit_exceeded", `The input of a batch is longer than ${BATCH_INPUT_CHARS_MAX} characters together.`, {
      hint: "Give what several tasks read as an artifact, by its artifactId; or submit several batches.",
    });
  }
  const edges = members.reduce((total, { dependencies }) => total + dependencies.length, 0);
  if (edges > BATCH_EDGES_MAX) {
    throw new SwarmError("limit_exceeded", `A batch has at most ${BATCH_EDGES_MAX} dependencies.`, {
      hint: "Let a task in between wait for many, and the many wait for that one.",
    });
  }
}
