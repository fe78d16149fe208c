/** Work for a worker without a store behind it: what waits is a list, and everything that is done with it is written down. */
import type { Environment } from "../../src/environment.ts";
import type { ExecutionRecord } from "../../src/execution-record.ts";
import { wholeManifest } from "../../src/manifest.ts";
import type { ClaimedRun, Demand, Finished, WorkerProfile, WorkSource } from "../../src/worker/work-source.ts";

export function environmentOf(input: Parameters<typeof wholeManifest>[0]): Environment {
  return { ...wholeManifest(input), origin: "created", version: 1 };
}

export const JAVASCRIPT = environmentOf({ name: "javascript", runtime: "javascript" });

export interface Waiting {
  readonly id: string;
  readonly code: string;
  readonly environment?: Environment;
  readonly runMs?: number;
  readonly sessionId?: string;
  /** The session has a sandbox on this worker already. */
  readonly boundTo?: string;
}

export class FakeSource implements WorkSource {
  readonly waiting: Waiting[] = [];
  readonly finished: { id: string; outcome: Finished; accepted: boolean }[] = [];
  readonly givenBack: { id: string; failure: string | undefined }[] = [];
  readonly abandoned: string[] = [];
  readonly outputs: { id: string; stream: string; text: string }[] = [];
  /** Runs under way: aborting one's controller takes its lease, or cancels it. */
  readonly running = new Map<string, AbortController>();
  /** Runs whose lease was lost: nothing of them is taken. */
  readonly lost = new Set<string>();
  /** Thrown by every write while it is set. */
  away: Error | undefined;
  /** Whether an end and the next claim are one commit. */
  fuses = false;
  asked = 0;
  /** Profiles that work was asked for with. */
  readonly profiles: WorkerProfile[] = [];
  readonly #wakes = new Set<() => void>();

  add(...tasks: Waiting[]): void {
    this.waiting.push(...tasks);
    for (const wake of [...this.#wakes]) wake();
  }

  async demand(): Promise<readonly Demand[]> {
    this.asked += 1;
    return this.waiting.map(({ environment = JAVASCRIPT }) => ({
      environment: environment.name,
      version: environment.version,
      requires: environment.requires,
    }));
  }

  onDemand(wake: () => void): Disposable {
    this.#wakes.add(wake);
    return { [Symbol.dispose]: () => void this.#wakes.delete(wake) };
  }

  async next(profile: WorkerProfile, { signal }: { waitMs: number; signal: AbortSignal }): Promise<ClaimedRun | undefined> {
    this.profiles.push(profile);
    for (;;) {
      if (signal.aborted) return undefined;
      if (this.away) throw this.away;
      const run = this.#claim(profile);
      if (run) return run;
      await new Promise<void>((resolve) => {
        const watch = this.onDemand(() => done());
        const done = () => {
          watch[Symbol.dispose]();
          resolve();
        };
        signal.addEventListener("abort", done, { once: true });
      });
    }
  }

  async output(run: ClaimedRun, chunks: readonly { stream: "stdout" | "stderr"; bytes: Uint8Array }[]): Promise<void> {
    if (this.away) throw this.away;
    for (const { stream, bytes } of chunks) {
      this.outputs.push({ id: run.record.id, stream, text: Buffer.from(bytes).toString() });
    }
  }

  async finish(run: ClaimedRun, outcome: Finished, next?: WorkerProfile): Promise<{ accepted: boolean; next?: ClaimedRun }> {
    if (this.away) throw this.away;
    const { id } = run.record;
    const accepted = !this.lost.has(id);
    this.finished.push({ id, outcome, accepted });
    this.running.delete(id);
    const following = next && this.fuses ? this.#claim(next) : undefined;
    return { accepted, ...(following ? { next: following } : {}) };
  }

  async giveBack(run: ClaimedRun, failure?: "sandbox" | "session_lost"): Promise<void> {
    if (this.away) throw this.away;
    this.running.delete(run.record.id);
    this.givenBack.push({ id: run.record.id, failure });
  }

  abandon(run: Pick<ClaimedRun, "record">): void {
    this.running.delete(run.record.id);
    this.abandoned.push(run.record.id);
  }

  #claim(profile: WorkerProfile): ClaimedRun | undefined {
    const at = this.waiting.findIndex(({ environment = JAVASCRIPT }) =>
      profile.environments.some(({ name, version }) => name === environment.name && version === environment.version),
    );
    const [task] = at < 0 ? [] : this.waiting.splice(at, 1);
    if (!task) return undefined;
    const ending = new AbortController();
    this.running.set(task.id, ending);
    const environment = task.environment ?? JAVASCRIPT;
    const record: ExecutionRecord = {
      ...{ id: task.id, status: "running", agentId: "agent", environment: environment.name, environmentVersion: 1 },
      ...{ requires: {}, priority: 5, runMs: task.runMs ?? 30_000, maxAttempts: 3, createdAt: 0, queueDeadlineAt: 1, seq: "0" },
      ...{ attempt: 1, spent: 0, queueMs: 1, codeBytes: task.code.length },
      ...(task.sessionId === undefined ? {} : { sessionId: task.sessionId }),
      ...(task.boundTo === undefined ? {} : { boundTo: task.boundTo }),
    };
    const input = { code: task.code, args: [], stdin: "", files: [] };
    return { record, input, environment, contents: [], signal: ending.signal };
  }
}
