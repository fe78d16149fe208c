/** What the definitions of the tools cost a model that loads them: characters a tool, and tokens a toolset. */
import { definition as comm } from "@mcp-swarm/agent-comm";
import { definition as votes } from "@mcp-swarm/consensus";
import { definition as executions } from "@mcp-swarm/distributed-execution";
import { definition as security } from "@mcp-swarm/security";
import { definition as state } from "@mcp-swarm/shared-state";
import { definition as tasks } from "@mcp-swarm/task-coordination";
import { encode } from "gpt-tokenizer";
import { LineClient } from "./drivers/line-client.ts";
import type { Row } from "./row.ts";
import { SERVER_NAMES, type ServerName, swarmServer } from "./servers.ts";

const CHARS_MAX = 650;

interface Definition {
  toolsets: Readonly<Record<string, string>>;
  tools: readonly { name: string; toolset: string }[];
}
const DEFINITIONS: Readonly<Record<ServerName | "security", Definition>> = {
  "task-coordination": tasks,
  "agent-comm": comm,
  "shared-state": state,
  consensus: votes,
  "distributed-execution": executions,
  security,
};

export async function definitions(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const server of [...SERVER_NAMES, "security" as const]) rows.push(...(await definitionsOf(server)));
  return rows;
}

async function definitionsOf(server: ServerName | "security"): Promise<Row[]> {
  const host = new LineClient(swarmServer(server, { store: "memory:", durability: "full", agent: "agent-1" }));
  try {
    await host.open();
    const { tools } = (await host.request("tools/list", {})) as {
      tools: { name: string; description: string; inputSchema: object }[];
    };
    // hosts give a model these three of a definition; titles, annotations and output schemas stay with the host
    const texts = new Map(
      tools.map(({ name, description, inputSchema }) => [name, JSON.stringify({ name, description, input_schema: inputSchema })]),
    );
    const all = [...texts.values()];
    const sizes = all.map((text) => text.length);
    const chars = sizes.reduce((sum, size) => sum + size, 0) / sizes.length;
    const longest = Math.max(...sizes);
    const tokens = (some: readonly string[]) => some.reduce((sum, text) => sum + encode(text).length, 0);
    const rows: Row[] = [
      {
        what: `${server}: definition of a tool, mean of ${tools.length}`,
        subject: `${Math.round(chars)} characters`,
        goal: { atMost: CHARS_MAX, value: chars },
        note: `the longest ${longest}, all together ${tokens(all).toLocaleString("en-US")} tokens`,
      },
    ];
    const { toolsets, tools: known } = DEFINITIONS[server];
    for (const toolset of Object.keys(toolsets)) {
      const names = known.filter((tool) => tool.toolset === toolset).map(({ name }) => name);
      if (names.length === 0) continue;
      const some = names.map((name) => texts.get(name) ?? "");
      rows.push({
        what: `${server}: toolset ${toolset}, ${names.length} tool${names.length === 1 ? "" : "s"}`,
        subject: `${tokens(some).toLocaleString("en-US")} tokens`,
      });
    }
    return rows;
  } finally {
    await host.close();
  }
}
