/** One operation on the servers that it needs: taken together, given back together. */
import type { McpConfig, Operation } from "./mcp-config.ts";
import type { CallFailure } from "./mcp-connection.ts";
import type { Stopping } from "./run-bounds.ts";
import { type OperationOutcome, runOperation } from "./run-operation.ts";
import type { ServerPool } from "./server-pool.ts";
import type { Scope } from "./template.ts";

/** Calls, and what they are filled from. */
export interface Plan {
  readonly operation: Operation;
  readonly scope: Scope;
}

/** The least of what the task and the servers' operators allow, in ms. */
export function timeFor({ steps }: Operation, config: McpConfig, wallMs: number): number {
  return Math.min(wallMs, ...steps.map(({ server }) => config.servers.get(server)?.callMs ?? wallMs));
}

/**
 * Undefined when it was stopped before it had its servers. When it settles they are dead, or kept for the next.
 * @throws SwarmError unavailable (a server could not be started or reached), invalid_argument (a template could not be filled)
 */
export async function perform(
  { operation, scope }: Plan,
  pool: ServerPool,
  stopping: Stopping,
  onProgress: (message: string) => void,
): Promise<OperationOutcome | undefined> {
  const { signal } = stopping;
  let taken: Awaited<ReturnType<ServerPool["take"]>>;
  try {
    taken = await pool.take(
      operation.steps.map((step) => step.server),
      signal,
    );
  } catch (error) {
    if (stopping.because !== undefined) return undefined;
    throw error;
  }
  let answered = false;
  try {
    const outcome = await runOperation(operation, scope, taken, { signal, onProgress });
    answered = !("failure" in outcome);
    return outcome;
  } finally {
    await pool.giveBack(taken, { keep: answered && stopping.because === undefined });
  }
}

/** Why a call brought nothing, for people and models; what the server itself said is its own text. */
export function failureText(failure: CallFailure, server: string): string {
  switch (failure.kind) {
    case "refused":
      return `The MCP server ${server} refused the call. ${failure.text}`;
    case "asked":
      return `The MCP server ${server} asked for a person's or a model's answer, which it gets from nobody here.`;
    case "gone":
      return `The MCP server ${server} ended before it answered; whether it did something is not known.`;
    case "said_too_much":
      return `The MCP server ${server} said more than a task may have it say.`;
    case "aborted":
      return "It was stopped.";
  }
}
