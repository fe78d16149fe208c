/**
 * The least that a task server can be: the official SDK and three tools over one table, with nothing that our promises ask
 * for (no leases, no history, no indexes by state, no counts, no checksums, no checks of the answer).
 */
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import * as z from "zod";

export interface RawQueue {
  add(ids: readonly string[]): Promise<void>;
  /** The id of the task that is now this worker's, or undefined when there is none. */
  claim(worker: string): Promise<string | undefined>;
  /** False when the worker does not hold the task. */
  complete(id: string, worker: string, output: string | undefined): Promise<boolean>;
}

export function serveQueue(queue: RawQueue): void {
  const worker = process.env.SWARM_AGENT ?? `worker-${process.pid}`;
  const answer = (structured: Record<string, unknown>) => ({
    content: [{ type: "text" as const, text: JSON.stringify(structured) }],
    structuredContent: structured,
  });
  serveStdio(() => {
    const server = new McpServer({ name: "raw-queue", version: "1.0.0" }, { capabilities: { tools: {} } });
    server.registerTool(
      "add_tasks",
      {
        description: "Adds tasks.",
        inputSchema: z.object({ tasks: z.array(z.object({ id: z.string(), description: z.string() })) }),
      },
      async ({ tasks }) => {
        await queue.add(tasks.map(({ id }) => id));
        return answer({ added: tasks.length });
      },
    );
    server.registerTool("claim_next_task", { description: "Claims a task.", inputSchema: z.object({}) }, async () => {
      const id = await queue.claim(worker);
      return answer({ task: id === undefined ? null : { id } });
    });
    server.registerTool(
      "update_task",
      {
        description: "Ends a task.",
        inputSchema: z.object({ taskId: z.string(), status: z.literal("done"), output: z.string().optional() }),
      },
      async ({ taskId, output }) => answer({ updated: await queue.complete(taskId, worker, output) }),
    );
    return server;
  });
}
