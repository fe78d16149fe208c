/** The calls of one operation, one after another over one connection to each server, and what came of them. */
import type { Json, JsonObject } from "@mcp-swarm/core";
import type { CallToolResult } from "@modelcontextprotocol/client";
import { FOR_EACH_MAX, type Operation, type Step } from "./mcp-config.ts";
import type { CallFailure, McpConnection } from "./mcp-connection.ts";
import { fill, isList, type Scope } from "./template.ts";

export interface ReturnedFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

export type OperationOutcome =
  | { readonly value: Json; readonly files: readonly ReturnedFile[] }
  /** The tool itself said that it failed; its words. */
  | { readonly failed: string }
  | { readonly failure: CallFailure; readonly server: string };

export interface RunHooks {
  readonly signal: AbortSignal;
  onProgress(message: string): void;
}

/** @throws SwarmError invalid_argument: a template cannot be filled from what the steps brought */
export async function runOperation(
  { steps, result }: Operation,
  scope: Scope,
  connections: ReadonlyMap<string, McpConnection>,
  hooks: RunHooks,
): Promise<OperationOutcome> {
  const brought: Record<string, Json> = {};
  const files: ReturnedFile[] = [];
  let last: Json = null;
  for (const [index, step] of steps.entries()) {
    const connection = connections.get(step.server);
    if (!connection) return { failure: { kind: "gone" }, server: step.server };
    const inner = { ...scope, steps: brought };
    const rounds = roundsOf(step, inner);
    const values: Json[] = [];
    for (const round of rounds) {
      const answer = await connection.call(step.tool, fill(step.arguments, { ...inner, ...round }) as JsonObject, hooks);
      if ("failure" in answer) return { failure: answer.failure, server: step.server };
      const { redactor } = connection;
      if (answer.result.isError === true) return { failed: redactor.text(textOf(answer.result)) };
      values.push(redactor.json(broughtBy(answer.result)));
      for (const file of filesOf(answer.result, files.length)) files.push({ ...file, bytes: redactor.bytes(file.bytes) });
    }
    last = step.forEach === undefined ? (values[0] ?? null) : values;
    brought[step.name ?? String(index)] = last;
  }
  return { value: result === undefined ? last : fill(result, { ...scope, steps: brought }), files };
}

/** What is bound in each call of a step. */
function roundsOf(step: Step, scope: Scope): Scope[] {
  if (step.forEach === undefined) return [{}];
  const list = fill(step.forEach, scope);
  const items = (isList(list) ? list : [list]).slice(0, FOR_EACH_MAX);
  return items.map((item, index) => ({ item, number: index + 1, total: items.length, more: index + 1 < items.length }));
}

/** What a tool brought: its structured content, else its text; null when it brought neither. */
function broughtBy(result: CallToolResult): Json {
  if (result.structuredContent !== undefined) return result.structuredContent as Json;
  const text = textOf(result);
  return text === "" ? null : text;
}

function textOf({ content }: CallToolResult): string {
  return content
    .flatMap((part) => {
      if (part.type === "text") return [part.text];
      return part.type === "resource_link" ? [part.uri] : [];
    })
    .join("\n");
}

const EXTENSIONS: Readonly<Record<string, string>> = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/gif": "gif",
  "image/webp": "webp",
  "image/svg+xml": "svg",
  "audio/wav": "wav",
  "audio/mpeg": "mp3",
  "application/json": "json",
  "application/pdf": "pdf",
  "text/csv": "csv",
  "text/html": "html",
  "text/markdown": "md",
};

/** Images, sound and resources, under names of our own: no server chooses a path. */
function filesOf({ content }: CallToolResult, before: number): ReturnedFile[] {
  const files: ReturnedFile[] = [];
  const add = (kind: string, mimeType: string | undefined, otherwise: string, bytes: Uint8Array) => {
    const known = mimeType !== undefined && Object.hasOwn(EXTENSIONS, mimeType) ? EXTENSIONS[mimeType] : undefined;
    files.push({ path: `${kind}-${before + files.length + 1}.${known ?? otherwise}`, bytes });
  };
  for (const part of content) {
    if (part.type === "image" || part.type === "audio") add(part.type, part.mimeType, "bin", Buffer.from(part.data, "base64"));
    else if (part.type === "resource" && "text" in part.resource) {
      add("resource", part.resource.mimeType, "txt", Buffer.from(part.resource.text, "utf8"));
    } else if (part.type === "resource" && "blob" in part.resource) {
      add("resource", part.resource.mimeType, "bin", Buffer.from(part.resource.blob, "base64"));
    }
  }
  return files;
}
