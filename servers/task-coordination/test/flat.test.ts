import { seededRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { estimateTask } from "../src/estimate.ts";
import { getMetrics } from "../src/metrics.ts";
import { hostOn, swarm } from "./support/swarm.ts";

const FEW = 200;
const MANY = 20_000;

/** How many entries each operation touches in a store with so many tasks in every status. */
async function costs(count: number): Promise<Record<string, number>> {
  const { clock } = swarm();
  const memory = new MemoryStore({ clock });
  const { store, touched } = counted(memory);
  const worker = hostOn(store, "worker", { clock, seed: 1, remote: true });
  const call = plainCall(store, { agentId: "worker", verified: false, processId: undefined });
  const random = seededRandom(count);
  for (let added = 0; added < count; added += 200) {
    const tasks = Array.from({ length: 200 }, (_, at) => ({
      id: `t${added + at}`,
      description: "x",
      priority: random.integer(10),
      ...(at % 4 === 3 ? { dependencies: [`t${added + at - 1}`] } : {}),
      ...(at % 4 === 1 ? { notBeforeAt: clock.now() + 1_000_000 } : {}),
    }));
    await worker.tasks.addMany(call, { tasks });
  }
  for (let at = 0; at < count; at += 16) {
    await worker.claims.claimTask(call, { taskId: `t${at}` });
    if (at % 32 === 0) await worker.claims.update(call, { taskId: `t${at}`, status: "done" });
  }

  const cost: Record<string, number> = {};
  const measure = async (name: string, work: () => Promise<unknown>) => {
    const before = touched();
    await work();
    cost[name] = touched() - before;
  };
  await worker.claims.claimNext(call, {}); // the queue of this process is known from here on
  const taskId = "front";
  await worker.tasks.add(call, { id: taskId, description: "x", priority: 9, deadlineAt: 1 });
  await measure("claim next", async () => {
    expect((await worker.claims.claimNext(call, {}))?.task.id).toBe(taskId);
  });
  await measure("renew", () => worker.claims.renew(call, { taskId }));
  await measure("done", () => worker.claims.update(call, { taskId, status: "done", output: 1 }));
  await measure("claim", () =>
    worker.claims.claimTask(call, { taskId: "t4" }).catch(() => worker.claims.claimTask(call, { taskId: "t8" })),
  );
  await measure("add", () => worker.tasks.add(call, { description: "x" }));
  await measure("cancel", () => worker.tasks.cancel(call, { taskId: "t1" }));
  await measure("list", () => worker.tasks.list(call, { limit: 20 }));
  await measure("list by status", () => worker.tasks.list(call, { status: "available", limit: 20 }));
  await measure("list available", () => worker.tasks.available(call, { limit: 20 }));
  await measure("get", () => worker.tasks.get(call, { taskId: "t2" }));
  await measure("metrics", () => getMetrics(call, { scope: "swarm" }, worker.slots));
  await measure("estimate", () => estimateTask(store, { taskId: "t2" }));
  await measure("maintain", () => worker.maintain());
  await measure("sweep", () => worker.tasks.sweepEnded(store, { olderThanMs: 0, limit: 1 }));
  return cost;
}

test("no operation touches more entries because there are more tasks", async () => {
  verifies("TASK-21");
  const few = await costs(FEW);
  const many = await costs(MANY);
  expect(many).toEqual(few);
  expect(Math.max(...Object.values(few))).toBeLessThan(100);
});
