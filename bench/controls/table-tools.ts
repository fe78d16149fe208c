/**
 * The least that a server of values, messages and locks can be: the official SDK and tools over one table each, named and
 * called as ours, with nothing that our promises ask for (no history, no change log, no delivery that comes again, no
 * leases, no order of priorities, no retries by idempotency key, no waiting).
 */
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import * as z from "zod";

export interface RawTables {
  /** The new revision; undefined when `ifRev` is given and is not the present one. */
  set(key: string, value: string, ifRev: number | undefined): Promise<number | undefined>;
  get(key: string): Promise<{ value: string; rev: number } | undefined>;
  setMany(entries: readonly { key: string; value: string }[]): Promise<void>;
  send(to: string, payload: string): Promise<number>;
  /** The oldest messages that were not taken; they are now. */
  take(agent: string, limit: number): Promise<readonly { id: number; payload: string }[]>;
  acknowledge(agent: string, ids: readonly number[]): Promise<void>;
  acquire(lock: string, agent: string): Promise<boolean>;
  release(lock: string, agent: string): Promise<void>;
}

export function serveTables(tables: RawTables): void {
  const agent = process.env.SWARM_AGENT ?? `agent-${process.pid}`;
  const answer = (structured: Record<string, unknown>) => ({
    content: [{ type: "text" as const, text: JSON.stringify(structured) }],
    structuredContent: structured,
  });
  const key = z.string();
  const value = z.unknown();
  serveStdio(() => {
    const server = new McpServer({ name: "raw-tables", version: "1.0.0" }, { capabilities: { tools: {} } });
    server.registerTool(
      "set_state",
      { description: "Sets a value.", inputSchema: z.object({ key, value, ifRev: z.number().optional() }) },
      async ({ key, value, ifRev }) => answer({ entry: { key, rev: await tables.set(key, JSON.stringify(value), ifRev) } }),
    );
    server.registerTool("get_state", { description: "Reads a value.", inputSchema: z.object({ key }) }, async ({ key }) => {
      const found = await tables.get(key);
      return answer({ entry: found ? { key, rev: found.rev, value: JSON.parse(found.value) as unknown } : null });
    });
    server.registerTool(
      "transact_state",
      { description: "Sets several values.", inputSchema: z.object({ writes: z.array(z.object({ key, value })) }) },
      async ({ writes }) => {
        await tables.setMany(writes.map((write) => ({ key: write.key, value: JSON.stringify(write.value) })));
        return answer({ written: writes.length });
      },
    );
    server.registerTool(
      "send_message",
      {
        description: "Sends a message.",
        inputSchema: z.object({ targetAgent: z.string(), messageType: z.string(), payload: value }),
      },
      async ({ targetAgent, payload }) => answer({ messageId: await tables.send(targetAgent, JSON.stringify(payload)) }),
    );
    server.registerTool(
      "get_messages",
      { description: "Takes messages.", inputSchema: z.object({ limit: z.number() }) },
      async ({ limit }) => {
        const taken = await tables.take(agent, limit);
        return answer({ messages: taken.map(({ id, payload }) => ({ id, payload: JSON.parse(payload) as unknown })) });
      },
    );
    server.registerTool(
      "acknowledge_messages",
      { description: "Ends messages.", inputSchema: z.object({ messageIds: z.array(z.number()) }) },
      async ({ messageIds }) => {
        await tables.acknowledge(agent, messageIds);
        return answer({ acknowledged: messageIds.length });
      },
    );
    server.registerTool(
      "acquire_lock",
      { description: "Takes a lock.", inputSchema: z.object({ name: z.string() }) },
      async ({ name }) => answer({ acquired: await tables.acquire(name, agent) }),
    );
    server.registerTool(
      "release_lock",
      { description: "Gives a lock back.", inputSchema: z.object({ name: z.string() }) },
      async ({ name }) => {
        await tables.release(name, agent);
        return answer({ released: true });
      },
    );
    return server;
  });
}
