import { type ManualClock, manualClock, SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { OpenGuard } from "../src/index.ts";

const caller = { agentId: "ann", verified: false, processId: "process-1" };
const claim = { operation: "task:claim", resource: "task/a" };
const REFUSED = expect.objectContaining({ code: "failed_precondition", hint: expect.stringContaining("SWARM_KEY_FILE") });

let clock: ManualClock;
let store: Store;
let down: boolean;
let errors: unknown[];
beforeEach(() => {
  clock = manualClock();
  down = false;
  errors = [];
  store = new Proxy(new MemoryStore({ clock }), {
    get(target, name) {
      if (name === "get" && down)
        return async () => Promise.reject(new SwarmError("unavailable", "The store cannot be reached."));
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
});
const open = () => OpenGuard.open({ store, clock, onError: (error) => errors.push(error) });
const secure = (jws: string | undefined) =>
  store.transact((tx) => (jws === undefined ? tx.delete("trust/bundle") : tx.put("trust/bundle", { jws })));

describe("the guard of an open swarm", () => {
  test("lets everybody in and writes nothing down", async () => {
    const guard = await open();
    const { call, settle, ended } = await guard.admit(caller, claim);
    await call.transact((tx) => tx.put("x/1", 1) ?? null);
    await settle();
    expect([guard.secured, guard.stillAdmits(), ended]).toEqual([false, true, undefined]);
    expect(await store.snapshot((view) => view.namespaces())).toEqual(["x"]);
    await guard.close();
  });

  test("of a process that was stopped looks before it lets anybody in, whatever its timers do", async () => {
    verifies("SEC-05");
    let stoppedMs = 0;
    const now = clock.now.bind(clock);
    clock.now = () => now() + stoppedMs;
    const guard = await open();
    await secure("signed");
    stoppedMs = 30_000; // and its timer has not fired
    await expect(guard.admit(caller, claim)).rejects.toEqual(REFUSED);
    await guard.close();
  });

  test("lets nobody in from its next look on once the swarm is secured, tells so, and stays shut when the bundle is taken away", async () => {
    verifies("SEC-05");
    const guard = await open();
    let told = 0;
    guard.onChange(() => {
      told += 1;
    });
    await secure("signed");
    await clock.advance(4_999);
    guard.checkProcess();
    await clock.advance(1);
    expect(() => guard.checkProcess()).toThrow(REFUSED);
    await expect(guard.admit(caller, claim)).rejects.toEqual(REFUSED);
    await expect(guard.admitList()).rejects.toEqual(REFUSED);
    expect(guard.stillAdmits()).toBe(false);
    await secure(undefined);
    await clock.advance(60_000);
    expect(() => guard.checkProcess()).toThrow(REFUSED);
    expect(told).toBe(1);
    await guard.close();
  });

  test("lets nobody in from its beginning when the swarm is secured already", async () => {
    verifies("SEC-05");
    await secure("signed");
    const guard = await open();
    expect(() => guard.checkProcess()).toThrow(REFUSED);
    await guard.close();
  });

  test("looks again after a look that failed, and no more once it is closed", async () => {
    const guard = await open();
    await secure("signed");
    down = true;
    await clock.advance(10_000);
    expect(errors).toHaveLength(2);
    guard.checkProcess();
    down = false;
    await clock.advance(5_000);
    expect(() => guard.checkProcess()).toThrow(REFUSED);
    down = true;
    await guard.close();
    await clock.advance(60_000);
    expect(errors).toHaveLength(2);
  });
});
