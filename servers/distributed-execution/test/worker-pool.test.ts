import { LeaseKeeper } from "@mcp-swarm/coordination";
import { systemClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { eventually } from "../../../test/support/host.ts";
import { Environments } from "../src/environments.ts";
import { NO_OPERATOR_FILE } from "../src/operator-file.ts";
import type { Probe } from "../src/sandbox/driver.ts";
import { WorkerPool, type WorkerPoolOptions } from "../src/worker/worker-pool.ts";
import { liveWorkers } from "../src/worker/worker-row.ts";
import { Workplace } from "../src/worker/workplace.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { FakeSource } from "./support/fake-source.ts";

const WORKER_ID = "worker-1";

let source: FakeSource;
let driver: FakeDriver;
let store: MemoryStore;
let errors: string[];
let loads: number;
let closes: number;
let pool: WorkerPool | undefined;
beforeEach(() => {
  source = new FakeSource();
  store = new MemoryStore({ clock: systemClock });
  errors = [];
  loads = 0;
  closes = 0;
  driver = new FakeDriver();
  driver.close = async () => {
    closes += 1;
  };
});
afterEach(async () => {
  await pool?.close();
  pool = undefined;
});

const onError = (_error: unknown, message: string) => void errors.push(message);

function pooled(more: Partial<WorkerPoolOptions> = {}, slots = 2): WorkerPool {
  const leases = new LeaseKeeper({ store, clock: systemClock, leaseMs: 5_000, onError: (error) => onError(error, "leases") });
  const load = async () => {
    loads += 1;
    return new Workplace({
      ...{ workerId: WORKER_ID, store, clock: systemClock, leaseMs: 5_000, leases, source, onError },
      settings: { kind: "server", labels: [], slots },
      environments: new Environments({ clock: systemClock }),
      operator: NO_OPERATOR_FILE,
      letGo: () => {},
      mayRun: () => true,
      loaders: { quickjs: async () => () => driver },
    });
  };
  pool = new WorkerPool({ ...{ store, clock: systemClock, source, workerId: WORKER_ID, load, onError }, ...more });
  pool.start();
  return pool;
}

const ended = (count: number) => eventually(`${count} ends`, () => source.finished.length >= count);

describe("the pool of a server", () => {
  test("loads, tries and writes nothing until something waits, and then runs it", async () => {
    verifies("EXEC-10");
    pooled();
    await eventually("it has looked", () => source.asked > 0);
    expect([loads, await liveWorkers(store)]).toEqual([0, []]);
    source.add({ id: "a", code: "exit 0" });
    await ended(1);
    expect(loads).toBe(1);
    expect(await liveWorkers(store)).toMatchObject([{ id: WORKER_ID, kind: "server", offers: [{ environment: "javascript" }] }]);
    expect(errors).toEqual([]);
  });

  test("lets go of all that it keeps warm when nothing has run for a while, and begins again when something waits", async () => {
    verifies("EXEC-10");
    pooled({ idleMs: 20 });
    source.add({ id: "a", code: "exit 0" });
    await ended(1);
    await eventually("it has let go", async () => closes === 1 && (await liveWorkers(store)).length === 0);
    source.add({ id: "b", code: "exit 0" });
    await ended(2);
    expect(loads).toBe(1);
    expect(source.finished.map(({ id }) => id)).toEqual(["a", "b"]);
  });

  test("does not begin for what it cannot run, and does not try it again for each wake", async () => {
    let probes = 0;
    driver.probe = async (): Promise<Probe> => {
      probes += 1;
      return { available: false, reason: "No." };
    };
    pooled();
    source.add({ id: "a", code: "exit 0" });
    await eventually("it was tried", () => probes === 1);
    const asked = source.asked;
    for (let n = 0; n < 20; n++) source.add({ id: `more-${n}`, code: "exit 0" });
    await eventually("it has looked again", () => source.asked > asked);
    expect([probes, source.profiles.length, source.waiting.length, await liveWorkers(store)]).toEqual([1, 0, 21, []]);
    expect(errors).toEqual([]);
  });

  test("tells what runs on it when somebody asks, without beginning to work", async () => {
    verifies("EXEC-03");
    const asked = pooled();
    const rows = await asked.workers(10_000);
    expect(rows).toHaveLength(1);
    const offers = new Map(rows[0]?.offers.map((offer) => [offer.environment, offer]));
    expect(offers.get("javascript")).toMatchObject({ available: true, driver: "quickjs" });
    expect(offers.get("bash")).toEqual({
      ...{ environment: "bash", version: 1, available: false },
      reason: "bwrap: This worker has no such driver. sandbox-runtime: This worker has no such driver.",
    });
    expect(rows[0]?.drivers.quickjs).toMatchObject({ available: true, capabilities: { limits: { memoryMiB: "enforced" } } });
    expect([source.profiles.length, await liveWorkers(store)]).toEqual([0, []]);
  });

  test("that is closed in the middle of a run gives it back and ends", async () => {
    source.add({ id: "a", code: "hang" });
    const closing = pooled();
    await eventually("it runs", () => driver.running === 1);
    await closing.close();
    expect([driver.running, closes, await liveWorkers(store)]).toEqual([0, 1, []]);
    expect(source.givenBack).toEqual([{ id: "a", failure: undefined }]);
  });

  test("that is closed while a driver is being tried blames nobody", async () => {
    let stopProbe: ((error: Error) => void) | undefined;
    driver.probe = async () =>
      await new Promise<Probe>((_, reject) => {
        stopProbe = reject;
      });
    driver.close = async () => stopProbe?.(new Error("It was closed."));
    const closing = pooled();
    const asking = closing.workers(10_000);
    await eventually("it is tried", () => stopProbe !== undefined);
    await closing.close();
    await asking;
    expect(errors).toEqual([]);
  });

  test("of no slots runs nothing", async () => {
    const none = pooled({ load: undefined });
    source.add({ id: "a", code: "exit 0" });
    expect(await none.workers(10)).toEqual([]);
    expect([loads, source.asked]).toEqual([0, 0]);
  });
});
