import { manualClock, seededRandom } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { forgetEnded } from "../src/execution-retention.ts";
import { hostOn, maintain } from "./support/queue-swarm.ts";

const FEW = 200;
const MANY = 5_000;

/** How many entries each operation touches in a store with so many executions in every status. */
async function costs(count: number): Promise<Record<string, number>> {
  const clock = manualClock();
  const { store, touched } = counted(new MemoryStore({ clock }));
  const host = hostOn(store, "worker", { clock, seed: count });
  const random = seededRandom(count);
  for (let at = 0; at < count; at++) {
    await host.submit({ priority: random.integer(9), environment: at % 2 === 0 ? "javascript" : "python" });
    if (at % 4 !== 0) continue;
    const run = await host.take();
    if (run && at % 8 === 0) await host.finish(run);
  }
  const cost: Record<string, number> = {};
  const measure = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const before = touched();
    const result = await work();
    cost[name] = touched() - before;
    return result;
  };
  const claim = async () => {
    const run = await host.take();
    if (!run) throw new Error("Nothing was claimed");
    return run;
  };
  await claim(); // the queues of this process are known from here on
  await measure("submit", () => host.submit());
  await measure("submit with dedupe and a file", () => host.submit({ dedupe: "k", files: [{ path: "a", text: "x" }] }));
  const task = await host.submit({ priority: 9 });
  const run = await measure("claim", claim);
  expect(run.record.id).toBe(task.id);
  await measure("output", () => host.work.output(run, [{ stream: "stdout", bytes: Buffer.from("x") }]));
  const second = await measure("finish and claim", () => host.finish(run, { stdout: Buffer.from("x") }, host.profile()));
  if (!second.next) throw new Error("Nothing was claimed");
  await measure("give back", () => host.work.giveBack(second.next as NonNullable<typeof second.next>));
  await measure("finish", async () => host.finish(await claim()));
  await measure("get", () => host.executions.get(host.call, { taskId: task.id }));
  await measure("read output", () => host.executions.output(host.call, { taskId: task.id }));
  await measure("list", () => host.executions.list(host.call, { limit: 20 }));
  await measure("list running", () => host.executions.list(host.call, { status: "running", limit: 5 }));
  await measure("list ended", () => host.executions.list(host.call, { status: "succeeded", limit: 5 }));
  const waiting = await host.submit();
  await measure("cancel", () => host.executions.cancel(host.call, { taskId: waiting.id }));
  await measure("demand", () => host.work.demand());
  await measure("maintain", () => maintain(host.jobs));
  await measure("a whole pass of forgetting", async () => {
    let after: string | undefined;
    do ({ after } = await forgetEnded(store, host.context, { olderThanMs: 3_600_000, after }));
    while (after !== undefined);
  });
  return cost;
}

test("no operation touches more entries because there are more executions", async () => {
  verifies("EXEC-09");
  const few = await costs(FEW);
  const many = await costs(MANY);
  expect(many).toEqual(few);
  expect(Math.max(...Object.values(few))).toBeLessThan(100);
  // each is one commit of few rows
  expect(few.submit).toBeLessThan(15);
  expect(few.claim).toBeLessThan(20);
  expect(few["finish and claim"]).toBeLessThan(30);
});
