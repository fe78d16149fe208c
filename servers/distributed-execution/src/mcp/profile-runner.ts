/**
 * Does the tasks of one profile without a person: claims those whose type is `<profile>:<operation>` from task-coordination, has the
 * profile's servers do them, and reports what came of it. What fails is reported as failed, so that the task's own attempts and
 * back-off decide about the next try. A task is held by a lease that ends with this process; whoever takes it then does it anew.
 */
import { type Clock, type Json, type JsonObject, newId, type Random, SwarmError, systemRandom } from "@mcp-swarm/core";
import type { Leash } from "./leash.ts";
import { operationFor } from "./mcp-code.ts";
import type { McpConfig, McpServer } from "./mcp-config.ts";
import { failureText, perform, timeFor } from "./perform.ts";
import { Stopping } from "./run-bounds.ts";
import type { OperationOutcome } from "./run-operation.ts";
import { ServerPool } from "./server-pool.ts";
import { resolveServer } from "./server-secrets.ts";
import { SwarmTools, swarmServer, writeKey } from "./swarm-tools.ts";
import { claimedTask } from "./workflow-task.ts";

/** How long one wait for a task lasts, in ms. */
const WAIT_MS = 50_000;
/** How often a task's lease is renewed; so soon a cancelled task or a lost lease is noticed. */
const RENEW_MS = 2_000;
/** Largest output of a task, in bytes of JSON, and longest error, in characters: task-coordination's own bounds. */
const OUTPUT_BYTES_MAX = 200_000;
const ERROR_CHARS_MAX = 4_000;
/** What is kept of an output that is too large, in characters. */
const BEGINNING_CHARS = 20_000;
/** Tries of one report. */
const REPORT_TRIES_MAX = 6;
/** Failures to connect, one after another. */
const CONNECT_TRIES_MAX = 8;
const PAUSE_MS = 250;
const PAUSE_MS_MAX = 30_000;
/** How long one report may take, in ms. */
const REPORT_MS = 20_000;
/** Most capabilities of one agent. */
const CAPABILITIES_MAX = 32;
/** Longest part of an agent's id that is the profile's name. */
const AGENT_NAME_CHARS = 40;

export interface RunnerOptions {
  readonly profile: string;
  readonly config: McpConfig;
  /** `runner` of the operator's file: where task-coordination and agent-comm are. */
  readonly servers: { readonly tasks?: Json; readonly agents?: Json };
  /** Tasks at once. */
  readonly slots: number;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly random?: Random;
  readonly leash?: Leash;
  /** What it does, a plain sentence each; no task's text. `error` has what a person may need besides, without secrets. */
  readonly onEvent: (message: string, error?: unknown) => void;
}

export class ProfileRunner {
  readonly #options: RunnerOptions;
  readonly #pool: ServerPool;
  readonly #agentId: string;

  /** @throws SwarmError not_found: the operator's file has no such profile; unavailable: a variable that its servers need is not set */
  constructor(options: RunnerOptions) {
    const { profile, config, env, clock, leash, onEvent, random = systemRandom } = options;
    if (!config.profiles.has(profile)) {
      const known = [...config.profiles.keys()].join(", ");
      throw new SwarmError("not_found", `The file that SWARM_EXEC_CONFIG names has no profile ${profile}.`, {
        hint: known === "" ? 'Write it under "profiles" there.' : `It has: ${known}.`,
      });
    }
    for (const [name, server] of serversOf(profile, config)) resolveServer(name, server, env); // no task is taken for want of a variable
    this.#options = options;
    this.#agentId = newId(`${profile.slice(0, AGENT_NAME_CHARS)}-runner`, random);
    this.#pool = new ServerPool({
      config,
      env,
      clock,
      ...(leash ? { leash } : {}),
      onError: (error, said) => onEvent(said, error),
    });
  }

  /**
   * Works until the signal aborts; then what it holds is given back and every server of its own is dead.
   * @throws SwarmError unavailable: task-coordination was not reached in `CONNECT_TRIES_MAX` tries on end
   */
  async run(signal: AbortSignal): Promise<void> {
    this.#options.onEvent("Looking for task-coordination"); // it may have to be installed first
    try {
      for (let tries = 0; !signal.aborted; ) {
        let connected = false;
        try {
          await this.#connected(signal, () => {
            connected = true;
          });
        } catch (error) {
          if (signal.aborted) break;
          tries = connected ? 0 : tries + 1;
          if (tries >= CONNECT_TRIES_MAX || !isUnavailable(error)) throw error;
          this.#options.onEvent("task-coordination is not there; it is tried again.", error);
          await this.#pause(Math.min(PAUSE_MS * 2 ** tries, PAUSE_MS_MAX), signal);
        }
      }
    } finally {
      await this.#pool.close();
    }
  }

  /** For as long as task-coordination is there. */
  async #connected(signal: AbortSignal, onConnected: () => void): Promise<void> {
    const { env, clock, servers, slots, profile, onEvent } = this.#options;
    const open = (name: string, input: Json | undefined) =>
      SwarmTools.open(name, swarmServer(input, name, this.#agentId, env), { env, clock, signal });
    const tasks = await open("task-coordination", servers.tasks);
    let agents: SwarmTools | undefined;
    try {
      if (servers.agents !== undefined) {
        agents = await open("agent-comm", servers.agents);
        await this.#register(agents, signal);
      }
      onConnected();
      onEvent(`Taking tasks of the types ${profile}:*`);
      // the first that fails ends the others
      const failed = new AbortController();
      const both = AbortSignal.any([signal, failed.signal]);
      const slot = async () => {
        try {
          while (!both.aborted) await this.#next(tasks, both);
        } catch (error) {
          failed.abort();
          throw error;
        }
      };
      const ends = await Promise.allSettled(Array.from({ length: slots }, slot));
      const reasons = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []));
      if (!signal.aborted && reasons.length > 0) throw reasons.find(isUnavailable) ?? reasons[0];
    } finally {
      await agents?.close();
      await tasks.close();
    }
  }

  async #register(agents: SwarmTools, signal: AbortSignal): Promise<void> {
    const answer = await agents.call(
      "register_agent",
      {
        agentType: "mcp-runner",
        capabilities: this.#capabilities(),
        description: `Does tasks of the types ${this.#options.profile}:*`,
      },
      signal,
    );
    if ("refusal" in answer) this.#options.onEvent(`It could not be registered: ${answer.refusal.code}.`);
  }

  /** The profile and its operations, each as tasks may require them. */
  #capabilities(): string[] {
    const { profile, config } = this.#options;
    const operations = [...(config.profiles.get(profile)?.operations.keys() ?? [])];
    return [profile, ...operations, ...operations.map((operation) => `${profile}:${operation}`)].slice(0, CAPABILITIES_MAX);
  }

  async #next(tasks: SwarmTools, signal: AbortSignal): Promise<void> {
    const { profile, onEvent } = this.#options;
    const claim = await tasks.call(
      "claim_next_task",
      { type: `${profile}:*`, capabilities: this.#capabilities(), waitMs: WAIT_MS },
      signal,
    );
    if ("refusal" in claim) {
      onEvent(`No task could be claimed: ${claim.refusal.code}.`);
      return await this.#pause(PAUSE_MS_MAX, signal);
    }
    const claimed = claim.result as { task: { id: string } | null; fencingToken?: number };
    if (claimed.task === null) return;
    const { id } = claimed.task;
    const { fencingToken = 0 } = claimed;
    onEvent(`Task ${id} is claimed.`);
    const holding = new AbortController();
    const held = { id, fencingToken, lost: false };
    const working = AbortSignal.any([signal, holding.signal]);
    const renewing = this.#renew(tasks, held, holding, working);
    try {
      const report = await this.#reportOn(claim.result, tasks, working);
      if (held.lost) return void onEvent(`Task ${id} is no longer this runner's; it was stopped.`);
      await this.#tell(tasks, held, signal.aborted ? { status: "available" } : report);
    } finally {
      holding.abort();
      await renewing;
    }
  }

  /** What is to be said of the task when it is still held. @throws SwarmError unavailable when task-coordination is gone */
  async #reportOn(claim: JsonObject, tasks: SwarmTools, working: AbortSignal): Promise<JsonObject> {
    const { profile, config, clock, onEvent } = this.#options;
    try {
      const task = await claimedTask(claim, tasks, working);
      const operation = task.type.slice(profile.length + 1);
      const plan = operationFor({ profile, operation }, config, task.scope);
      const wallMs = timeFor(plan.operation, config, task.timeoutMs ?? Number.MAX_SAFE_INTEGER);
      using stopping = new Stopping(working, wallMs, clock);
      const outcome = await perform(plan, this.#pool, stopping, () => {});
      if (stopping.because === "time") return failure(`It took longer than ${wallMs} ms.`);
      return outcome ? reportOf(outcome) : failure("It was stopped.");
    } catch (error) {
      if (working.aborted) return failure("It was stopped.");
      if (!(error instanceof SwarmError) || !tasks.alive) throw error;
      onEvent(`A task could not be done: ${error.message}`, error.cause);
      return failure(`${error.message} ${error.hint ?? ""}`);
    }
  }

  /** Keeps the lease until `working` is over; finds out when it is lost or the task was cancelled. */
  async #renew(
    tasks: SwarmTools,
    held: { id: string; fencingToken: number; lost: boolean },
    holding: AbortController,
    working: AbortSignal,
  ) {
    for (;;) {
      await this.#pause(RENEW_MS, working);
      if (working.aborted) return;
      try {
        const answer = await tasks.call("renew_task", { taskId: held.id, fencingToken: held.fencingToken }, working);
        if (!("refusal" in answer) || !LOST.has(answer.refusal.code)) continue;
        held.lost = true;
      } catch (error) {
        if (working.aborted) return;
        if (!isUnavailable(error)) throw error;
        held.lost = true; // with its server the claim is given back
      }
      holding.abort();
      return;
    }
  }

  async #tell(tasks: SwarmTools, { id, fencingToken }: { id: string; fencingToken: number }, report: JsonObject): Promise<void> {
    const { onEvent } = this.#options;
    const write = { ...report, taskId: id, fencingToken, idempotencyKey: writeKey() };
    const giveUp = new AbortController();
    using _late = this.#options.clock.timer(REPORT_MS, () => giveUp.abort());
    for (let tries = 1; ; tries++) {
      const answer = await tasks.call("update_task", write, giveUp.signal);
      if (!("refusal" in answer)) return onEvent(`Task ${id} is reported: ${String(report.status)}.`);
      if (answer.refusal.code === "unavailable" && tries < REPORT_TRIES_MAX)
        await this.#pause(PAUSE_MS * 2 ** tries, giveUp.signal);
      else return onEvent(`The report on task ${id} was refused: ${answer.refusal.code}.`);
    }
  }

  /** Waits, but not beyond the signal. */
  #pause(forMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = this.#options.clock.timer(forMs, resolve);
    const over = () => resolve();
    signal.addEventListener("abort", over, { once: true });
    if (signal.aborted) resolve();
    return promise.finally(() => {
      timer[Symbol.dispose]();
      signal.removeEventListener("abort", over);
    });
  }
}

/** Those that the operations of a profile call. */
function serversOf(profile: string, { profiles, servers }: McpConfig): [string, McpServer][] {
  const steps = [...(profiles.get(profile)?.operations.values() ?? [])].flatMap((operation) => operation.steps);
  return [...servers].filter(([name]) => steps.some(({ server }) => server === name));
}

/** Codes that say that the task is another's, or nobody's any more. */
const LOST: ReadonlySet<string> = new Set(["failed_precondition", "not_found", "permission_denied", "unauthenticated"]);

function isUnavailable(error: unknown): boolean {
  return error instanceof SwarmError && error.code === "unavailable";
}

function failure(text: string): JsonObject {
  return { status: "failed", error: text.trim().slice(0, ERROR_CHARS_MAX) || "It failed and said nothing." };
}

function reportOf(outcome: OperationOutcome): JsonObject {
  if ("failed" in outcome) return failure(outcome.failed);
  if ("failure" in outcome) return failure(failureText(outcome.failure, outcome.server));
  // a task's output holds no files: they are named
  const files = outcome.files.map(({ path, bytes }) => ({ path, bytes: bytes.byteLength }));
  const output: Json = files.length === 0 ? outcome.value : { value: outcome.value, filesNotKept: files };
  const text = JSON.stringify(output);
  const bytes = Buffer.byteLength(text);
  if (bytes <= OUTPUT_BYTES_MAX) return { status: "done", output };
  return { status: "done", output: { cutBytes: bytes, beginning: text.slice(0, BEGINNING_CHARS) } };
}
