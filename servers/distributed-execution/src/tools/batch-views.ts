/** Batches as a model reads them. */
import { cut, fields } from "@mcp-swarm/server";
import * as z from "zod";
import type { BatchGroup, BatchMember, Counts, Used } from "../batch-result.ts";
import type { BatchStanding } from "../batches.ts";
import type { ExecutionRecord } from "../execution-record.ts";
import { status } from "./schemas.ts";

/** At scale 1; a large batch shows less of each so that one answer holds it. */
const FAILURES_SHOWN = 20;
const GROUPS_SHOWN = 20;
const OUTPUT_SHOWN_CHARS = 300;
const VALUE_SHOWN_CHARS = 600;

const counts = fields.shared(() => z.record(z.string(), z.number()));
const used = fields.shared(() => ({
  elapsedMs: z.number(),
  busyMs: z.number(),
  wallMs: z.number(),
  cpuMs: z.number(),
  slots: z.number(),
  utilisation: z.number().exactOptional(),
}));
const ending = fields.shared(() => ({
  key: z.string(),
  taskId: z.string(),
  status: status(),
  failure: z.string().exactOptional(),
  exitCode: z.number().exactOptional(),
  signal: z.string().exactOptional(),
  limit: z.string().exactOptional(),
}));

export const batchView = fields.shared(() =>
  z.object({
    id: z.string(),
    name: z.string().exactOptional(),
    agentId: z.string(),
    ended: z.boolean(),
    tasks: z.number(),
    counts: counts(),
    ...used(),
    groups: z.array(
      z.object({
        environment: z.string(),
        arch: z.string().exactOptional(),
        labels: z.array(z.string()).exactOptional(),
        tasks: z.number(),
        counts: counts(),
        ...used(),
      }),
    ),
    groupsLeftOut: z.number().exactOptional(),
    failures: z.array(z.object(ending())),
    failuresLeftOut: z.number().exactOptional(),
    forgotten: z.number().exactOptional(),
  }),
);

export const memberResult = fields.shared(() =>
  z.object({
    ...ending(),
    value: fields.json().exactOptional(),
    stdout: z.string().exactOptional(),
    stderr: z.string().exactOptional(),
    files: z.number().exactOptional(),
    wallMs: z.number().exactOptional(),
    /** More than this is in get_result. */
    cut: z.literal(true).exactOptional(),
  }),
);

/** The summary at a scale: larger shows more failures and groups. */
export function summary({ batch, compiled, forgotten }: BatchStanding, scale: number): z.input<ReturnType<typeof batchView>> {
  const groups = compiled.groups.slice(0, Math.ceil(GROUPS_SHOWN * scale));
  const failures = compiled.failures.slice(0, Math.ceil(FAILURES_SHOWN * scale));
  const { groups: _groups, failures: _failures, ...figures } = compiled;
  return {
    id: batch.id,
    ...(batch.name === undefined ? {} : { name: batch.name }),
    agentId: batch.agentId,
    ...rounded(figures),
    groups: groups.map(groupView),
    ...leftOut("groupsLeftOut", compiled.groups.length - groups.length),
    failures: failures.map(endingOf),
    ...leftOut("failuresLeftOut", compiled.failures.length - failures.length),
    ...leftOut("forgotten", forgotten),
  };
}

function leftOut<N extends string>(name: N, count: number): { [K in N]?: number } {
  return (count > 0 ? { [name]: count } : {}) as { [K in N]?: number };
}

function groupView({ requires, counts, ...rest }: BatchGroup) {
  const { arch, labels } = requires;
  return {
    ...rounded(rest),
    counts: counts as Record<string, number>,
    ...(arch === undefined ? {} : { arch }),
    ...(labels === undefined ? {} : { labels: [...labels] }),
  };
}

function rounded<T extends Used & { readonly counts?: Counts }>(figures: T): T {
  return figures.utilisation === undefined
    ? figures
    : { ...figures, utilisation: Math.round(figures.utilisation * 1_000) / 1_000 };
}

function endingOf({ key, record }: BatchMember): z.input<z.ZodObject<ReturnType<typeof ending>>> {
  const { id: taskId, status, failure, result } = record;
  const how = result?.ending;
  return {
    ...{ key, taskId, status },
    ...(failure === undefined ? {} : { failure }),
    ...(how?.kind === "exit" ? { exitCode: how.code } : {}),
    ...(how?.kind === "signal" ? { signal: how.signal } : {}),
    ...(how?.kind === "limit" ? { limit: how.limit } : {}),
  };
}

/** What one member came to, at a scale; `get_result` shows it whole. */
export function resultOf(member: BatchMember, scale: number): z.input<ReturnType<typeof memberResult>> {
  const { result } = member.record;
  if (!result) return endingOf(member);
  const shownChars = Math.ceil(OUTPUT_SHOWN_CHARS * scale);
  const [stdout, stderr] = [shown(result.stdout, shownChars), shown(result.stderr, shownChars)];
  const value = valueAt(result, Math.ceil(VALUE_SHOWN_CHARS * scale));
  return {
    ...endingOf(member),
    ...(value.value === undefined ? {} : { value: value.value }),
    ...(stdout.text === "" ? {} : { stdout: stdout.text }),
    ...(stderr.text === "" ? {} : { stderr: stderr.text }),
    ...(result.files.length === 0 ? {} : { files: result.files.length }),
    wallMs: result.usage.wallMs,
    ...(stdout.cut || stderr.cut || value.cut || Object.keys(result.cut).length > 0 ? { cut: true as const } : {}),
  };
}

type Result = NonNullable<ExecutionRecord["result"]>;

function shown({ head, chars }: Result["stdout"], max: number): { text: string; cut: boolean } {
  const { text } = cut(head, max);
  return { text, cut: text.length < chars };
}

/** A value that is too long is left out: a part of JSON is none. */
function valueAt({ value, valueBytes }: Result, max: number): { value?: Result["value"]; cut: boolean } {
  if (valueBytes !== undefined) return { cut: true };
  if (value === undefined) return { cut: false };
  return JSON.stringify(value).length <= max ? { value, cut: false } : { cut: true };
}
