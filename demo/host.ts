/** An agent's host: official MCP clients, each with a stdio server process of its own, as a user's host mounts them. */
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const SERVERS = { tasks: "task-coordination", comm: "agent-comm", state: "shared-state" } as const;
type ServerName = keyof typeof SERVERS;

/** What all hosts of one swarm have in common. */
export interface Swarm {
  store: string;
  leaseMs: number;
}

/** Calls a tool of one server, which must succeed. */
export type Tools = <T>(tool: string, args?: Record<string, unknown>) => Promise<T>;

export type Host = Readonly<Record<ServerName, Tools>> & {
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

/** One server alone: a host mounts only what it needs. */
export async function startServer(name: ServerName, agent: string, { store, leaseMs }: Swarm): Promise<Server> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [join(import.meta.dirname, "..", "servers", SERVERS[name], "dist", "main.js")],
    env: {
      PATH: process.env.PATH ?? "",
      HOME: process.env.HOME ?? "",
      SWARM_AGENT: agent,
      SWARM_STORE: store,
      SWARM_LEASE_MS: String(leaseMs),
    },
    stderr: "inherit",
  });
  const client = new Client({ name: "mcp-swarm-demo", version: "1.0.0" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  const call: Tools = async <T>(tool: string, args: Record<string, unknown> = {}) => {
    const result = await client.callTool({ name: tool, arguments: args }, { timeout: 120_000 });
    if (!result.isError) return result.structuredContent as T;
    const [first] = result.content as { text?: string }[];
    throw new Error(`${tool}: ${first?.text ?? "failed"}`);
  };
  return { call, pid: transport.pid ?? -1, close: () => client.close() };
}
