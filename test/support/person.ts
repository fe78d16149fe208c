/** Somebody at a terminal with a home folder of their own, and a project whose swarm they look after. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Outcome, type RunOptions, run, runBin } from "./bin.ts";
import { temporaryFolder } from "./host.ts";

export class Person implements Disposable {
  readonly #folder = temporaryFolder();
  readonly home: string;
  /** The project's folder, in which commands run. */
  readonly project: string;
  readonly store: string;

  constructor(store?: string) {
    this.home = join(this.#folder.path, "home");
    this.project = join(this.#folder.path, "project");
    for (const folder of [this.home, this.project]) mkdirSync(folder);
    this.store = store ?? `sqlite:${join(this.#folder.path, "swarm.db")}`;
  }

  /** What every program of this person gets. */
  get env(): Record<string, string> {
    return { HOME: this.home, SWARM_STORE: this.store };
  }

  /** Runs a command of mcp-swarm-security. */
  async secure(args: readonly string[], { env, ...options }: RunOptions = {}): Promise<Outcome> {
    return await runBin("security", args, { cwd: this.project, ...options, env: { ...this.env, ...env } });
  }

  /** The same, which must succeed; answers what it printed. */
  async done(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const outcome = await this.secure(args, options);
    if (outcome.code !== 0) throw new Error(`${args.join(" ")} ended with ${outcome.code}:\n${outcome.stderr}`);
    return outcome.stdout;
  }

  /** Enrols an agent on this machine; answers where its key file is. */
  async enroll(agentId: string, ...options: string[]): Promise<string> {
    const path = /^SWARM_KEY_FILE=(.+)\n$/.exec(await this.done(["enroll", agentId, "--here", ...options]))?.[1];
    if (path === undefined) throw new Error("enroll named no key file");
    return path;
  }

  /** Runs lines of a shell. */
  async shell(script: string, env: Record<string, string> = {}): Promise<Outcome> {
    return await run("bash", ["-e", "-u", "-o", "pipefail", "-c", script], {
      cwd: this.project,
      env: { ...this.env, ...env },
      withinMs: 120_000,
    });
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}
