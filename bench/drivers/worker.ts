/**
 * One agent's host in a process of its own: it starts its server, and does what the benchmark tells it over IPC. So the
 * benchmark's own process is no bottleneck, and a host and its server cost what they cost a user.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type Launch, LineClient } from "./line-client.ts";

export type Order =
  | { do: "open"; launch: Launch }
  | { do: "add"; ids: readonly string[] }
  | { do: "drain"; workMs: number }
  | { do: "close" };

/** What a worker did between the order to drain the queue and its finding the queue empty. Times are ms since the epoch. */
export interface Drained {
  taken: readonly string[];
  startedAt: number;
  /** When its last task was done; its start when it got none. */
  lastDoneAt: number;
  /** What was refused: text of the answers. Empty, or the benchmark fails. */
  refused: readonly string[];
}

export type Report = { done: Drained | undefined } | { failed: string };

/** Tasks of one add_tasks call. */
const ADD_BATCH = 500;
/** Refusals that are worth reading. */
const REFUSALS_KEPT = 10;

let client: LineClient | undefined;

function opened(): LineClient {
  if (!client) throw new Error("The server was not opened");
  return client;
}

const now = () => performance.timeOrigin + performance.now();

async function drain(workMs: number): Promise<Drained> {
  const host = opened();
  const taken: string[] = [];
  const refused: string[] = [];
  const startedAt = now();
  let lastDoneAt = startedAt;
  while (refused.length < REFUSALS_KEPT) {
    const claimed = await host.call("claim_next_task");
    if (claimed.isError) {
      refused.push(claimed.content[0]?.text ?? "");
      continue;
    }
    const { task, fencingToken } = claimed.structuredContent as { task: { id: string } | null; fencingToken?: number };
    if (task === null) break;
    if (workMs > 0) await sleep(workMs);
    const token = fencingToken === undefined ? {} : { fencingToken };
    const ended = await host.call("update_task", { taskId: task.id, status: "done", output: "done", ...token });
    if (ended.isError || ended.structuredContent?.updated === false) refused.push(ended.content[0]?.text ?? "");
    else taken.push(task.id);
    lastDoneAt = now();
  }
  return { taken, startedAt, lastDoneAt, refused };
}

async function obey(order: Order): Promise<Drained | undefined> {
  switch (order.do) {
    case "open":
      client = new LineClient(order.launch);
      await client.open();
      return undefined;
    case "add":
      for (let from = 0; from < order.ids.length; from += ADD_BATCH) {
        const tasks = order.ids.slice(from, from + ADD_BATCH).map((id) => ({ id, description: `Task ${id} of a benchmark` }));
        await opened().ask("add_tasks", { tasks });
      }
      return undefined;
    case "drain":
      return await drain(order.workMs);
    case "close":
      await client?.close();
      return undefined;
  }
}

process.on("message", (order: Order) => {
  obey(order).then(
    (done) => process.send?.({ done } satisfies Report),
    (error: unknown) =>
      process.send?.({ failed: error instanceof Error ? (error.stack ?? error.message) : "unknown" } satisfies Report),
  );
});
// the benchmark is gone: so is its worker, and with its stdin the server
process.on("disconnect", () => process.exit(0));
