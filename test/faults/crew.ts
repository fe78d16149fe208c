/**
 * Hosts that work on one store and write down what they were told, to compare with the store afterwards. An answer is a
 * promise: whatever happens to the processes, what it said must be there.
 */
import type { StoredTask } from "@mcp-swarm/coordination/tasks";
import type { Random } from "@mcp-swarm/core";
import { type CallOptions, Host, type HostOptions, type ToolAnswer } from "../support/host.ts";
import type { TaskCensus } from "../support/task-invariants.ts";

/** Words that no answer may hold: locks and retries are never the model's problem. */
export const LOCK_WORDS = /\block(s|ed|ing)?\b|busy|deadlock|serializ|SQLITE|\b(40001|40P01)\b/i;

export type Outcome = "done" | "failed" | "available";

export interface Claimed {
  readonly taskId: string;
  readonly by: string;
  readonly token: number;
}

/** What was acknowledged. */
export class Ledger {
  readonly added = new Set<string>();
  readonly claims: Claimed[] = [];
  readonly reports: (Claimed & { outcome: Outcome; note: string })[] = [];

  get acknowledged(): number {
    return this.added.size + this.claims.length + this.reports.length;
  }

  /** What was acknowledged and is not in the store, or was acknowledged twice; empty when all is well. */
  missing({ tasks }: TaskCensus): string[] {
    const wrong: string[] = [];
    for (const id of this.added) if (!tasks.has(id)) wrong.push(`Task ${id} was added and is not there.`);
    const holders = new Map<string, string>();
    for (const { taskId, by, token } of this.claims) {
      const holding = `${taskId} with token ${token}`;
      if (holders.has(holding)) wrong.push(`${holding} was given to ${holders.get(holding)} and to ${by}.`);
      holders.set(holding, by);
      const there = claimOf(tasks.get(taskId), token);
      if (there && there.change?.by !== by) wrong.push(`${by} claimed ${holding}; the history names ${there.change?.by}.`);
    }
    const finished = new Set<string>();
    for (const { taskId, by, token, outcome, note } of this.reports) {
      const task = tasks.get(taskId);
      if (outcome === "done") {
        if (finished.has(taskId)) wrong.push(`Task ${taskId} was done twice.`);
        finished.add(taskId);
        if (task?.status !== "done" || task.output !== note) wrong.push(`${by} finished ${taskId}; it is ${task?.status}.`);
      }
      const there = claimOf(task, token);
      const event = { done: "done", failed: "attempt_failed", available: "given_back" }[outcome];
      const ended = there?.after.find((change) => change.event === event && change.by === by);
      if (there && !ended) wrong.push(`${by} was told that ${taskId} is ${outcome}; the history does not say so.`);
      if (ended && outcome !== "done" && ended.note !== note) wrong.push(`The note of ${by} on ${taskId} is another.`);
    }
    return wrong;
  }
}

/** The change by which the claim with this token was made, and what followed until the next; undefined if it was dropped. */
function claimOf(task: StoredTask | undefined, token: number) {
  if (task === undefined || task.historyDropped > 0) return undefined;
  const { history } = task;
  const claims = history.flatMap((change, index) => (change.event === "claimed" ? [index] : []));
  const at = claims[token - 1] ?? history.length;
  return { change: history[at], after: history.slice(at + 1, claims[token] ?? history.length) };
}

/** The call got no answer because its server was killed on purpose: what it did is not known. */
export class HostKilled extends Error {}

/** One agent and its host, which may be killed and started again. */
export class Member {
  readonly agent: string;
  readonly #options: HostOptions;
  #host: Host | undefined;
  #killed = false;
  /** All that its processes wrote to stderr. */
  #stderr = "";

  constructor(agent: string, options: HostOptions) {
    this.agent = agent;
    this.#options = { ...options, agent };
  }

  get pid(): number {
    return this.#host?.pid ?? -1;
  }

  get stderr(): string {
    return this.#stderr + (this.#host?.stderr ?? "");
  }

  async start(): Promise<void> {
    this.#killed = false;
    this.#host = await Host.start(this.#options);
  }

  /** kill -9 of the server, whatever it is doing. */
  async kill(): Promise<void> {
    this.#killed = true;
    await this.#end((host) => host.kill());
  }

  async close(): Promise<void> {
    await this.#end((host) => host.close());
  }

  async #end(how: (host: Host) => Promise<void>): Promise<void> {
    const host = this.#host;
    if (!host) return;
    await how(host);
    this.#stderr += host.stderr;
    this.#host = undefined;
  }

  /** @throws HostKilled */
  async try(tool: string, args: Record<string, unknown> = {}, options?: CallOptions): Promise<ToolAnswer> {
    try {
      if (!this.#host) throw new HostKilled(`${this.agent} is not there`);
      return await this.#host.try(tool, args, options);
    } catch (error) {
      if (this.#killed) throw new HostKilled(`${this.agent} was killed`, { cause: error });
      throw error;
    }
  }
}

export interface CrewOptions {
  readonly store: string;
  readonly size: number;
  readonly leaseMs?: number;
  readonly env?: Record<string, string>;
}

export class Crew {
  readonly members: readonly Member[];
  readonly ledger = new Ledger();
  #ids = 0;

  private constructor({ store, size, leaseMs, env }: CrewOptions) {
    const lease = leaseMs === undefined ? {} : { SWARM_LEASE_MS: String(leaseMs) };
    this.members = Array.from({ length: size }, (_, index) => new Member(`agent-${index}`, { store, env: { ...lease, ...env } }));
  }

  /** All members start at the same moment. */
  static async start(options: CrewOptions): Promise<Crew> {
    const crew = new Crew(options);
    await Promise.all(crew.members.map((member) => member.start()));
    return crew;
  }

  get stderr(): string {
    return this.members.map(({ agent, stderr }) => (stderr === "" ? "" : `${agent}: ${stderr}`)).join("");
  }

  /** Adds a task with an id that nobody else uses. */
  async add(member: Member, task: Record<string, unknown> = {}): Promise<ToolAnswer> {
    this.#ids += 1;
    const id = `task-${this.#ids}`;
    const answer = await member.try("add_task", { id, description: `made by ${member.agent}`, ...task });
    if (!answer.isError) this.ledger.added.add(id);
    return answer;
  }

  async claimNext(member: Member, args: Record<string, unknown> = {}): Promise<ToolAnswer & { claimed?: Claimed }> {
    const answer = await member.try("claim_next_task", args);
    const task = answer.structured.task as { id: string } | null | undefined;
    if (answer.isError || !task) return answer;
    const claimed = { taskId: task.id, by: member.agent, token: Number(answer.structured.fencingToken) };
    this.ledger.claims.push(claimed);
    return { ...answer, claimed };
  }

  async report(member: Member, claimed: Claimed, outcome: Outcome): Promise<ToolAnswer> {
    const note = `${outcome} by ${member.agent} with ${claimed.token}`;
    const field = { done: "output", failed: "error", available: "checkpoint" }[outcome];
    const { taskId, token: fencingToken } = claimed;
    const answer = await member.try("update_task", { taskId, status: outcome, fencingToken, [field]: note });
    if (!answer.isError) this.ledger.reports.push({ ...claimed, outcome, note });
    return answer;
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Mostly finishes; sometimes fails, sometimes gives back. */
export function someOutcome(random: Random): Outcome {
  const roll = random.integer(10);
  return roll < 7 ? "done" : roll < 8 ? "failed" : "available";
}
