import { ID_MAX } from "@mcp-swarm/core";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import {
  ARG_MAX,
  ARGS_MAX,
  CODE_BYTES_MAX,
  EXECUTION_STATUSES,
  FILE_PATH_MAX,
  INPUT_BYTES_MAX,
  INPUT_FILES_MAX,
  LABELS_MAX,
  STDIN_BYTES_MAX,
} from "../execution-record.ts";
import { ENVIRONMENT_NAME } from "../manifest.ts";
import { LIMIT_NAMES, type LimitName } from "../sandbox/driver.ts";

const { shared } = fields;

const MINTED = /^[a-z0-9][a-z0-9-]*$/;
/** Longest place in an output, in characters. */
const POSITION_MAX = 24;

// ── what callers say ──

/** An id that this server minted; errors repeat it, so it is plain. */
export const mintedId = shared(() =>
  z
    .string()
    .min(1)
    .max(ID_MAX)
    .refine((text) => MINTED.test(text), "must be an id that this server gave"),
);
export const environmentName = shared(() => z.string().regex(ENVIRONMENT_NAME));
export const code = shared(() => z.string().min(1).max(CODE_BYTES_MAX));
export const args = shared(() => z.array(z.string().max(ARG_MAX)).max(ARGS_MAX));
export const stdin = shared(() => z.string().max(STDIN_BYTES_MAX));
export const inputFile = shared(() =>
  z.strictObject({
    path: fields.text(FILE_PATH_MAX),
    text: z.string().max(INPUT_BYTES_MAX).exactOptional(),
    base64: z
      .string()
      .max(2 * INPUT_BYTES_MAX)
      .exactOptional(),
    artifactId: mintedId().exactOptional(),
  }),
);
export const inputFiles = shared(() => z.array(inputFile()).max(INPUT_FILES_MAX));
export const requires = shared(() =>
  z.strictObject({
    arch: z.string().min(1).max(16).exactOptional(),
    labels: z.array(fields.label()).max(LABELS_MAX).exactOptional(),
  }),
);
export const status = shared(() => z.enum(EXECUTION_STATUSES));
export const position = shared(() => z.string().min(1).max(POSITION_MAX));

// ── what they read ──

export const task = shared(() =>
  z.object({
    id: z.string(),
    status: status(),
    environment: z.string(),
    agentId: z.string(),
    priority: z.number(),
    attempt: z.number(),
    maxAttempts: z.number(),
    createdAt: z.number(),
    startedAt: z.number().exactOptional(),
    endedAt: z.number().exactOptional(),
    queueDeadlineAt: z.number().exactOptional(),
    cancelRequestedAt: z.number().exactOptional(),
    workerId: z.string().exactOptional(),
    sessionId: z.string().exactOptional(),
    batchId: z.string().exactOptional(),
    /** Why it did not run, or did not come to an end of its own. */
    because: z.string().exactOptional(),
    /** Why nobody has taken it yet. */
    waits: z.string().exactOptional(),
    requires: z.object({ arch: z.string().exactOptional(), labels: z.array(z.string()).exactOptional() }).exactOptional(),
  }),
);

export const outputFile = shared(() =>
  z.object({
    path: z.string(),
    artifactId: z.string(),
    uri: z.string(),
    bytes: z.number(),
    mimeType: z.string(),
    /** It is in this answer, as an image. */
    shown: z.literal(true).exactOptional(),
  }),
);

export const result = shared(() =>
  z.object({
    exitCode: z.number().exactOptional(),
    signal: z.string().exactOptional(),
    /** The limit at which it was killed. */
    limit: z.enum(LIMIT_NAMES).exactOptional(),
    /** How it ended, in words. */
    ended: z.string(),
    value: fields.json().exactOptional(),
    /** The beginning of the value's JSON, when it is too long for this answer. */
    valueText: z.string().exactOptional(),
    valueCutChars: z.number().exactOptional(),
    stdout: z.string(),
    stdoutLeftOutChars: z.number().exactOptional(),
    stdoutTail: z.string().exactOptional(),
    stderr: z.string(),
    stderrLeftOutChars: z.number().exactOptional(),
    stderrTail: z.string().exactOptional(),
    files: z.array(outputFile()),
    filesLeftOut: z.number().exactOptional(),
    wallMs: z.number(),
    cpuMs: z.number().exactOptional(),
    peakMemoryMiB: z.number().exactOptional(),
    cut: z
      .object({
        stdoutBytes: z.number().exactOptional(),
        stderrBytes: z.number().exactOptional(),
        valueBytes: z.number().exactOptional(),
        files: z.array(z.object({ path: z.string(), because: z.string() })).exactOptional(),
      })
      .exactOptional(),
  }),
);

export const enforcement = shared(() =>
  z.object({
    enforced: z.array(z.enum(LIMIT_NAMES)),
    watched: z.array(z.enum(LIMIT_NAMES)),
    none: z.array(z.enum(LIMIT_NAMES)),
  }),
);

const limits = shared(() =>
  z.object(Object.fromEntries(LIMIT_NAMES.map((name) => [name, z.number()])) as Record<LimitName, z.ZodNumber>),
);

export const environment = shared(() =>
  z.object({
    name: z.string(),
    description: z.string().exactOptional(),
    origin: z.enum(["builtin", "operator", "created"]),
    version: z.number(),
    runtime: z.string(),
    drivers: z.array(z.string()),
    limits: limits(),
    network: z.object({ mode: z.enum(["none", "hosts", "all"]), hosts: z.array(z.string()).exactOptional() }),
    session: z.enum(["none", "files", "state"]),
    mounts: z.array(z.object({ from: z.string(), to: z.string(), readOnly: z.boolean() })).exactOptional(),
    packages: z.array(z.string()).exactOptional(),
    env: z.array(z.string()).exactOptional(),
    image: z.string().exactOptional(),
    requires: z.object({ arch: z.string().exactOptional(), labels: z.array(z.string()).exactOptional() }).exactOptional(),
    createdBy: z.string().exactOptional(),
    createdAt: z.number().exactOptional(),
  }),
);

/** Where an environment runs, or why not. */
export const offer = shared(() =>
  z.object({
    workerId: z.string(),
    host: z.string(),
    available: z.boolean(),
    driver: z.string().exactOptional(),
    runtimeVersion: z.string().exactOptional(),
    limits: enforcement().exactOptional(),
    isolates: z.array(z.string()).exactOptional(),
    reason: z.string().exactOptional(),
  }),
);

export const worker = shared(() =>
  z.object({
    id: z.string(),
    name: z.string(),
    kind: z.enum(["server", "worker"]),
    host: z.string(),
    platform: z.string(),
    arch: z.string(),
    labels: z.array(z.string()),
    slots: z.number(),
    running: z.number(),
    startedAt: z.number(),
    seenAt: z.number(),
    environments: z.array(z.string()),
    unavailable: z.array(z.object({ environment: z.string(), reason: z.string() })),
    unavailableLeftOut: z.number().exactOptional(),
  }),
);
