import { type ManualClock, manualClock, SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { liveWorkers, type WorkerDescription, WorkerPresence } from "../src/worker/worker-row.ts";

const LEASE_MS = 9_000;

let clock: ManualClock;
let store: MemoryStore;
let running: number;
let errors: unknown[];
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
  running = 0;
  errors = [];
});

const described = (id: string): WorkerDescription => ({
  ...{ id, name: id, kind: "worker", host: "machine", platform: "linux", arch: "x64", labels: [], slots: 2, running },
  ...{ offers: [], drivers: {} },
});

function presence(id: string, through: Pick<Store, "transact"> = store): WorkerPresence {
  const describe = () => described(id);
  return new WorkerPresence({ store: through, clock, leaseMs: LEASE_MS, describe, onError: (error) => errors.push(error) });
}

describe("a worker's row", () => {
  test("is there while the worker lives, tells what it does now, and goes with it", async () => {
    verifies("EXEC-10");
    const one = presence("one");
    await one.announce();
    const startedAt = clock.now();
    running = 2;
    await clock.advance(5 * LEASE_MS);
    const [row] = await liveWorkers(store);
    expect(row).toMatchObject({ id: "one", running: 2, startedAt });
    expect(clock.now() - (row?.seenAt ?? 0)).toBeLessThanOrEqual(LEASE_MS / 3);
    await one.leave();
    expect(await liveWorkers(store)).toEqual([]);
    await clock.advance(LEASE_MS);
    expect(await liveWorkers(store)).toEqual([]);
  });

  test("ends with its lease when the worker died", async () => {
    verifies("EXEC-10");
    let dead = false;
    const transact: Store["transact"] = async (plan) => {
      if (dead) throw new SwarmError("unavailable", "away");
      return await store.transact(plan);
    };
    const dying = presence("one", { transact });
    await dying.announce();
    await presence("two").announce();
    dead = true;
    await clock.advance(LEASE_MS + 1);
    expect((await liveWorkers(store)).map(({ id }) => id)).toEqual(["two"]);
    expect(errors.length).toBeGreaterThan(1);
    dead = false; // it was only cut off
    await clock.advance(LEASE_MS / 3);
    expect((await liveWorkers(store)).map(({ id }) => id)).toEqual(["one", "two"]);
  });
});
