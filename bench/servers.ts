/** How the servers that are compared are started: ours as it is published, and the controls, bundled in the same way. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "../scripts/bundle.mjs";
import type { Launch } from "./drivers/line-client.ts";

const ROOT = join(import.meta.dirname, "..");
const ENGINES = "^22.23 || ^24.15 || >=26";

const built = new Map<string, Promise<string>>();

/** The bin of a control, bundled when it is first asked for. */
async function controlBin(name: "echo-server" | "raw-sqlite-server" | "raw-postgres-server"): Promise<string> {
  const dist = join(import.meta.dirname, "dist", name);
  let bundling = built.get(name);
  if (!bundling) {
    bundling = bundle({ entry: join(import.meta.dirname, "controls", `${name}.ts`), dist, engines: ENGINES }).then(() =>
      join(dist, "main.js"),
    );
    built.set(name, bundling);
  }
  return bundling;
}

export async function echoServer(): Promise<Launch> {
  return { command: process.execPath, args: [await controlBin("echo-server")], env: {} };
}

export type Durability = "full" | "normal";

export interface QueueAt {
  /** `sqlite:<path>` or `postgres://…`. */
  store: string;
  durability: Durability;
  worker: string;
}

/** Our task server, for one worker. */
export function taskServer({ store, durability, worker }: QueueAt): Launch {
  const bin = join(ROOT, "servers", "task-coordination", "dist", "main.js");
  if (!existsSync(bin)) throw new Error("The servers are not built: npm run build");
  return {
    command: process.execPath,
    args: [bin],
    env: { SWARM_STORE: store, SWARM_DURABILITY: durability, SWARM_AGENT: worker },
  };
}

/** The raw queue, for one worker. */
export async function rawServer({ store, durability, worker }: QueueAt): Promise<Launch> {
  const sqlite = store.startsWith("sqlite:");
  return {
    command: process.execPath,
    args: [await controlBin(sqlite ? "raw-sqlite-server" : "raw-postgres-server")],
    env: {
      BENCH_DATABASE: sqlite ? store.slice("sqlite:".length) : store,
      BENCH_DURABILITY: durability,
      SWARM_AGENT: worker,
    },
  };
}

/** A folder for one measurement, removed at its end. */
export function scratch(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "mcp-swarm-bench-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
