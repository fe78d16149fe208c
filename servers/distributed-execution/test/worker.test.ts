import { SwarmError, systemClock } from "@mcp-swarm/core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { eventually } from "../../../test/support/host.ts";
import type { Environment } from "../src/environment.ts";
import { NO_OPERATOR_FILE } from "../src/operator-file.ts";
import type { Driver, DriverName, Probe } from "../src/sandbox/driver.ts";
import { Drivers } from "../src/sandbox/drivers.ts";
import { Offers, type OffersOptions } from "../src/worker/offers.ts";
import { Worker, type WorkerOptions } from "../src/worker/worker.ts";
import { FakeDriver } from "./support/fake-driver.ts";
import { environmentOf, FakeSource, JAVASCRIPT } from "./support/fake-source.ts";

const WORKER_ID = "worker-1";

let source: FakeSource;
let driver: FakeDriver;
let errors: string[];
let environments: Environment[];
let worker: Worker | undefined;
beforeEach(() => {
  source = new FakeSource();
  driver = new FakeDriver();
  errors = [];
  environments = [JAVASCRIPT];
});
afterEach(async () => {
  await worker?.stop();
  worker = undefined;
});

const onError = (_error: unknown, message: string) => void errors.push(message);

function offersOf(more: Partial<OffersOptions> = {}, drivers: Partial<Record<DriverName, Driver>> = { quickjs: driver }): Offers {
  const loaders = Object.fromEntries(Object.entries(drivers).map(([name, one]) => [name, async () => () => one]));
  return new Offers({
    ...{
      drivers: new Drivers({ slots: 2, operator: NO_OPERATOR_FILE, onError }, loaders),
      clock: systemClock,
      arch: "x64",
      labels: ["gpu"],
      onError,
    },
    beyond: () => undefined,
    find: async (name) => environments.find((one) => one.name === name),
    ...more,
  });
}

function working(more: Partial<WorkerOptions> = {}): Worker {
  worker = new Worker({
    ...{ workerId: WORKER_ID, arch: "x64", labels: ["gpu"], slots: 2, source, clock: systemClock, onError, mayRun: () => true },
    offers: offersOf(),
    sessions: {
      ids: () => [],
      hasRoom: true,
      onRoom: () => ({ [Symbol.dispose]: () => {} }),
      close: async () => {},
      run: async (_id, open, task, hooks) => await (await open()).run(task, hooks),
    },
    ...more,
  });
  worker.start();
  return worker;
}

const ended = (count: number) => eventually(`${count} ends`, () => source.finished.length + source.givenBack.length >= count);

describe("a worker", () => {
  test.each([false, true])(
    "runs what waits, never more at once than it has slots (ends fused with claims: %s)",
    async (fuses) => {
      verifies("EXEC-10");
      source.fuses = fuses;
      source.add(...Array.from({ length: 20 }, (_, n) => ({ id: `e${n}`, code: `set x ${n}\nget x` })));
      working();
      await ended(20);
      expect(source.finished.map(({ id, outcome }) => `${id} ${outcome.value}`).sort()).toEqual(
        Array.from({ length: 20 }, (_, n) => `e${n} ${n}`).sort(),
      );
      expect(driver.most).toBeLessThanOrEqual(2);
      expect(errors).toEqual([]);
    },
  );

  test("gives the driver the task's own run time within the environment's limits", async () => {
    const limits: number[] = [];
    driver.run = async (task) => {
      limits.push(task.limits.wallMs);
      return { ending: { kind: "exit", code: 0 }, usage: { wallMs: 1 }, files: [], cut: {} };
    };
    source.add({ id: "short", code: "", runMs: 500 }, { id: "long", code: "", runMs: 3_000_000 });
    working({ slots: 1 });
    await ended(2);
    expect(limits).toEqual([500, JAVASCRIPT.limits.wallMs]);
  });

  test("kills a run whose lease is lost or whose task is cancelled, and says what came of it", async () => {
    verifies("EXEC-09");
    source.add({ id: "hangs", code: "say begun\nhang" });
    working();
    const ending = await eventually("it runs", () => source.running.get("hangs"));
    await eventually("the driver has it", () => driver.running === 1);
    ending.abort();
    await ended(1);
    expect(driver.running).toBe(0);
    expect(source.finished[0]?.outcome).toMatchObject({ ending: { kind: "killed" }, stdout: Buffer.from("begun") });
    expect(source.givenBack).toEqual([]);
  });

  test("that is stopped kills what runs and gives it back, and takes nothing more", async () => {
    verifies("EXEC-10");
    source.add({ id: "a", code: "hang" }, { id: "b", code: "hang" }, { id: "c", code: "hang" });
    const one = working();
    await eventually("two run", () => driver.running === 2);
    await one.stop();
    expect(driver.running).toBe(0);
    expect(source.givenBack.map(({ id }) => id).sort()).toEqual(["a", "b"]);
    expect(source.givenBack.every(({ failure }) => failure === undefined)).toBe(true);
    expect(source.waiting.map(({ id }) => id)).toEqual(["c"]);
    expect(source.finished).toEqual([]);
  });

  test("writes down what came out as soon as the store is there again", async () => {
    source.add({ id: "a", code: "say done" });
    driver.run = async (_task, hooks) => {
      source.away = new SwarmError("unavailable", "away");
      hooks.onOutput("stdout", Buffer.from("done"));
      return { ending: { kind: "exit", code: 0 }, usage: { wallMs: 1 }, files: [], cut: {} };
    };
    working();
    await eventually("a failed try", () => errors.length >= 2);
    source.away = undefined;
    await ended(1);
    expect(source.finished[0]).toMatchObject({ id: "a", accepted: true, outcome: { stdout: Buffer.from("done") } });
  });

  test("gives back what it could not start, as the sandbox's failure, and tries the driver anew before it takes more", async () => {
    verifies("EXEC-09");
    let probes = 0;
    let broken = true;
    const probe = driver.probe.bind(driver);
    const run = driver.run.bind(driver);
    driver.probe = async () => {
      probes += 1;
      return await probe();
    };
    driver.run = async (task, hooks) => {
      if (!broken) return await run(task, hooks);
      broken = false;
      throw new SwarmError("unavailable", "It did not start.");
    };
    source.add({ id: "a", code: "exit 0" });
    working();
    await ended(1);
    expect(source.givenBack).toEqual([{ id: "a", failure: "sandbox" }]);
    source.add({ id: "b", code: "exit 3" });
    await ended(2);
    expect(source.finished[0]).toMatchObject({ id: "b", outcome: { ending: { kind: "exit", code: 3 } } });
    expect(probes).toBe(2);
  });

  test("after a start that failed tries its driver anew for what waits already, without being woken", async () => {
    verifies("EXEC-09");
    const run = driver.run.bind(driver);
    driver.run = async () => {
      driver.run = run;
      await eventually("it has looked at what waits once more, and waits to be woken", () => source.asked >= 2);
      throw new SwarmError("unavailable", "It did not start.");
    };
    source.add({ id: "a", code: "exit 0" }, { id: "b", code: "exit 3" }, { id: "c", code: "exit 0" });
    working({ slots: 1 });
    await ended(3);
    expect(source.givenBack).toEqual([{ id: "a", failure: "sandbox" }]);
    expect(source.finished.map(({ id }) => id)).toEqual(["b", "c"]);
  });

  test("lets go of a run that it cannot bring to its end, so that its lease ends it, and goes on with others", async () => {
    verifies("EXEC-09");
    const offers = offersOf();
    const driverOf = offers.driverOf.bind(offers);
    offers.driverOf = async () => {
      offers.driverOf = driverOf;
      throw new Error("a package is broken");
    };
    source.add({ id: "a", code: "exit 0" }, { id: "b", code: "exit 0" });
    working({ slots: 1, offers });
    await ended(1);
    expect(source.abandoned).toEqual(["a"]);
    expect(source.finished.map(({ id }) => id)).toEqual(["b"]);
    expect([...source.running.keys()]).toEqual([]);
    expect(errors).toEqual(["A run was not brought to its end; its lease ends it"]);
  });

  test("opens a sandbox for the first task of a session alone: a later one would find nothing of what was made", async () => {
    verifies("EXEC-13");
    source.add(
      { id: "later", code: "get x", sessionId: "s", boundTo: WORKER_ID },
      { id: "first", code: "get x", sessionId: "t" },
    );
    working();
    await ended(2);
    expect(source.givenBack).toEqual([{ id: "later", failure: "session_lost" }]);
    expect(source.finished.map(({ id }) => id)).toEqual(["first"]);
  });

  test("asks for first tasks of sessions as soon as it has room for one again", async () => {
    verifies("EXEC-13");
    let hasRoom = false;
    let told = () => {};
    const sessions = {
      ids: () => [],
      get hasRoom() {
        return hasRoom;
      },
      onRoom: (tell: () => void) => {
        told = tell;
        return { [Symbol.dispose]: () => {} };
      },
      close: async () => {},
      run: async () => await Promise.reject(new Error("It runs nothing")),
    };
    const offers = offersOf();
    await offers.look([{ environment: "javascript", version: 1 }]);
    working({ offers, sessions });
    await eventually("it asks", () => source.profiles.length > 0);
    expect(source.profiles.at(-1)?.takesSessions).toBe(false);
    hasRoom = true;
    told();
    await eventually("it asks anew", () => source.profiles.at(-1)?.takesSessions);
  });

  test("does not run what its policy no longer lets it run, and gives back what it has claimed already", async () => {
    let permitted = true;
    source.add({ id: "a", code: "exit 0" });
    working({ mayRun: () => permitted });
    await ended(1);
    permitted = false; // it waits with the profile of before
    source.add({ id: "b", code: "exit 0" });
    await ended(2);
    expect(source.givenBack).toEqual([{ id: "b", failure: undefined }]);
    expect(driver.begun).toEqual(["a-1"]);
  });

  test("finds out about an environment when a task waits for it, and of one that is not for it only that", async () => {
    const tried: string[] = [];
    const find = async (name: string) => {
      tried.push(name);
      return environments.find((one) => one.name === name);
    };
    const special = environmentOf({ name: "special", runtime: "javascript", requires: { labels: ["gpu"] } });
    const foreign = environmentOf({ name: "foreign", runtime: "javascript", requires: { arch: "riscv64" } });
    environments = [JAVASCRIPT, special, foreign];
    working({ offers: offersOf({ find }) });
    source.add({ id: "f", code: "exit 0", environment: foreign }, { id: "s", code: "exit 0", environment: special });
    await ended(1);
    expect(source.finished[0]?.id).toBe("s");
    expect(tried).toEqual(["special"]);
    expect(source.waiting.map(({ id }) => id)).toEqual(["f"]);
  });

  test("takes what it can run while another driver is still being tried, and its end does not wait for that", async () => {
    const slow = new FakeDriver();
    let tried = 0;
    slow.probe = async () => {
      tried += 1;
      return await new Promise<never>(() => {});
    };
    const late = environmentOf({ name: "late", runtime: "bash", drivers: ["bwrap"] });
    environments = [JAVASCRIPT, late];
    source.add({ id: "l", code: "exit 0", environment: late }, { id: "a", code: "exit 0" });
    const one = working({ offers: offersOf({}, { quickjs: driver, bwrap: slow }) });
    await ended(1);
    environments.push(environmentOf({ name: "more", runtime: "javascript" }));
    source.add({ id: "b", code: "exit 0", environment: environments.at(-1) as Environment });
    await ended(2);
    expect(source.finished.map(({ id }) => id)).toEqual(["a", "b"]);
    expect(tried).toBe(1);
    await one.stop();
  });

  test("that cannot reach the store asks again", async () => {
    source.away = new SwarmError("unavailable", "away");
    const offers = offersOf();
    await offers.look([{ environment: "javascript", version: 1 }]);
    working({ offers });
    await eventually("it has asked several times", () => errors.length >= 3);
    source.away = undefined;
    source.add({ id: "a", code: "exit 0" });
    await ended(1);
    expect(source.finished).toHaveLength(1);
  });
});

describe("what a worker offers", () => {
  const without = async (change: (probe: Extract<Probe, { available: true }>["capabilities"]) => object): Promise<void> => {
    const whole = (await driver.probe()) as Extract<Probe, { available: true }>;
    driver.probe = async () => ({
      available: true,
      capabilities: { ...whole.capabilities, ...change(whole.capabilities) } as typeof whole.capabilities,
    });
  };
  const reason = async (environment: Environment, offers = offersOf()) => {
    const offer = await offers.of(environment);
    return offer.available ? "" : offer.reason;
  };

  test("is what its drivers showed, on the first of an environment's drivers that can", async () => {
    verifies("EXEC-10");
    const broken = new FakeDriver();
    broken.probe = async () => ({ available: false, reason: "It is not installed." });
    const both = environmentOf({ name: "both", runtime: "javascript", drivers: ["bwrap", "quickjs"] });
    const offers = offersOf({}, { bwrap: broken, quickjs: driver });
    expect(await offers.of(both)).toMatchObject({ available: true, driver: "quickjs", runtimeVersion: "fake" });
    expect(await offers.driverOf(both)).toBe(driver);
    expect(await reason({ ...both, drivers: ["bwrap"] }, offers)).toBe("It is not installed.");
    expect(await reason({ ...both, drivers: ["docker"] }, offers)).toBe("This worker has no such driver.");
  });

  test("is never on a driver that does not hold a limit, open what is wanted, or keep what a session needs", async () => {
    verifies("EXEC-10");
    expect(await reason(JAVASCRIPT)).toBe("");
    expect(await reason({ ...JAVASCRIPT, runtime: "cobol" })).toBe("There is no cobol that it can run.");
    await without(({ limits }) => ({ limits: { ...limits, memoryMiB: "none", cpuMs: "watched" } }));
    expect(await reason(JAVASCRIPT)).toBe("It cannot hold the limits memoryMiB here.");
    await without(({ limits }) => ({
      limits: { ...limits, memoryMiB: "enforced" },
      opens: { network: "hosts", mounts: false, packages: false },
      session: "files",
    }));
    expect(await reason(JAVASCRIPT)).toBe("Sessions on it keep files.");
    const plain: Environment = { ...JAVASCRIPT, session: "none" };
    expect(await reason(plain)).toBe("");
    expect(await reason({ ...plain, network: { mode: "hosts", hosts: ["example.org"] } })).toBe("");
    expect(await reason({ ...plain, network: { mode: "all" } })).toBe("It cannot open the network to all here.");
    expect(await reason({ ...plain, mounts: [{ from: "/a", to: "/b", readOnly: true }] })).toMatch(/mount/);
    expect(await reason({ ...plain, packages: ["numpy"] })).toMatch(/packages/);
  });

  test("is within what its own operator permits, its labels and its architecture, whatever the store says", async () => {
    const strict = offersOf({ beyond: () => "Not here." });
    expect(await reason(JAVASCRIPT, strict)).toBe("Not here.");
    expect(await strict.driverOf(JAVASCRIPT)).toBeUndefined();
    expect(await reason({ ...JAVASCRIPT, requires: { labels: ["gpu", "tpu"] } })).toMatch(/labels it wants: tpu\.$/);
    expect(await reason({ ...JAVASCRIPT, requires: { arch: "arm64" } })).toMatch(/wants the architecture arm64/);
    expect(await reason(JAVASCRIPT, offersOf({ only: ["python"] }))).toBe("This worker was started for other environments.");
  });

  test("is not tried before it is asked for; what failed is tried again after a while, and a throwing driver is told of", async () => {
    let at = 1_000;
    let probes = 0;
    driver.probe = async () => {
      probes += 1;
      throw new Error("a secret path");
    };
    const offers = offersOf({ clock: { ...systemClock, now: () => at } });
    expect(probes).toBe(0);
    expect(await reason(JAVASCRIPT, offers)).toBe("It failed when it was tried; the worker's log says more.");
    expect(errors).toEqual(["The driver quickjs failed when it was tried"]);
    const times: number[] = [];
    for (let seconds = 1; seconds <= 200; seconds++) {
      at += 1_000;
      const before = probes;
      await reason(JAVASCRIPT, offers);
      if (probes > before) times.push(seconds);
    }
    expect(times).toEqual([2, 6, 14, 30, 62, 122, 182]);
  });
});
