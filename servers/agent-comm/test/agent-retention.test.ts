import { expect, test } from "vitest";
import { agentSweeper, forgetAgents } from "../src/agent-retention.ts";
import { agentSwarm, LEASE_MS } from "./support/agents.ts";

const DAY_MS = 24 * 3_600_000;

test("an agent that was silent for the retention time is forgotten with all it left; one that lives never is", async () => {
  const swarm = agentSwarm();
  const { store, clock } = swarm;
  const [old, recent] = [await swarm.agent("old"), await swarm.agent("recent")];
  await old.agents.register(old.call, { agentType: "x", capabilities: [] });
  await old.agents.configure(old.call, { configuration: { a: 1 } });
  await store.transact((tx) => tx.put("sub/old/s", { id: "s" }));
  old.die();
  recent.die();
  await clock.advance(20 * DAY_MS);
  await recent.agents.updateStatus(recent.call, { status: "idle" });
  await clock.advance(11 * DAY_MS - 1_000);
  const living = await swarm.agent("living");
  await living.agents.register(living.call, { agentType: "x", capabilities: [] });
  await store.transact((tx) => {
    // registered long ago, and heard of only through its presence since
    const record = tx.get("agent/living")?.value as object;
    tx.put("agent/living", { ...record, updatedAt: tx.now - 40 * DAY_MS });
  });
  living.die();
  expect(await living.agents.get(living.call, "living")).toMatchObject({ agent: { online: true } });

  expect(await forgetAgents(store, 30 * DAY_MS)).toEqual({ removed: 1 });
  for (const key of ["agent/old", "agent-config/old", "sub/old/s"]) expect(await store.get(key)).toBeUndefined();
  expect(await store.get("agent/recent")).toBeDefined();
  expect((await store.get("agent/living"))?.value).toMatchObject({ lastSeenAt: clock.now() });

  await clock.advance(LEASE_MS);
  expect(await agentSweeper({ retentionDays: 30 }).sweep(store)).toBe(0); // seen alive a moment ago
  expect(await agentSweeper({ retentionDays: 0 }).sweep(store)).toBe(2);
});

test("more agents than one batch looks at are swept too", async () => {
  const { store, clock } = agentSwarm();
  await store.transact((tx) => {
    for (let n = 0; n < 130; n++)
      tx.put(`agent/a${n}`, { id: `a${n}`, capabilities: [], status: "idle", registeredAt: 1, updatedAt: 1 });
  });
  await clock.advance(DAY_MS);
  expect(await agentSweeper({ retentionDays: 1 }).sweep(store)).toBe(130);
});
