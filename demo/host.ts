/** An agent's host: official MCP clients, each with a stdio server process of its own, as a user's host mounts them. */
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const SERVERS = { tasks: "task-coordination", comm: "agent-comm", state: "shared-state", security: "security" } as const;
type ServerName = keyof typeof SERVERS;
/** Those that each worker's host mounts. */
type WorkServer = Exclude<ServerName, "security">;

/** What all hosts of one swarm have in common. */
export interface Swarm {
  store: string;
  leaseMs: number;
  /** Where each agent's key file is, when the swarm is secured. */
  keys?: Readonly<Record<string, string>>;
}

/** Calls a tool of one server, which must succeed. @throws Refused */
export type Tools = <T>(tool: string, args?: Record<string, unknown>) => Promise<T>;

export type Host = Readonly<Record<WorkServer, Tools>> & {
  readonly serverPids: readonly number[];
  close(): Promise<void>;
};

export async function startHost(agent: string, swarm: Swarm): Promise<Host> {
  const [tasks, comm, state] = await Promise.all([
    startServer("tasks", agent, swarm),
    startServer("comm", agent, swarm),
    startServer("state", agent, swarm),
  ]);
  return {
    tasks: tasks.call,
    comm: comm.call,
    state: state.call,
    serverPids: [tasks.pid, comm.pid, state.pid],
    async close() {
      await Promise.all([tasks.close(), comm.close(), state.close()]);
    },
  };
}

export interface Server {
  readonly call: Tools;
  readonly pid: number;
  close(): Promise<void>;
}

/** What a server answered instead of what was asked for. */
export class Refused extends Error {
  /** Of the error: `permission_denied`, `not_found` … */
  readonly code: string;

  constructor(tool: string, text: string) {
    super(`${tool}: ${text}`);
    this.code = text.slice(0, text.indexOf(":"));
  }
}

/** One server alone: a host mounts only what it needs. */
export async function startServer(
  name: ServerName,
  agent: string,
  { store, leaseMs, keys }: Swarm,
  env: Record<string, string> = {},
): Promise<Server> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [join(import.meta.dirname, "..", "servers", SERVERS[name], "dist", "main.js")],
    env: {
      PATH: process.env.PATH ?? "",
      HOME: process.env.HOME ?? "",
      SWARM_STORE: store,
      SWARM_LEASE_MS: String(leaseMs),
      ...whoIs(agent, keys),
      ...env,
    },
    stderr: "inherit",
  });
  const client = new Client({ name: "mcp-swarm-demo", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  const call: Tools = async <T>(tool: string, args: Record<string, unknown> = {}) => {
    const result = await client.callTool({ name: tool, arguments: args }, { timeout: 120_000 });
    if (!result.isError) return result.structuredContent as T;
    const [first] = result.content as { text?: string }[];
    throw new Refused(tool, first?.text ?? "failed");
  };
  return { call, pid: transport.pid ?? -1, close: () => client.close() };
}

/** In an open swarm an agent says who it is; in a secured one its key file does. */
function whoIs(agent: string, keys: Swarm["keys"]): Record<string, string> {
  if (!keys) return { SWARM_AGENT: agent };
  const keyFile = keys[agent];
  if (keyFile === undefined) throw new Error(`${agent} has no key file`);
  return { SWARM_KEY_FILE: keyFile, SWARM_LOG: "error" }; // the transcript tells of a revocation; each server would warn of it too
}
