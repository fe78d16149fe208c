/** Holders that die, sleep past their lease, or live on without a word. */

import { type StoredTask, type TaskChange, taskOf } from "@mcp-swarm/coordination/tasks";
import { openStore, type Store } from "@mcp-swarm/store";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, type ToolAnswer } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import { slowNetwork } from "../support/slow-network.ts";
import { ENGINES, size } from "./engines.ts";
import { stop } from "./stop.ts";

const LEASE_MS = 2_000;
/** The promise: a dead holder's task is available so long after its lease at the latest, by the store's clock. */
const GRACE_MS = 1_000;
const LEASES_LIVED = 6;
const TIMEOUT_MS = 3 * LEASE_MS;
const WAIT_MS = 20_000;
const PAUSES = size(4, 60);
const DEATHS = size(3, 40);

const env = { SWARM_LEASE_MS: String(LEASE_MS) };

async function stored(store: Store, id: string): Promise<StoredTask> {
  const entry = await store.get(`task/${id}`);
  if (!entry) throw new Error(`There is no task ${id}`);
  return taskOf(entry.value);
}

async function change(store: Store, id: string, event: TaskChange["event"]): Promise<TaskChange> {
  return await eventually(`${event} of ${id}`, async () => (await stored(store, id)).history.find((one) => one.event === event));
}

function refused(answer: ToolAnswer): void {
  expect(answer.isError, answer.text).toBe(true);
  expect(answer.text).toMatch(/^failed_precondition: /);
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test.concurrent.each([
    { who: "another agent", second: "second" },
    { who: "the same agent in another process", second: "first" },
  ])("a server that slept past its lease writes nothing over the work of $who", { timeout: 900_000 }, async ({ second }) => {
    verifies("TASK-07", "TASK-08");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using sleeper = await Host.start({ store: meeting.store, agent: "first", env });
    await using heir = await Host.start({ store: meeting.store, agent: second, env });
    for (let round = 0; round < PAUSES; round++) {
      const taskId = `task-${round}`;
      await heir.call("add_task", { id: taskId, description: "to be taken over" });
      const { fencingToken } = await sleeper.call<{ fencingToken: number }>("claim_task", { taskId });
      await stop(sleeper.pid, store);
      // these wait in the pipe, and are the first that the server reads when it wakes
      const late = [
        sleeper.try("update_task", { taskId, status: "done", output: "stale", fencingToken }),
        sleeper.try("update_task", { taskId, status: "done", output: "stale" }),
        sleeper.try("update_task", { taskId, status: "available", checkpoint: "stale" }),
        sleeper.try("update_task", { taskId, progress: { percent: 1 }, checkpoint: "stale" }),
        sleeper.try("renew_task", { taskId }),
      ];
      const taken = await heir.call<{ task: { id: string; attempt: number }; fencingToken: number }>("claim_next_task", {
        waitMs: WAIT_MS,
      });
      expect(taken).toMatchObject({ task: { id: taskId, attempt: 2 }, fencingToken: fencingToken + 1 });
      const finish = () => heir.call("update_task", { taskId, status: "done", output: "fresh" });
      if (round % 2 === 0) await finish(); // the sleeper wakes before its heir has finished, or after
      process.kill(sleeper.pid, "SIGCONT");
      for (const answer of await Promise.all(late)) refused(answer);
      if (round % 2 === 1) await finish();
      refused(await sleeper.try("update_task", { taskId, status: "done", output: "stale", fencingToken }));
      const after = await stored(store, taskId);
      expect(after).toMatchObject({ status: "done", output: "fresh", attempt: 2, fencingToken: fencingToken + 1 });
      expect(JSON.stringify(after)).not.toContain("stale");
    }
    await store.close();
  });

  test.concurrent("the task of a killed holder is available within its lease and a second, with one more attempt", async () => {
    verifies("TASK-07");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using other = await Host.start({ store: meeting.store, agent: "other", env }); // it asks for nothing
    const late: number[] = [];
    for (let round = 0; round < DEATHS; round++) {
      const taskId = `task-${round}`;
      await other.call("add_task", { id: taskId, description: "its holder dies" });
      const holder = await Host.start({ store: meeting.store, agent: "holder", env });
      await holder.call("claim_task", { taskId });
      // half of them die after their first renewals
      const claimed = await stored(store, taskId);
      const renewed = async () =>
        ((await stored(store, taskId)).claim?.leaseExpiresAt ?? 0) > (claimed.claim?.leaseExpiresAt ?? 0);
      if (round % 2 === 1) await eventually("a renewal", renewed);
      const killedAt = await store.now();
      await holder.kill();
      const leaseEnd = (await stored(store, taskId)).claim?.leaseExpiresAt ?? 0;
      expect(leaseEnd).toBeLessThanOrEqual((await store.now()) + LEASE_MS);
      const freed = await change(store, taskId, "lease_expired");
      expect(freed).toMatchObject({ by: "swarm", to: "available" });
      expect(freed.at).toBeGreaterThanOrEqual(leaseEnd);
      expect(freed.at - leaseEnd).toBeLessThanOrEqual(GRACE_MS);
      late.push(freed.at - killedAt);
      expect(await stored(store, taskId)).toMatchObject({ status: "available", attempt: 1, error: { code: "lease_expired" } });
      const again = await other.call("claim_task", { taskId });
      expect(again).toMatchObject({ task: { attempt: 2 }, fencingToken: 2 });
      await other.call("update_task", { taskId, status: "done" });
    }
    console.log(`Available again after a death, ms: ${late.join(", ")} (lease ${LEASE_MS})`);
    await store.close();
  }, 900_000);

  test.concurrent(`a living holder that says nothing keeps its claim for ${LEASES_LIVED} leases; its timeoutMs ends another`, async () => {
    verifies("TASK-07");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    await using holder = await Host.start({ store: meeting.store, agent: "holder", env });
    await using other = await Host.start({ store: meeting.store, agent: "other", env });
    await holder.call("add_task", { id: "long", description: "no end" });
    await holder.call("add_task", { id: "limited", description: "an end", timeoutMs: TIMEOUT_MS, maxAttempts: 2 });
    await holder.call("claim_task", { taskId: "long" });
    await holder.call("claim_task", { taskId: "limited" });
    const claimedAt = (await stored(store, "long")).claim?.at ?? 0;
    const limitedAt = (await stored(store, "limited")).claim?.at ?? 0;
    let looks = 0;
    await eventually(`${LEASES_LIVED} leases later`, async () => {
      const now = await store.now();
      const { status, claim, fencingToken } = await stored(store, "long");
      expect({ status, by: claim?.by, fencingToken }).toEqual({ status: "claimed", by: "holder", fencingToken: 1 });
      expect(claim?.leaseExpiresAt).toBeGreaterThan(now);
      const answer = await other.try("claim_task", { taskId: "long" });
      expect(answer.text).toMatch(/^conflict: Task long is held by holder until /);
      if (now < limitedAt + TIMEOUT_MS) expect((await stored(store, "limited")).status).toBe("claimed");
      looks += 1;
      return now >= claimedAt + LEASES_LIVED * LEASE_MS;
    });
    expect(looks).toBeGreaterThan(LEASES_LIVED);
    const over = await change(store, "limited", "timed_out");
    expect(over.at - limitedAt).toBeGreaterThanOrEqual(TIMEOUT_MS);
    expect(over.at - limitedAt).toBeLessThanOrEqual(TIMEOUT_MS + GRACE_MS);
    expect((await stored(store, "limited")).error).toMatchObject({ code: "timed_out", attempt: 1 });
    refused(await holder.try("update_task", { taskId: "limited", status: "done" }));
    await holder.call("update_task", { taskId: "long", status: "done" });
    await store.close();
  });
});

test("a lease ends over a network on which every answer takes its time", { timeout: 120_000 }, async () => {
  verifies("TASK-07");
  await using network = await slowNetwork(await freshDatabase(inject("postgresUrl")), 10);
  const store = await openStore(network.url);
  await using other = await Host.start({ store: network.url, agent: "other", env });
  await other.call("add_task", { id: "task", description: "its holder dies" });
  const holder = await Host.start({ store: network.url, agent: "holder", env });
  await holder.call("claim_task", { taskId: "task" });
  await holder.kill();
  const leaseEnd = (await stored(store, "task")).claim?.leaseExpiresAt ?? 0;
  const freed = await change(store, "task", "lease_expired");
  expect(freed.at - leaseEnd).toBeLessThanOrEqual(GRACE_MS);
  await store.close();
});
