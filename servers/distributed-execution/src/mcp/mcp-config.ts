/**
 * The part of the operator's file that names other MCP servers (`mcpServers`) and what tasks may have them do (`profiles`). Values may say
 * `${env:NAME}`: they are taken from the worker's own environment when a server is started, and stand nowhere else.
 */
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { mistake, problemsOf } from "../operator-file.ts";
import { BUILTIN_PROFILES } from "./builtin-profiles.ts";
import { missing, placeholders } from "./template.ts";

export const SERVERS_MAX = 50;
export const PROFILES_MAX = 50;
export const OPERATIONS_MAX = 50;
/** Calls that one operation consists of, each of which may go over a list. */
export const STEPS_MAX = 16;
/** Most elements of a list that one step goes over. */
export const FOR_EACH_MAX = 64;
/** How long a server may take until it speaks the protocol, in ms: `npx` may have to download it. */
const START_MS_DEFAULT = 60_000;
const START_MS_MAX = 600_000;
/** Longest that one task may keep a server, in ms; the task's own timeout may be shorter. */
const CALL_MS_DEFAULT = 300_000;
const CALL_MS_MAX = 3_600_000;
/** Longest that a server is kept for the next task, in ms. */
const WARM_MS_MAX = 3_600_000;
const CONCURRENCY_MAX = 64;
const TEXT_MAX = 8_192;
const LIST_MAX = 64;

/** Names of servers, profiles, operations and steps; plain, so that errors may show them. */
export const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
/** Names of tools, as the protocol has them. */
export const TOOL = /^[A-Za-z0-9_.\-/]{1,128}$/;
const ENVIRONMENT_VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;
const HEADER = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
const ALL_TOOLS = "*";

export interface ServerTerms {
  /** Tools that a task may name itself; a profile's operations may call theirs besides. */
  readonly tools: readonly string[];
  readonly startMs: number;
  readonly callMs: number;
  /** Tasks that it works on at once, each with a connection of its own; others wait. */
  readonly concurrency: number;
  /** 0: each task gets a fresh server, and nothing of one reaches the next. */
  readonly keepWarmMs: number;
}
export type StdioServer = ServerTerms & {
  readonly command: string;
  readonly args: readonly string[];
  /** All of its environment besides PATH. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
};
export type HttpServer = ServerTerms & { readonly url: string; readonly headers: Readonly<Record<string, string>> };
export type McpServer = StdioServer | HttpServer;

export interface Step {
  /** Under which later templates find what it brought: `steps.<name>`; its number from 0 when it has no name. */
  readonly name?: string;
  readonly server: string;
  readonly tool: string;
  readonly arguments: JsonObject;
  /** A template that gives a list: one call for each element, and a list of what they brought. */
  readonly forEach?: string;
}
export interface Operation {
  readonly description?: string;
  readonly steps: readonly Step[];
  /** What comes of it; what the last step brought when absent. */
  readonly result?: Json;
}
export interface Profile {
  readonly operations: ReadonlyMap<string, Operation>;
}

export interface McpConfig {
  readonly servers: ReadonlyMap<string, McpServer>;
  readonly profiles: ReadonlyMap<string, Profile>;
}

const name = () => z.string().regex(NAME);
const text = () => z.string().max(TEXT_MAX);
const ms = (max: number) => z.int().min(0).max(max);
const json = () => z.custom<Json>((value) => value !== undefined);

const terms = () => ({
  tools: z
    .array(z.union([z.literal(ALL_TOOLS), z.string().regex(TOOL)]))
    .max(LIST_MAX)
    .default([]),
  startMs: ms(START_MS_MAX).default(START_MS_DEFAULT),
  callMs: ms(CALL_MS_MAX).default(CALL_MS_DEFAULT),
  concurrency: z.int().min(1).max(CONCURRENCY_MAX).default(1),
  keepWarmMs: ms(WARM_MS_MAX).default(0),
});
const stdioServer = () =>
  z.strictObject({
    command: text().min(1),
    args: z.array(text()).max(LIST_MAX).default([]),
    env: z.record(z.string().regex(ENVIRONMENT_VARIABLE), text()).default({}),
    cwd: text().exactOptional(),
    ...terms(),
  });
const httpServer = () =>
  z.strictObject({ url: text().min(1), headers: z.record(z.string().regex(HEADER), text()).default({}), ...terms() });

const operation = () =>
  z.strictObject({
    description: text().exactOptional(),
    steps: z
      .array(
        z.strictObject({
          name: name().exactOptional(),
          server: name().exactOptional(),
          tool: z.string().regex(TOOL),
          arguments: z.record(z.string(), json()).default({}),
          forEach: text().exactOptional(),
        }),
      )
      .min(1)
      .max(STEPS_MAX),
    result: json().exactOptional(),
  });
/** An operation as it is written. */
export type OperationInput = z.input<ReturnType<typeof operation>>;

const profile = () =>
  z.strictObject({
    /** Of the steps that name none. */
    server: name(),
    uses: z.string().exactOptional(),
    operations: z.record(name(), operation()).default({}),
  });

/** One server, for those who need to reach just one. @throws SwarmError invalid_argument */
export function parseServer(input: Json, place: string): McpServer {
  const object = typeof input === "object" && input !== null && !Array.isArray(input) ? (input as JsonObject) : {};
  // by the field that tells them apart, so that what is wrong is said of the right one
  const parsed = ("url" in object ? httpServer() : stdioServer()).safeParse(input, { jitless: true });
  if (!parsed.success) throw mistake(problemsOf(parsed.error).map((problem) => `${place}: ${problem}`));
  return parsed.data as McpServer;
}

/**
 * @param file what stands in the operator's file
 * @throws SwarmError invalid_argument saying what is wrong, and where
 */
export function parseMcpConfig(file: { readonly mcpServers?: Json; readonly profiles?: Json }): McpConfig {
  const servers = named(file.mcpServers, "mcpServers", SERVERS_MAX).map(
    ([key, value]) => [key, parseServer(value, `mcpServers.${key}`)] as const,
  );
  const byName = new Map(servers);
  const profiles = named(file.profiles, "profiles", PROFILES_MAX).map(
    ([key, value]) => [key, parseProfile(value, key, byName)] as const,
  );
  return { servers: byName, profiles: new Map(profiles) };
}

/** The same of a file that may say nothing of it: undefined then, and a process with such a file knows no better than one without. */
export function mcpConfigOf(file: { readonly mcpServers?: Json; readonly profiles?: Json }): McpConfig | undefined {
  return file.mcpServers === undefined && file.profiles === undefined ? undefined : parseMcpConfig(file);
}

function named(value: Json | undefined, place: string, max: number): (readonly [string, Json])[] {
  if (value === undefined) return [];
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw mistake([`"${place}": not an object`]);
  const entries = Object.entries(value).flatMap(([key, one]) => (one === undefined ? [] : [[key, one] as const]));
  if (entries.length > max) throw mistake([`"${place}": more than ${max}`]);
  const odd = entries.findIndex(([key]) => !NAME.test(key));
  if (odd >= 0) throw mistake([`"${place}": entry ${odd + 1} has a name that is not up to 64 letters, digits, _ and -`]);
  return entries;
}

function parseProfile(input: Json, key: string, servers: ReadonlyMap<string, McpServer>): Profile {
  const place = `profiles.${key}`;
  const parsed = profile().safeParse(input, { jitless: true });
  if (!parsed.success) throw mistake(problemsOf(parsed.error).map((problem) => `${place}: ${problem}`));
  const { server, uses, operations: own } = parsed.data;
  if (uses !== undefined && !Object.hasOwn(BUILTIN_PROFILES, uses)) {
    throw mistake([`${place}: "uses" names none of ${Object.keys(BUILTIN_PROFILES).join(", ")}`]);
  }
  const builtin = uses === undefined ? {} : (BUILTIN_PROFILES[uses] ?? {});
  const operations = Object.entries({ ...builtin, ...own }).map(([operationName, written]) => {
    const at = `${place}.operations.${operationName}`;
    return [operationName, parseOperation(operation().parse(written), server, servers, at)] as const;
  });
  if (operations.length === 0) throw mistake([`${place}: it has no operations`]);
  if (operations.length > OPERATIONS_MAX) throw mistake([`${place}: more than ${OPERATIONS_MAX} operations`]);
  return { operations: new Map(operations) };
}

function parseOperation(
  { steps, ...rest }: z.output<ReturnType<typeof operation>>,
  server: string,
  servers: ReadonlyMap<string, McpServer>,
  place: string,
): Operation {
  const whole = steps.map((step) => ({ ...step, server: step.server ?? server }));
  const unknown = whole.find((step) => !servers.has(step.server));
  if (unknown) throw mistake([`${place}: there is no ${unknown.server} in "mcpServers"`]);
  try {
    for (const step of whole) placeholders([step.arguments, step.forEach ?? ""]);
    placeholders(rest.result ?? null);
  } catch (error) {
    if (error instanceof SwarmError) throw mistake([`${place}: ${error.message}`], error.hint);
    throw error;
  }
  return { steps: whole, ...rest };
}

export function isHttp(server: McpServer): server is HttpServer {
  return "url" in server;
}

export function mayCall(server: McpServer, tool: string): boolean {
  return server.tools.includes(tool) || server.tools.includes(ALL_TOOLS);
}

/** Names that are bound while an operation runs. */
export const STEP_NAMES = ["steps", "item", "number", "total", "more"] as const;

/** What an operation needs and is not there: paths such as `parameters.query`. */
export function missingFor({ steps, result }: Operation, scope: Readonly<Record<string, Json | undefined>>): string[] {
  const templates: Json[] = [...steps.flatMap((step) => [step.arguments, step.forEach ?? ""]), result ?? null];
  return [...new Set(missing(templates, scope, STEP_NAMES))];
}
