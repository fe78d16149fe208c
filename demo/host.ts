/** An official MCP client with a stdio server process of its own, as an agent's host has it. */
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const BIN = join(import.meta.dirname, "..", "servers", "task-coordination", "dist", "main.js");

export interface Host {
  serverPid: number;
  call<T>(tool: string, args: Record<string, unknown>): Promise<T>;
  close(): Promise<void>;
}

export async function startHost(agent: string, store: string, leaseMs: number): Promise<Host> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [BIN],
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
  return {
    serverPid: transport.pid ?? -1,
    async call<T>(tool: string, args: Record<string, unknown>) {
      const result = await client.callTool({ name: tool, arguments: args }, { timeout: 120_000 });
      if (!result.isError) return result.structuredContent as T;
      const [first] = result.content as { text?: string }[];
      throw new Error(`${tool}: ${first?.text ?? "failed"}`);
    },
    close: () => client.close(),
  };
}
