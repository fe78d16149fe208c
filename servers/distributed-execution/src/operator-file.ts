/**
 * The operator's file (`SWARM_EXEC_CONFIG`): what environments may ask for on this machine, which there are besides, what its workers
 * take, and which MCP servers tasks may reach. JSON, read once; every mistake is said with its place in the file.
 */
import { readFileSync, statSync } from "node:fs";
import { type Json, SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { BUILTIN_ENVIRONMENTS } from "./builtin-environments.ts";
import type { Ceiling, Manifest } from "./environment.ts";
import { LABELS_MAX } from "./execution-record.ts";
import { CEILING_DEFAULT, ceilingFields, ENVIRONMENT_NAME, manifestFields, wholeCeiling, wholeManifest } from "./manifest.ts";

/** Longest file, in bytes. */
const FILE_BYTES_MAX = 1024 * 1024;
/** Most environments of one file. */
const FILE_ENVIRONMENTS_MAX = 50;
/** Most runs of one process at once. */
export const SLOTS_MAX = 256;
const SOCKET_CHARS_MAX = 255;
/** Most mistakes told at once. */
const PROBLEMS_MAX = 5;

/** What workers of this machine take, where their command line does not say otherwise. */
export type WorkerSettings = {
  readonly labels?: readonly string[];
  /** Names; all when absent. */
  readonly environments?: readonly string[];
  readonly slots?: number;
  /** Socket of Docker or Podman, as `unix:///path`; DOCKER_HOST and the usual places when absent. */
  readonly containerEngine?: string;
  /** Where Jobs run. The NetworkPolicy is the operator's, and denies all; `kubeconfig` is a path, KUBECONFIG and the usual places when absent. */
  readonly kubernetes?: { readonly namespace: string; readonly networkPolicy: string; readonly kubeconfig?: string };
};

export type OperatorFile = {
  readonly ceiling: Ceiling;
  /** Within the ceiling or not: whoever writes the file decides both. */
  readonly environments: readonly Manifest[];
  readonly worker: WorkerSettings;
  /** As they stand in the file: what reads them (mcp/) checks them. */
  readonly mcpServers?: Json;
  readonly profiles?: Json;
  /** Where a runner of a profile finds the suite's other servers. */
  readonly runner?: { readonly tasks?: Json; readonly agents?: Json };
};

/** What holds where there is no file. */
export const NO_OPERATOR_FILE: OperatorFile = { ceiling: CEILING_DEFAULT, environments: [], worker: {} };

/**
 * Reads and checks the file.
 * @throws SwarmError invalid_argument: it cannot be read, or something in it is wrong
 */
export function readOperatorFile(path: string): OperatorFile {
  let text: string;
  try {
    if (statSync(path).size > FILE_BYTES_MAX) throw mistake([`it is longer than ${FILE_BYTES_MAX} bytes`]);
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof SwarmError) throw error;
    throw new SwarmError("invalid_argument", "SWARM_EXEC_CONFIG names a file that cannot be read.", {
      hint: "Name a JSON file that this user may read, or leave the variable out.",
      cause: error,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new SwarmError("invalid_argument", "The file that SWARM_EXEC_CONFIG names is not JSON.", {
      hint: error instanceof SyntaxError ? `${error.message.replace(/[^\x20-\x7e]/g, "?")}.` : "Check it with a JSON linter.",
    });
  }
  return parseOperatorFile(json);
}

/** @throws SwarmError invalid_argument naming each field that is wrong, as a path such as `environments[2].limits.memoryMiB` */
export function parseOperatorFile(json: unknown): OperatorFile {
  const label = () => z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$/);
  const objectName = () => z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "must be a name as Kubernetes has them");
  const schema = z.strictObject({
    ceiling: z.strictObject(ceilingFields()).exactOptional(),
    environments: z.array(z.strictObject(manifestFields())).max(FILE_ENVIRONMENTS_MAX).exactOptional(),
    worker: z
      .strictObject({
        labels: z.array(label()).max(LABELS_MAX).exactOptional(),
        environments: z.array(z.string().regex(ENVIRONMENT_NAME)).max(FILE_ENVIRONMENTS_MAX).exactOptional(),
        slots: z.int().min(0).max(SLOTS_MAX).exactOptional(),
        containerEngine: z
          .string()
          .max(SOCKET_CHARS_MAX)
          .regex(/^unix:\/\/\//, "must be the path of a socket, such as unix:///run/podman/podman.sock")
          .exactOptional(),
        kubernetes: z
          .strictObject({
            namespace: objectName(),
            networkPolicy: objectName(),
            kubeconfig: z.string().min(1).max(SOCKET_CHARS_MAX).exactOptional(),
          })
          .exactOptional(),
      })
      .exactOptional(),
    mcpServers: z.custom<Json>(() => true).exactOptional(),
    profiles: z.custom<Json>(() => true).exactOptional(),
    runner: z
      .strictObject({ tasks: z.custom<Json>(() => true).exactOptional(), agents: z.custom<Json>(() => true).exactOptional() })
      .exactOptional(),
  });
  const parsed = schema.safeParse(json, { jitless: true });
  if (!parsed.success) throw mistake(problemsOf(parsed.error));
  const { ceiling = {}, environments = [], worker = {}, mcpServers, profiles, runner } = parsed.data;
  const manifests = environments.map((one, index) => at(`environments[${index}]`, () => wholeManifest(one)));
  const seen = new Set(BUILTIN_ENVIRONMENTS.map(({ name }) => name));
  for (const [index, { name }] of manifests.entries()) {
    if (seen.has(name)) throw mistake([`"environments[${index}].name": ${name} is there already`]);
    seen.add(name);
  }
  return {
    ceiling: at("ceiling", () => wholeCeiling(ceiling)),
    environments: manifests,
    worker: { ...worker, ...(worker.labels ? { labels: [...new Set(worker.labels)].sort() } : {}) },
    ...(mcpServers === undefined ? {} : { mcpServers }),
    ...(profiles === undefined ? {} : { profiles }),
    ...(runner === undefined ? {} : { runner }),
  };
}

/** What `read` throws, with its place in the file. */
function at<T>(place: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof SwarmError && error.code === "invalid_argument")
      throw mistake([`${place}: ${error.message}`], error.hint);
    throw error;
  }
}

/** Each mistake that a schema found, with its path in the file. */
export function problemsOf(error: z.ZodError): string[] {
  return error.issues.slice(0, PROBLEMS_MAX).map((issue) => {
    const path = shownPath(issue.path);
    if (issue.code === "unrecognized_keys") {
      const keys = issue.keys.slice(0, PROBLEMS_MAX).map((key) => `"${shownPath([...issue.path, key])}"`);
      return `unknown field ${keys.join(", ")}`;
    }
    return `${path === "" ? "the whole" : `"${path}"`}: ${issue.message}`;
  });
}

function shownPath(path: readonly PropertyKey[]): string {
  return path
    .map((step, index) => (typeof step === "number" ? `[${step}]` : `${index === 0 ? "" : "."}${String(step)}`))
    .join("")
    .replace(/[^\x20-\x7e]/g, "?")
    .slice(0, 200);
}

/** What is wrong in the file, told as one error. */
export function mistake(problems: readonly string[], hint?: string): SwarmError {
  return new SwarmError("invalid_argument", `The file that SWARM_EXEC_CONFIG names is not valid: ${problems.join("; ")}.`, {
    hint: hint ?? "The README's section on distributed-execution shows what it may hold.",
  });
}
