/** What the definitions of the tools cost a model that loads them: characters a tool, and tokens a toolset. */
import { definition } from "@mcp-swarm/task-coordination";
import { encode } from "gpt-tokenizer";
import { LineClient } from "./drivers/line-client.ts";
import type { Row } from "./row.ts";
import { taskServer } from "./servers.ts";

const CHARS_MAX = 650;

export async function definitions(): Promise<Row[]> {
  const host = new LineClient(taskServer({ store: "memory:", durability: "full", worker: "worker-1" }));
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
    const chars = all.reduce((sum, text) => sum + text.length, 0) / all.length;
    const longest = Math.max(...all.map((text) => text.length));
    const tokens = (some: readonly string[]) => some.reduce((sum, text) => sum + encode(text).length, 0);
    const rows: Row[] = [
      {
        what: `definition of a tool, mean of ${all.length}`,
        subject: `${Math.round(chars)} characters`,
        goal: { atMost: CHARS_MAX, value: chars },
        note: `the longest ${longest}, all together ${tokens(all).toLocaleString("en-US")} tokens`,
      },
    ];
    for (const toolset of Object.keys(definition.toolsets)) {
      const names = definition.tools.filter((tool) => tool.toolset === toolset).map(({ name }) => name);
      if (names.length === 0) continue;
      const some = names.map((name) => texts.get(name) ?? "");
      rows.push({ what: `toolset ${toolset}, ${names.length} tools`, subject: `${tokens(some).toLocaleString("en-US")} tokens` });
    }
    return rows;
  } finally {
    await host.close();
  }
}
