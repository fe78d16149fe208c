/**
 * The driver of the environment `mcp`: a task names a tool of another MCP server, or an operation of a profile, and this asks the server.
 * What the task hands over is data, so there is no code of its own to hold in; the program that runs is the operator's, with the operator's
 * rights. Secrets that the operator gave it are taken out of everything that comes back.
 */
import { type Clock, type Json, SwarmError, systemClock } from "@mcp-swarm/core";
import type { Cut, Driver, Ending, Limits, Probe, RunHooks, SandboxOutcome, SandboxTask } from "../sandbox/driver.ts";
import type { OpenDriver } from "../sandbox/drivers.ts";
import type { Leash } from "./leash.ts";
import { checkMcpCode, operationOf } from "./mcp-code.ts";
import { type McpConfig, parseMcpConfig } from "./mcp-config.ts";
import type { CallFailure } from "./mcp-connection.ts";
import { failureText, type Plan, perform, timeFor } from "./perform.ts";
import { Output, Stopping, type StopReason } from "./run-bounds.ts";
import type { OperationOutcome, ReturnedFile } from "./run-operation.ts";
import { ServerPool } from "./server-pool.ts";

/** Largest value of an outcome, in bytes of JSON. */
export const VALUE_BYTES_MAX = 256 * 1024;

/** Exit codes of this environment. */
export const EXIT = { done: 0, failed: 1, refused: 2, gone: 3 } as const;
/** What a large value comes back as, in place of the value. */
const VALUE_FILE = "value.json";

export interface McpDriverOptions {
  readonly config: McpConfig;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
  readonly leash?: Leash;
  readonly onError?: (error: unknown, message: string) => void;
}

export class McpDriver implements Driver {
  readonly name = "mcp";
  readonly #config: McpConfig;
  readonly #clock: Clock;
  readonly #pool: ServerPool;

  constructor({ config, env = process.env, clock = systemClock, leash, onError = () => {} }: McpDriverOptions) {
    this.#config = config;
    this.#clock = clock;
    this.#pool = new ServerPool({ config, env, clock, onError, ...(leash ? { leash } : {}) });
  }

  /** Starts or reaches each server of the operator's list, and ends it again. */
  async probe(): Promise<Probe> {
    const names = [...this.#config.servers.keys()];
    const pool = this.#pool;
    if (names.length === 0) {
      return {
        available: false,
        reason:
          'This worker knows no other MCP servers: its operator lists them under "mcpServers" in the file SWARM_EXEC_CONFIG.',
      };
    }
    const reached: string[] = [];
    for (const name of names) {
      const taken = await pool.take([name], NEVER).catch(() => undefined); // one that cannot be reached is not named
      if (!taken) continue;
      reached.push(name);
      await pool.giveBack(taken, { keep: false });
    }
    if (reached.length === 0) {
      return { available: false, reason: `None of its MCP servers could be started or reached: ${names.join(", ")}.` };
    }
    const { kind } = await pool.leash();
    return {
      available: true,
      capabilities: {
        limits: {
          wallMs: "enforced",
          cpuMs: "not_applicable",
          memoryMiB: "not_applicable",
          processes: "not_applicable",
          outputBytes: "enforced",
          fileBytes: "enforced",
          diskBytes: "enforced",
          files: "enforced",
        },
        isolates: [
          "a task chooses one of the operator's tools and its arguments; it brings no program",
          "the servers are the operator's own programs, with the operator's rights; their keys are kept from tasks",
          ENDS[kind],
        ],
        runtimes: { mcp: { version: reached.join(", ") } },
        opens: { network: "none", mounts: false, packages: false },
        session: "none",
      },
    };
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    const config = this.#config;
    const startedAt = this.#clock.now();
    const output = new Output(task.limits.outputBytes, hooks);
    const done = (ending: Ending, rest: { value?: Json; files?: readonly ReturnedFile[]; cut?: Cut } = {}): SandboxOutcome => ({
      ending,
      usage: { wallMs: this.#clock.now() - startedAt },
      files: rest.files ?? [],
      ...(rest.value === undefined ? {} : { value: rest.value }),
      cut: { ...rest.cut, ...output.cut },
    });
    const refused = (text: string) => {
      output.say(text);
      return done({ kind: "exit", code: EXIT.refused });
    };
    if (task.files.length > 0 || task.args.length > 0 || task.stdin.length > 0) {
      return refused("A task for the environment mcp has code alone: no files, args or stdin.");
    }
    try {
      const plan = planned(task.code, config);
      using stopping = new Stopping(hooks.signal, timeFor(plan.operation, config, task.limits.wallMs), this.#clock);
      output.onFull = () => stopping.stop("output");
      const outcome = await perform(plan, this.#pool, stopping, (message) => output.line("stdout", message));
      if (stopping.because !== undefined) return done(ENDINGS[stopping.because]);
      if (outcome === undefined) return done(ENDINGS.killed);
      return finished(outcome, task.limits, output, done);
    } catch (error) {
      if (error instanceof SwarmError && error.code === "invalid_argument") return refused(error.message);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }
}

/** @throws SwarmError invalid_argument: something is wrong in the operator's list */
export const openMcpDriver: OpenDriver = ({ operator, onError }) => new McpDriver({ config: parseMcpConfig(operator), onError });

const NEVER = new AbortController().signal;

const ENDINGS: Readonly<Record<StopReason, Ending>> = {
  killed: { kind: "killed" },
  time: { kind: "limit", limit: "wallMs" },
  output: { kind: "limit", limit: "outputBytes" },
};

const ENDS: Readonly<Record<Leash["kind"], string>> = {
  namespace: "whatever a server started ends with it, by a process namespace",
  group: "what a server started ends with it, unless it left the server's process group",
  process: "a server ends with its task; what it started may not",
};

/**
 * What this worker may do for the code.
 * @throws SwarmError invalid_argument, unavailable: another worker's operator may permit what this one's does not
 */
function planned(code: string, config: McpConfig): Plan {
  const read = checkMcpCode(code);
  try {
    return operationOf(read, config);
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code === "invalid_argument") throw error;
    throw new SwarmError("unavailable", error.message, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

type Done = (ending: Ending, rest?: { value?: Json; files?: readonly ReturnedFile[]; cut?: Cut }) => SandboxOutcome;

function finished(outcome: OperationOutcome, limits: Limits, output: Output, done: Done): SandboxOutcome {
  if ("failed" in outcome) {
    output.say(outcome.failed);
    return done({ kind: "exit", code: EXIT.failed });
  }
  if ("failure" in outcome) {
    output.say(failureText(outcome.failure, outcome.server));
    return done(FAILURE_ENDINGS[outcome.failure.kind]);
  }
  const text = JSON.stringify(outcome.value);
  const bytes = Buffer.byteLength(text);
  const large = bytes > VALUE_BYTES_MAX;
  const { files, left } = within([...(large ? [{ path: VALUE_FILE, bytes: Buffer.from(text) }] : []), ...outcome.files], limits);
  const cut: Cut = { ...(large ? { valueBytes: bytes } : {}), ...(left.length === 0 ? {} : { files: left }) };
  return done({ kind: "exit", code: EXIT.done }, { files, cut, ...(large ? {} : { value: outcome.value }) });
}

const FAILURE_ENDINGS: Readonly<Record<CallFailure["kind"], Ending>> = {
  refused: { kind: "exit", code: EXIT.refused },
  asked: { kind: "exit", code: EXIT.refused },
  gone: { kind: "exit", code: EXIT.gone },
  said_too_much: ENDINGS.output,
  aborted: ENDINGS.killed,
};

/** Most files of which it is said that they were left. */
const LEFT_NAMED_MAX = 20;

/** The files that the limits let through, in order, and those that they do not. */
function within(
  files: readonly ReturnedFile[],
  limits: Limits,
): { files: ReturnedFile[]; left: { path: string; because: string }[] } {
  const kept: ReturnedFile[] = [];
  const left: { path: string; because: string }[] = [];
  let room = limits.diskBytes;
  for (const file of files) {
    const size = file.bytes.byteLength;
    const because =
      kept.length >= limits.files
        ? "too many files"
        : size > limits.fileBytes
          ? "too large"
          : size > room
            ? "too much in all"
            : undefined;
    if (because === undefined) {
      kept.push(file);
      room -= size;
    } else if (left.length < LEFT_NAMED_MAX) left.push({ path: file.path, because });
  }
  return { files: kept, left };
}
