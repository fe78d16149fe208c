/** Tasks, results, environments and workers as a model reads them: short, with what was left out said and a way to read it. */
import type { Json } from "@mcp-swarm/core";
import { cut, fit } from "@mcp-swarm/server";
import type * as z from "zod";
import type { Environment, Offer } from "../environment.ts";
import type { ExecutionRecord, Failure, OutputText } from "../execution-record.ts";
import { type Capabilities, type Enforcement, LIMIT_NAMES, type LimitName, type Limits } from "../sandbox/driver.ts";
import type { WorkerRow } from "../worker/worker-row.ts";
import type * as schemas from "./schemas.ts";

/** At the scale of an answer that is not too long; an answer begins at four times as much. */
const STREAM_CHARS = 2_000;
const VALUE_CHARS = 2_500;
const FILES = 16;
const OFFERS = 4;
const REASON_CHARS = 300;
const UNAVAILABLE = 5;

/** What code, or whoever handed it over, wrote of a task and of its result. */
export const UNTRUSTED_IN_TASK = ["task.waits"];
export const UNTRUSTED_IN_RESULT = [
  ...["value", "valueText", "stdout", "stdoutTail", "stderr", "stderrTail", "files", "cut.files"].map((name) => `result.${name}`),
];

type Output<S extends () => z.ZodType> = z.input<ReturnType<S>>;

/** `waits`: why nobody has taken it yet, where that is known. */
export function taskView(record: ExecutionRecord, waits?: string): Output<typeof schemas.task> {
  const { id, status, environment, agentId, priority, attempt, maxAttempts, createdAt, requires, worker, failure } = record;
  const { startedAt, endedAt, queueDeadlineAt, cancelRequestedAt, sessionId, batchId } = record;
  const asked = requires.arch !== undefined || requires.labels !== undefined;
  return {
    ...{ id, status, environment, agentId, priority, attempt, maxAttempts, createdAt },
    ...defined({
      ...{ startedAt, endedAt, queueDeadlineAt, cancelRequestedAt, workerId: worker?.workerId, sessionId, batchId },
      because: (failure && [WHY_FAILED[failure], record.failureReason].filter(Boolean).join(" ")) ?? WHY[status],
      waits,
      requires: asked ? { ...requires, ...(requires.labels ? { labels: [...requires.labels] } : {}) } : undefined,
    }),
  } as Output<typeof schemas.task>;
}

const WHY_FAILED: Readonly<Record<Failure, string>> = {
  worker_lost:
    "Each worker that ran it died before it ended, as often as maxAttempts allows. What it did before that may have happened.",
  sandbox: "No worker could start a sandbox for it, as often as maxAttempts allows.",
  dependency: "A task that it depends on did not succeed, or left no file that it takes.",
  session_lost: "The session's worker is gone, and its state with it. Begin another session.",
  environment_gone: "Its environment was deleted while it waited.",
};
const WHY: Partial<Readonly<Record<ExecutionRecord["status"], string>>> = {
  blocked: "It waits for other tasks of its batch or session.",
  expired: "No worker took it before its queueTimeout was over.",
};

/** What came out. `limits`: of its environment, where they are known. `shown`: artifacts that are in the answer as images. */
export function resultView(
  record: ExecutionRecord,
  limits: Limits | undefined,
  shown: ReadonlySet<string>,
  scale: number,
): Output<typeof schemas.result> | undefined {
  const { result } = record;
  if (!result) return undefined;
  const { ending, usage, files, cut: lost } = result;
  const listed = files.slice(0, Math.ceil(FILES * scale));
  return {
    ...(ending.kind === "exit" ? { exitCode: ending.code } : {}),
    ...(ending.kind === "signal" ? { signal: ending.signal } : {}),
    ...(ending.kind === "limit" ? { limit: ending.limit } : {}),
    ended: inWords(record, limits),
    ...valueView(result.value, result.valueBytes, scale),
    ...streamView("stdout", result.stdout, scale),
    ...streamView("stderr", result.stderr, scale),
    files: listed.map(({ path, artifactId, bytes, mimeType }) => ({
      ...{ path, artifactId, uri: artifactUri(artifactId), bytes, mimeType },
      ...(shown.has(artifactId) ? { shown: true as const } : {}),
    })),
    ...(listed.length < files.length ? { filesLeftOut: files.length - listed.length } : {}),
    wallMs: usage.wallMs,
    ...defined({ cpuMs: usage.cpuMs, peakMemoryMiB: usage.peakMemoryMiB }),
    ...(Object.keys(lost).length === 0 ? {} : { cut: cutView(lost, scale) }),
  };
}

export function artifactUri(artifactId: string): string {
  return `artifact://${artifactId}`;
}

function valueView(value: Json | undefined, bytes: number | undefined, scale: number): Partial<Output<typeof schemas.result>> {
  if (value === undefined) return bytes === undefined ? {} : { valueCutChars: bytes };
  const text = JSON.stringify(value);
  const { text: beginning, cutChars } = cut(text, Math.ceil(VALUE_CHARS * scale));
  return cutChars === undefined ? { value } : { valueText: beginning, valueCutChars: cutChars };
}

function streamView(
  name: "stdout" | "stderr",
  { head, tail, chars }: OutputText,
  scale: number,
): { stdout: string; stderr: string } {
  const most = Math.ceil(STREAM_CHARS * scale);
  const whole = tail === undefined;
  if (whole && head.length <= 2 * most) return { [name]: head } as { stdout: string; stderr: string };
  const beginning = cut(head, most).text;
  const end = fromEnd(tail ?? head.slice(beginning.length), most);
  const view = {
    [name]: beginning,
    [`${name}LeftOutChars`]: chars - beginning.length - end.length,
    [`${name}Tail`]: end,
  };
  return view as { stdout: string; stderr: string };
}

/** The last `max` units, or one less where the first would be half a character. */
function fromEnd(text: string, max: number): string {
  const end = text.slice(-max);
  const first = end.charCodeAt(0);
  return first >= 0xdc00 && first <= 0xdfff ? end.slice(1) : end;
}

function cutView({ files, ...bytes }: NonNullable<ExecutionRecord["result"]>["cut"], scale: number) {
  const named = files?.slice(0, Math.ceil(FILES * scale)).map(({ path, because }) => ({ path, because }));
  return { ...bytes, ...(named ? { files: named } : {}) };
}

const LIMIT_WORDS: Readonly<Record<LimitName, (amount: number) => string>> = {
  wallMs: (amount) => `after ${amount} ms of running time (timeout)`,
  cpuMs: (amount) => `after ${amount} ms of processor time`,
  memoryMiB: (amount) => `at ${amount} MiB of memory`,
  processes: (amount) => `at ${amount} processes`,
  outputBytes: (amount) => `at ${amount} bytes of output`,
  fileBytes: (amount) => `at ${amount} bytes in one file`,
  diskBytes: (amount) => `at ${amount} bytes of files together`,
  files: (amount) => `at ${amount} files`,
};

/** How a run ended, as a sentence. */
export function inWords({ result, runMs, status }: ExecutionRecord, limits: Limits | undefined): string {
  const ending = result?.ending;
  switch (ending?.kind) {
    case "exit":
      return ending.code === 0 ? "It ended by itself." : `It ended by itself with exit code ${ending.code}.`;
    case "signal":
      return `It was ended by the signal ${ending.signal}, which was not ours.`;
    case "limit": {
      const amount = ending.limit === "wallMs" ? runMs : limits?.[ending.limit];
      return amount === undefined
        ? `It was killed at its limit ${ending.limit}.`
        : `It was killed ${LIMIT_WORDS[ending.limit](amount)}: its limit ${ending.limit}.`;
    }
    default:
      return status === "cancelled" ? "It was killed because it was cancelled." : "It was killed by its worker.";
  }
}

export function environmentView(environment: Environment): Output<typeof schemas.environment> {
  const { name, description, origin, version, runtime, drivers, limits, network, session, createdBy, createdAt } = environment;
  const { mounts, packages, env, options, requires } = environment;
  const some = <T>(list: readonly T[]): T[] | undefined => (list.length === 0 ? undefined : [...list]);
  return {
    ...{ name, origin, version, runtime, drivers: [...drivers], limits, session },
    network: { ...network, ...(network.mode === "hosts" ? { hosts: [...network.hosts] } : {}) },
    ...defined({
      description,
      mounts: some(mounts),
      packages: some(packages),
      env: some(Object.keys(env)),
      image: options.image,
      requires: requires.arch === undefined && requires.labels === undefined ? undefined : requires,
      ...{ createdBy, createdAt },
    }),
  } as Output<typeof schemas.environment>;
}

/** Where an environment runs: workers that have it first. What the drivers isolate is told when `details` are asked for. */
export function offersView(
  { name }: Pick<Environment, "name">,
  workers: readonly WorkerRow[],
  { details, scale }: { details: boolean; scale: number },
): { workers: Output<typeof schemas.offer>[]; workersLeftOut?: number; notTriedBy?: number } {
  const found = workers
    .flatMap((row) => row.offers.filter((one) => one.environment === name).map((one) => ({ row, one })))
    .sort((a, b) => Number(b.one.available) - Number(a.one.available));
  const shown = found.slice(0, Math.ceil((details ? 4 : 1) * OFFERS * scale));
  return {
    workers: shown.map(({ row, one }) => offerView(row, one, details, scale)),
    ...(shown.length < found.length ? { workersLeftOut: found.length - shown.length } : {}),
    ...(found.length < workers.length ? { notTriedBy: workers.length - found.length } : {}),
  };
}

function offerView(row: WorkerRow, one: Offer, details: boolean, scale: number): Output<typeof schemas.offer> {
  const where = { workerId: row.id, host: row.host, available: one.available };
  if (!one.available) return { ...where, reason: cut(one.reason, Math.ceil(REASON_CHARS * scale)).text };
  const probe = row.drivers[one.driver];
  const capabilities = probe?.available ? probe.capabilities : undefined;
  return {
    ...where,
    driver: one.driver,
    ...(one.runtimeVersion === "" ? {} : { runtimeVersion: one.runtimeVersion }),
    ...(capabilities ? { limits: enforcementView(capabilities) } : {}),
    ...(capabilities && details ? { isolates: [...capabilities.isolates] } : {}),
  };
}

function enforcementView({ limits }: Capabilities): { enforced: LimitName[]; watched: LimitName[]; none: LimitName[] } {
  const held = (how: Enforcement) => LIMIT_NAMES.filter((name) => limits[name] === how);
  return { enforced: held("enforced"), watched: held("watched"), none: held("none") };
}

export function workerView(row: WorkerRow, scale: number): Output<typeof schemas.worker> {
  const { id, name, kind, host, platform, arch, labels, slots, running, startedAt, seenAt } = row;
  const offers = row.offers.toSorted((a, b) => (a.environment < b.environment ? -1 : 1));
  const unavailable = offers.flatMap((one) => (one.available ? [] : [{ environment: one.environment, reason: one.reason }]));
  const told = unavailable.slice(0, Math.ceil(UNAVAILABLE * scale));
  return {
    ...{ id, name, kind, host, platform, arch, labels: [...labels], slots, running, startedAt, seenAt },
    environments: offers.flatMap((one) => (one.available ? [one.environment] : [])),
    unavailable: told.map(({ environment, reason }) => ({
      environment,
      reason: cut(reason, Math.ceil(REASON_CHARS * scale)).text,
    })),
    ...(told.length < unavailable.length ? { unavailableLeftOut: unavailable.length - told.length } : {}),
  };
}

/** A page of a list that is at hand, as many items as fit into an answer: `key` is what its cursor stands for. */
export function pageOf<T, V>(
  items: readonly T[],
  view: (item: T) => V,
  { limit, after, key }: { limit: number; after: string | undefined; key: (item: T) => string },
): { shown: V[]; last?: string } {
  const rest = after === undefined ? items : items.filter((item) => key(item) > after);
  const shown = fit(rest.slice(0, limit).map(view));
  const last = rest[shown.length - 1];
  return shown.length < rest.length && last !== undefined ? { shown, last: key(last) } : { shown };
}

type Defined<T> = { [Name in keyof T as undefined extends T[Name] ? never : Name]: T[Name] } & {
  [Name in keyof T as undefined extends T[Name] ? Name : never]?: Exclude<T[Name], undefined>;
};

/** Without the members that are undefined. */
function defined<T extends object>(view: T): Defined<T> {
  return Object.fromEntries(Object.entries(view).filter(([, value]) => value !== undefined)) as Defined<T>;
}
