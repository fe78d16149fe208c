/** What a task for the environment `mcp` has as its code: which tool of which server, or which operation of which profile, with what. */
import { JSON_DEPTH_MAX, type JsonObject, SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { type McpConfig, mayCall, missingFor, NAME, type Operation, TOOL } from "./mcp-config.ts";
import { missingValue, type Scope } from "./template.ts";

/** The runtime of environments whose code is a call. */
export const MCP_RUNTIME = "mcp";
/** Largest code of this kind, in characters. */
export const MCP_CODE_CHARS_MAX = 512 * 1024;

export type McpCode =
  | { readonly server: string; readonly tool: string; readonly arguments: JsonObject }
  | { readonly profile: string; readonly operation: string; readonly parameters: JsonObject };

const EXAMPLE =
  'Write {"server":"files","tool":"read_file","arguments":{"path":"a.txt"}}, or {"profile":"research","operation":"verify_facts","parameters":{"query":"…"}}.';

const object = () => z.custom<JsonObject>((value) => typeof value === "object" && value !== null && !Array.isArray(value));
const codeSchema = () =>
  z.union([
    z.strictObject({ server: z.string().regex(NAME), tool: z.string().regex(TOOL), arguments: object().default({}) }),
    z.strictObject({ profile: z.string().regex(NAME), operation: z.string().regex(NAME), parameters: object().default({}) }),
  ]);

/**
 * Reads the code of a task; with the operator's file of this process, also whether it may be done.
 * @param config undefined in a process without an operator's file: only the shape is judged then
 * @throws SwarmError invalid_argument (not such JSON, or a parameter is missing), not_found (no such server, profile or operation),
 *   permission_denied (the operator does not let tasks call this tool)
 */
export function checkMcpCode(code: string, config?: McpConfig): McpCode {
  const read = parseCode(code);
  if (config) operationOf(read, config);
  return read;
}

/** What a task brings besides its code. */
interface Besides {
  readonly args?: readonly unknown[] | undefined;
  readonly stdin?: string | undefined;
  readonly files?: readonly unknown[] | undefined;
}

/**
 * A whole task for an environment whose runtime is `mcp`.
 * @throws SwarmError as checkMcpCode does; invalid_argument when it has more than code
 */
export function checkMcpTask({ code, args = [], stdin = "", files = [] }: { code: string } & Besides, config?: McpConfig): void {
  if (args.length > 0 || stdin !== "" || files.length > 0) {
    throw new SwarmError("invalid_argument", "A task for the environment mcp has code alone: no files, args or stdin.", {
      hint: "Say it all in the arguments of the call.",
    });
  }
  checkMcpCode(code, config);
}

function parseCode(code: string): McpCode {
  if (code.length > MCP_CODE_CHARS_MAX) throw shapeless(`it is longer than ${MCP_CODE_CHARS_MAX} characters`);
  let json: unknown;
  try {
    json = JSON.parse(code);
  } catch {
    throw shapeless("it is not JSON"); // what the parser says repeats the code
  }
  if (nestsTooDeep(json)) throw shapeless(`it is nested deeper than ${JSON_DEPTH_MAX}`);
  const parsed = codeSchema().safeParse(json, { jitless: true });
  if (!parsed.success) throw shapeless("it names neither a server with a tool nor a profile with an operation");
  return parsed.data;
}

function shapeless(because: string): SwarmError {
  return new SwarmError("invalid_argument", `The code of a task for the environment mcp is a call in JSON; ${because}.`, {
    hint: EXAMPLE,
  });
}

function nestsTooDeep(value: unknown, depth = 0): boolean {
  if (typeof value !== "object" || value === null) return false;
  return depth >= JSON_DEPTH_MAX || Object.values(value).some((member) => nestsTooDeep(member, depth + 1));
}

/** The calls that the code means, and from what they are filled. @throws as checkMcpCode does */
export function operationOf(code: McpCode, config: McpConfig): { operation: Operation; scope: Scope } {
  if ("server" in code) {
    const server = config.servers.get(code.server);
    if (!server) throw unknown("MCP server", code.server, [...config.servers.keys()]);
    if (!mayCall(server, code.tool)) {
      throw new SwarmError("permission_denied", `Tasks may not call ${code.tool} of the MCP server ${code.server}.`, {
        hint:
          server.tools.length === 0
            ? 'Its operator lists no tools for tasks ("tools" in the file SWARM_EXEC_CONFIG); an operation of a profile may do it.'
            : `They may call: ${server.tools.join(", ")}.`,
      });
    }
    // as values, not as templates: braces in a task's own arguments mean nothing
    const given = Object.keys(code.arguments).map((key, index) => [key, `{{given.a${index}}}`] as const);
    const values = Object.values(code.arguments).map((value, index) => [`a${index}`, value] as const);
    return {
      operation: { steps: [{ server: code.server, tool: code.tool, arguments: Object.fromEntries(given) }] },
      scope: { given: Object.fromEntries(values) },
    };
  }
  return { operation: namedOperation(code, config), scope: checkedScope(code, config, { parameters: code.parameters }) };
}

function namedOperation(code: { profile: string; operation: string }, config: McpConfig): Operation {
  const profile = config.profiles.get(code.profile);
  if (!profile) throw unknown("profile", code.profile, [...config.profiles.keys()]);
  const operation = profile.operations.get(code.operation);
  if (!operation) throw unknown(`operation of ${code.profile}`, code.operation, [...profile.operations.keys()]);
  return operation;
}

function checkedScope(code: { profile: string; operation: string }, config: McpConfig, scope: Scope): Scope {
  const lacking = missingFor(namedOperation(code, config), scope);
  if (lacking.length > 0) throw missingValue(lacking);
  return scope;
}

/** The operation of a profile, from a task of a workflow. @throws as checkMcpCode does */
export function operationFor(
  code: { readonly profile: string; readonly operation: string },
  config: McpConfig,
  scope: Scope,
): { operation: Operation; scope: Scope } {
  return { operation: namedOperation(code, config), scope: checkedScope(code, config, scope) };
}

const NAMED_MAX = 20;

function unknown(what: string, name: string, known: readonly string[]): SwarmError {
  const shown = known.slice(0, NAMED_MAX).join(", ");
  return new SwarmError("not_found", `There is no ${what} named ${name} here.`, {
    hint: known.length === 0 ? "The file that SWARM_EXEC_CONFIG names has none." : `There are: ${shown}.`,
  });
}
