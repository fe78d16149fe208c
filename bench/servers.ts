/** How the servers that are compared are started: ours as it is published, and the controls, bundled in the same way. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundle } from "../scripts/bundle.mjs";
import { startPostgres } from "../test/support/postgres.ts";
import type { Launch } from "./drivers/line-client.ts";

const ROOT = join(import.meta.dirname, "..");
const ENGINES = "^22.23 || ^24.15 || >=26";

const built = new Map<string, Promise<string>>();

/** The bin of a control, bundled when it is first asked for. */
async function controlBin(name: string): Promise<string> {
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

/** Whose server it is, and on which store. */
export interface Mount {
  /** `sqlite:<path>`, `postgres://…` or `memory:`. */
  store: string;
  durability: Durability;
  agent: string;
}

export const SERVER_NAMES = ["task-coordination", "agent-comm", "shared-state", "consensus", "distributed-execution"] as const;
export type ServerName = (typeof SERVER_NAMES)[number];

/** One of our servers, for one agent, whom in a secured swarm a key in `env` must prove. */
export function swarmServer(
  name: ServerName | "security",
  { store, durability, agent }: Mount,
  env: Record<string, string> = {},
): Launch {
  const bin = join(ROOT, "servers", name, "dist", "main.js");
  if (!existsSync(bin)) throw new Error("The servers are not built: npm run build");
  return {
    command: process.execPath,
    args: [bin],
    env: { SWARM_STORE: store, SWARM_DURABILITY: durability, SWARM_AGENT: agent, ...env },
  };
}

/** The raw control of a kind, for one agent: queue for tasks, tables for values, messages and locks. */
export async function rawServer(kind: "queue" | "tables", { store, durability, agent }: Mount): Promise<Launch> {
  const sqlite = store.startsWith("sqlite:");
  return {
    command: process.execPath,
    args: [await controlBin(`raw-${sqlite ? "sqlite" : "postgres"}-${kind}`)],
    env: {
      BENCH_DATABASE: sqlite ? store.slice("sqlite:".length) : store,
      BENCH_DURABILITY: durability,
      SWARM_AGENT: agent,
    },
  };
}

/** A folder for one measurement, removed at its end. */
export function scratch(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "mcp-swarm-bench-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** An engine to measure on. */
export interface Engine {
  name: "SQLite, full durability" | "SQLite, normal durability" | "PostgreSQL";
  durability: Durability;
  postgres: boolean;
  /** A new empty store; `name` tells it from others of the same measurement. */
  freshStore(name: string): Promise<string>;
}

/** Runs `measure` on each engine, one after the other, with stores that are removed at the end. */
export async function onEachEngine<T>(measure: (engine: Engine) => Promise<readonly T[]>): Promise<T[]> {
  const rows: T[] = [];
  for (const durability of ["full", "normal"] as const) {
    using folder = scratch();
    const freshStore = async (name: string) => `sqlite:${join(folder.path, `${name}.db`)}`;
    rows.push(...(await measure({ name: `SQLite, ${durability} durability`, durability, postgres: false, freshStore })));
  }
  const server = await startPostgres();
  try {
    const freshStore = () => server.freshDatabase();
    rows.push(...(await measure({ name: "PostgreSQL", durability: "full", postgres: true, freshStore })));
  } finally {
    await server.stop();
  }
  return rows;
}
