import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { LEASE_MS, swarm } from "./support/swarm.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

test("there are so many slots and no more, and who finds none learns when to come again", async () => {
  verifies("TASK-01");
  const { host, clock } = swarm();
  const hosts = Array.from({ length: 8 }, (_, at) => host(`worker-${at}`));
  const outcomes = await Promise.allSettled(hosts.map((worker) => worker.slots.claim(worker.call)));
  const slots = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value.slot.slot] : []));
  expect(slots.toSorted()).toEqual([1, 2, 3, 4, 5]);
  const refused = outcomes.find((outcome) => outcome.status === "rejected");
  const until = new Date(clock.now() + LEASE_MS).toISOString();
  expect(refused).toMatchObject({ reason: { code: "limit_exceeded", hint: expect.stringContaining(until) } });
});

test("a slot is released by its holder alone, and then free", async () => {
  verifies("TASK-01");
  const { host } = swarm();
  const one = host("one", { workerSlots: 1 });
  const two = host("two", { workerSlots: 1 });
  const { slot } = await one.slots.claim(one.call);
  await expect(two.slots.release(two.call, slot)).rejects.toEqual(code("failed_precondition", /held by one/));
  await one.slots.release(one.call, slot);
  await expect(one.slots.release(one.call, slot)).rejects.toEqual(code("failed_precondition", /not held/));
  expect((await two.slots.claim(two.call)).slot).toMatchObject({ slot: 1, fencingToken: 2 });
});

test("a live process keeps its slot, and a dead one's frees itself", async () => {
  verifies("TASK-01");
  const { host, clock } = swarm();
  const live = host("live");
  const dead = host("dead", { remote: true, remoteLeaseMs: LEASE_MS });
  await live.slots.claim(live.call);
  await dead.slots.claim(dead.call);
  await clock.advance(LEASE_MS * 4);
  expect((await live.slots.workers(live.call)).workers.map(({ workerId }) => workerId)).toEqual(["live"]);
  for (let at = 0; at < 4; at++) await live.slots.claim(live.call);
  expect(await live.slots.workers(live.call)).toMatchObject({ slots: 5, free: 0 });
});

test("who has no process keeps its slot by renewing the task that it does there", async () => {
  verifies("TASK-01");
  const { host, clock } = swarm();
  const remote = host("remote", { remote: true, remoteLeaseMs: LEASE_MS });
  const { slot } = (await remote.slots.claim(remote.call)).slot;
  await remote.tasks.add(remote.call, { id: "a", description: "x" });
  await remote.claims.claimTask(remote.call, { taskId: "a", workerSlot: slot });
  for (let at = 0; at < 4; at++) {
    await clock.advance(LEASE_MS - 1);
    await remote.claims.renew(remote.call, { taskId: "a" });
  }
  expect((await remote.slots.workers(remote.call)).workers).toMatchObject([
    { slot, workerId: "remote", tasks: [{ taskId: "a" }] },
  ]);
});

test("workers are listed with what they work on in their slot", async () => {
  verifies("TASK-01", "TASK-05");
  const { host } = swarm();
  const worker = host("worker");
  await worker.tasks.addMany(worker.call, {
    tasks: [
      { id: "a", title: "A", description: "x" },
      { id: "b", description: "x" },
    ],
  });
  const first = (await worker.slots.claim(worker.call, { workerId: "left" })).slot;
  const second = (await worker.slots.claim(worker.call, { workerId: "right" })).slot;
  await expect(worker.claims.claimTask(worker.call, { taskId: "a", workerId: "left", workerSlot: second.slot })).rejects.toEqual(
    code("failed_precondition", /held by worker\/right/),
  );
  await worker.claims.claimTask(worker.call, { taskId: "a", workerId: "left", workerSlot: first.slot });
  await worker.claims.claimTask(worker.call, { taskId: "b", workerId: "right" });
  const { workers } = await worker.slots.workers(worker.call);
  expect(workers.map(({ workerId, tasks }) => ({ workerId, tasks }))).toEqual([
    { workerId: "worker/left", tasks: [{ taskId: "a", title: "A", status: "claimed" }] },
    { workerId: "worker/right", tasks: [{ taskId: "b", status: "claimed" }] },
  ]);
});
