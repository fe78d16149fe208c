/**
 * A driver without a sandbox, for tests of what is around one. Its language has a statement to a line:
 * `set NAME VALUE`, `get NAME` (the value of the run), `say TEXT`, `exit CODE`, `limit NAME`, `file PATH TEXT`, `cat PATH`, `hang` (until
 * it is killed), `die` (the sandbox is found dead), `args`.
 */
import { SwarmError } from "@mcp-swarm/core";
import {
  type Capabilities,
  type Driver,
  type Ending,
  LIMIT_NAMES,
  type LimitName,
  type Probe,
  type RunHooks,
  type SandboxOutcome,
  type SandboxSession,
  type SandboxTask,
} from "../../src/sandbox/driver.ts";

export class FakeDriver implements Driver {
  readonly name = "quickjs" as const;
  /** Sandboxes of sessions that are open. */
  open = 0;
  /** Most runs at one moment. */
  most = 0;
  running = 0;
  /** Every run that was begun, by its id. */
  readonly begun: string[] = [];

  async probe(): Promise<Probe> {
    const limits = Object.fromEntries(LIMIT_NAMES.map((name) => [name, "enforced" as const])) as Capabilities["limits"];
    const opens = { network: "all", mounts: true, packages: true } as const;
    const runtimes = { javascript: { version: "fake" } };
    return { available: true, capabilities: { limits, isolates: [], runtimes, opens, session: "state" } };
  }

  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    return this.#run(new Map(), task, hooks);
  }

  async openSession(): Promise<SandboxSession> {
    const kept = new Map<string, string>();
    let closed = false;
    const closing = new AbortController();
    this.open += 1;
    return {
      run: async (task, hooks) => {
        if (closed) throw new SwarmError("unavailable", "The sandbox is gone.");
        return await this.#run(kept, task, { ...hooks, signal: AbortSignal.any([hooks.signal, closing.signal]) });
      },
      close: async () => {
        if (closed) return;
        closed = true;
        closing.abort();
        this.open -= 1;
      },
    };
  }

  async close(): Promise<void> {}

  async #run(kept: Map<string, string>, task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    this.begun.push(task.runId);
    this.running += 1;
    this.most = Math.max(this.most, this.running);
    try {
      return await this.#interpret(kept, task, hooks);
    } finally {
      this.running -= 1;
    }
  }

  async #interpret(kept: Map<string, string>, task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    const files: SandboxOutcome["files"][number][] = [];
    let value: string | null | readonly string[] = null;
    const done = (ending: Ending): SandboxOutcome => ({ ending, value, usage: { wallMs: 1, cpuMs: 1 }, files, cut: {} });
    for (const line of task.code.split("\n")) {
      if (hooks.signal.aborted) return done({ kind: "killed" });
      const [verb, name = "", ...rest] = line.trim().split(" ");
      const text = rest.join(" ");
      if (verb === "set") kept.set(name, text);
      else if (verb === "get") value = kept.get(name) ?? null;
      else if (verb === "args") value = task.args;
      else if (verb === "say") hooks.onOutput("stdout", Buffer.from([name, ...rest].join(" ")));
      else if (verb === "exit") return done({ kind: "exit", code: Number(name) });
      else if (verb === "limit") return done({ kind: "limit", limit: name as LimitName });
      else if (verb === "file") files.push({ path: name, bytes: Buffer.from(text) });
      else if (verb === "cat") {
        const found = task.files.find(({ path }) => path === name);
        value = found ? Buffer.from(found.bytes).toString() : null;
      } else if (verb === "die") throw new SwarmError("unavailable", "The sandbox was found dead.");
      else if (verb === "hang") {
        await new Promise<void>((resolve) => {
          if (hooks.signal.aborted) resolve();
          else hooks.signal.addEventListener("abort", () => resolve(), { once: true });
        });
        return done({ kind: "killed" });
      } else throw new Error(`No such statement: ${verb}`);
    }
    return done({ kind: "exit", code: 0 });
  }
}
