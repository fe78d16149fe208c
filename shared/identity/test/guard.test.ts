import { SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Caller, Operation } from "../src/index.ts";
import { Pattern, type Policy } from "../src/policy/index.ts";
import { GuardedSwarm } from "./support/guarded-swarm.ts";

const WORK: Policy = { id: "work", effect: "permit", roles: ["worker"], operations: ["task:*"] };
const READING: Policy = { id: "reading", effect: "permit", roles: ["observer"], operations: ["*:read"] };

const claim: Operation = { operation: "task:claim", resource: "task/a", arguments: {}, tool: "claim_task" };
const read: Operation = { operation: "task:read", resource: "task/a", arguments: {}, tool: "get_task" };

let swarm: GuardedSwarm;
beforeEach(async () => {
  swarm = new GuardedSwarm();
  const members = {
    ...swarm.member("ann", ["worker"]),
    ...swarm.member("bob", ["observer"]),
    ...swarm.member("gate", ["worker"], { issuer: true }),
  };
  await swarm.publish({ members, policies: [WORK, READING] });
});

const http = (agentId: string, verified = true): Caller => ({ agentId, verified, processId: undefined });
const codeOf = (error: unknown) => (error instanceof SwarmError ? error.code : `not a SwarmError: ${error}`);
const outcome = (promise: Promise<unknown>) => promise.then(() => "permitted", codeOf);

describe("a call", () => {
  test("that a policy permits commits together with its audit entry", async () => {
    verifies("SEC-09", "SEC-16"); // no commit more than in an open swarm
    const { guard, caller } = await swarm.process("ann");
    const { call, settle } = await guard.admit(caller, claim);
    expect(await swarm.audited()).toEqual([]);
    let commits = 0;
    const counted = swarm.store.watch("x/", () => {
      commits += 1;
    });
    await call.transact((tx) => tx.put("x/1", 1) ?? null);
    counted[Symbol.dispose]();
    const [entry, ...more] = await swarm.audited();
    expect(more).toEqual([]);
    expect(entry).toMatchObject({
      agentId: "ann",
      verified: true,
      operation: "task:claim",
      resource: "task/a",
      outcome: "permit",
      reason: "permitted",
      policyIds: ["work"],
      tool: "claim_task",
    });
    expect(commits).toBe(1);
    await settle();
    expect(await swarm.audited()).toHaveLength(1);
  });

  test("whose transaction fails leaves neither its writes nor an entry that it was done", async () => {
    const { guard, caller } = await swarm.process("ann");
    const { call, settle } = await guard.admit(caller, claim);
    const failure = await call
      .transact((tx) => {
        tx.put("x/1", 1);
        throw new SwarmError("conflict", "Somebody else has it.");
      })
      .catch((error: unknown) => error);
    expect(codeOf(failure)).toBe("conflict");
    expect(await swarm.audited()).toEqual([]);
    await settle(failure);
    expect(await swarm.store.get("x/1")).toBeUndefined();
    expect(await swarm.audited()).toMatchObject([{ operation: "task:claim", outcome: "permit", reason: "conflict" }]);
  });

  test("that only reads is written down before its answer leaves, and once for many alike", async () => {
    const { guard, caller } = await swarm.process("bob");
    for (let i = 0; i < 50; i++) await (await guard.admit(caller, read)).settle();
    expect(await swarm.audited()).toMatchObject([{ agentId: "bob", operation: "task:read", outcome: "permit" }]);
    await swarm.clock.advance(61_000);
    expect(await swarm.audited()).toMatchObject([{}, { operation: "task:read", count: 49 }]);
  });

  test("that no policy permits is refused with what is missing and whom to ask, and written down before the refusal leaves", async () => {
    verifies("SEC-05");
    const { guard, caller } = await swarm.process("bob");
    const refusal = await guard.admit(caller, claim).catch((error: unknown) => error);
    expect(refusal).toMatchObject({
      code: "permission_denied",
      message: "No policy permits task:claim on task/a to bob (roles: observer).",
      hint: expect.stringContaining("root key"),
      retryable: false,
    });
    expect(await swarm.audited()).toMatchObject([
      { agentId: "bob", operation: "task:claim", resource: "task/a", outcome: "deny", reason: "insufficient_permissions" },
    ]);
  });

  test("repeated under its idempotency key is decided and written down like any other, and changes nothing more", async () => {
    const { guard, caller, trust } = await swarm.process("ann");
    const once = { key: "k", fingerprint: "f" };
    const add = async () => {
      const admission = await guard.admit(caller, claim, once);
      const result = await admission.call.transact((tx) => {
        const next = ((tx.get("x/n")?.value as number | undefined) ?? 0) + 1;
        tx.put("x/n", next);
        return next;
      });
      await admission.settle();
      return result;
    };
    expect([await add(), await add(), await add()]).toEqual([1, 1, 1]);
    expect(await swarm.audited()).toHaveLength(2); // the deed, and the first repetition; the second is counted
    await swarm.publish({ policies: [READING] });
    await swarm.round({ trust });
    await expect(add()).rejects.toMatchObject({ code: "permission_denied" });
  });

  test("cannot be made while nothing can be written down", async () => {
    verifies("SEC-09");
    let down = false;
    const failing = new Proxy(swarm.store, {
      get(target, name) {
        if (name === "transact" && down) return async () => Promise.reject(new SwarmError("unavailable", "The disk is full."));
        const member: unknown = Reflect.get(target, name, target);
        return typeof member === "function" ? member.bind(target) : member;
      },
    }) as Store;
    const { guard, caller } = await swarm.process("bob", { store: failing });
    down = true;
    const { settle } = await guard.admit(caller, read);
    await expect(settle()).rejects.toMatchObject({ code: "unavailable" });
    await expect(guard.admit(caller, claim)).rejects.toMatchObject({ code: "unavailable" });
  });
});

describe("a caller", () => {
  test("is who its key or token proves, and nobody else", async () => {
    verifies("SEC-05", "CORE-15");
    const { guard, caller } = await swarm.process("ann");
    expect(await outcome(guard.admit(caller, claim))).toBe("permitted");
    expect(await outcome(guard.admit({ ...caller, agentId: "ann/reviewer" }, claim))).toBe("permitted");
    expect(await outcome(guard.admit({ ...caller, agentId: "bob" }, read))).toBe("unauthenticated");
    expect(await outcome(guard.admit({ ...caller, verified: false }, claim))).toBe("unauthenticated");
    const gate = await swarm.process("gate");
    expect(await outcome(gate.guard.admit(http("ann/reviewer"), claim))).toBe("permitted");
    expect(await outcome(gate.guard.admit(http("ann", false), claim))).toBe("unauthenticated");
    expect(await outcome(gate.guard.admit(http("eve"), read))).toBe("unauthenticated");
  });

  test("who proved nothing is not named in the audit log", async () => {
    const { guard } = await swarm.process("gate");
    await outcome(guard.admit(http("ann", false), claim));
    expect(await swarm.audited()).toMatchObject([
      { agentId: "nobody", verified: false, outcome: "deny", reason: "unauthenticated" },
    ]);
  });

  test("that a subagent makes under its own name is judged by what is said of that subagent too", async () => {
    verifies("SEC-06");
    const members = { ...swarm.member("ann", ["worker"]), ...swarm.member("gate", ["worker"], { issuer: true }) };
    const ban: Policy = { id: "ban", effect: "forbid", agents: ["ann/reviewer"], operations: ["task:claim"] };
    await swarm.publish({ members, policies: [WORK, ban] });
    const { guard } = await swarm.process("gate");
    expect(await outcome(guard.admit(http("ann/reviewer"), claim))).toBe("permission_denied");
    expect(await outcome(guard.admit(http("ann/tester"), claim))).toBe("permitted");
    expect(await outcome(guard.admit(http("ann"), claim))).toBe("permitted");
  });

  test("does no more by a token than its scope says, also where one operation reaches what another is for", async () => {
    verifies("SEC-05", "SEC-13");
    const { guard } = await swarm.process(undefined);
    const scoped: Caller = { ...http("bob"), scope: [new Pattern("context:*"), new Pattern("task:r*")] };
    expect(await outcome(guard.admit(scoped, read))).toBe("permitted");
    expect(guard.stillAdmits(scoped, read)).toBe(true);
    const values: Operation = { operation: "state:read", resource: "state/global/a", arguments: {} };
    expect(guard.stillAdmits(http("bob"), values)).toBe(true);
    expect(guard.stillAdmits(scoped, values)).toBe(false);
    expect(await outcome(guard.admit(scoped, values))).toBe("permission_denied");
    expect(guard.stillAdmits({ ...scoped, scope: [] }, read)).toBe(false);
    expect((await swarm.audited()).at(-1)).toMatchObject({ outcome: "deny", reason: "insufficient_scope" });
  });

  test("does not escape a forbid under the name of a subagent", async () => {
    await swarm.publish({ policies: [WORK, { id: "not-ann", effect: "forbid", agents: ["ann"], operations: ["task:claim"] }] });
    const { guard, caller } = await swarm.process("ann");
    expect(await outcome(guard.admit({ ...caller, agentId: "ann/reviewer" }, claim))).toBe("permission_denied");
  });

  test("whose key is no member's is told how to enrol", async () => {
    const { guard, caller } = await swarm.process("eve");
    await expect(guard.admit(caller, read)).rejects.toMatchObject({
      code: "unauthenticated",
      hint: expect.stringContaining("mcp-swarm-security enroll eve"),
    });
    expect(() => guard.checkProcess()).toThrow(SwarmError);
  });

  test("is refused from the next round on when it was revoked or put in quarantine, and let in again when that ended", async () => {
    verifies("SEC-08");
    const { guard, caller, trust } = await swarm.process("ann");
    for (const change of [{ revokedAt: 1 }, { quarantinedAt: 1 }]) {
      await swarm.publish({ members: swarm.member("ann", ["worker"], change) });
      await swarm.round({ trust });
      expect(await outcome(guard.admit(caller, claim))).toBe("permission_denied");
      expect(() => guard.checkProcess()).toThrow(SwarmError);
      await swarm.publish({ members: swarm.member("ann", ["worker"]) });
      await swarm.round({ trust });
      expect(await outcome(guard.admit(caller, claim))).toBe("permitted");
    }
  });

  test("of another member is refused over HTTP while the server's own agent is in good standing", async () => {
    const { guard, trust } = await swarm.process("gate");
    for (const change of [{ revokedAt: 1 }, { quarantinedAt: 1 }]) {
      await swarm.publish({ members: swarm.member("ann", ["worker"], change) });
      await swarm.round({ trust });
      expect(await outcome(guard.admit(http("ann"), claim))).toBe("permission_denied");
      expect(await outcome(guard.admit(http("bob"), read))).toBe("permitted");
      guard.checkProcess();
    }
  });
});

describe("a bundle", () => {
  test("that is older, unsigned, someone else's or gone changes nothing for ten minutes, and then nothing is let in", async () => {
    verifies("SEC-05");
    const { guard, caller, trust } = await swarm.process("ann");
    const [older] = [(await swarm.store.get("trust/bundle"))?.value as { jws: string }];
    await swarm.publish({ policies: [WORK, READING, { id: "no-reset", effect: "forbid", operations: ["task:reset"] }] });
    await swarm.round({ trust });
    const reset = { ...claim, operation: "task:reset" };
    const foreign = new GuardedSwarm();
    foreign.bundle = { ...swarm.bundle, version: 90 };
    await foreign.publish({ policies: [] });
    const others = (await foreign.store.get("trust/bundle"))?.value as { jws: string };
    for (const jws of [older?.jws, "no.jws.atall", others.jws, undefined]) {
      await swarm.write(jws);
      await swarm.clock.advance(10_000);
      expect(await outcome(guard.admit(caller, claim))).toBe("permitted");
      expect(await outcome(guard.admit(caller, reset))).toBe("permission_denied");
      expect(trust.bundle.version).toBe(swarm.bundle.version);
    }
    await swarm.clock.advance(10 * 60_000);
    expect(await outcome(guard.admit(caller, claim))).toBe("unavailable");
    expect(() => guard.checkProcess()).toThrow(expect.objectContaining({ code: "unavailable" }));
  });

  test("that a stopped process missed is read before anything is let in, whatever its timers do", async () => {
    verifies("SEC-08");
    const stopped = new GuardedSwarm();
    await stopped.publish({ members: stopped.member("ann", ["worker"]), policies: [WORK] });
    let skippedMs = 0;
    const now = stopped.clock.now.bind(stopped.clock);
    stopped.clock.now = () => now() + skippedMs;
    const { guard, caller } = await stopped.process("ann");
    const early = await guard.admit(caller, claim);
    await stopped.publish({ members: stopped.member("ann", ["worker"], { revokedAt: 1 }) });
    skippedMs = 60_000; // no timer has fired
    expect(await outcome(early.call.transact((tx) => tx.put("x/1", 1) ?? null))).toBe("permission_denied");
    expect(await outcome(guard.admit(caller, claim))).toBe("permission_denied");
    expect(await stopped.store.get("x/1")).toBeUndefined();
  });
});

describe("a transaction", () => {
  const put = (key: string) => (tx: Transaction) => tx.put(key, 1) ?? null;

  test("is refused by what changed a moment after the call was let in", async () => {
    verifies("SEC-08");
    const { guard, caller, trust } = await swarm.process("ann");
    const { call } = await guard.admit(caller, claim);
    await swarm.publish({ policies: [READING] });
    await trust.refresh();
    expect(await outcome(call.transact(put("x/1")))).toBe("permission_denied");
    expect(await swarm.store.get("x/1")).toBeUndefined();
  });

  test("that begins late, because its process was stopped, is decided by what the store says then", async () => {
    verifies("SEC-08");
    let skippedMs = 0;
    let skipNextMs = 0;
    const now = swarm.clock.now.bind(swarm.clock);
    swarm.clock.now = () => now() + skippedMs;
    const stopping = new Proxy(swarm.store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== "function") return member;
        return (...given: unknown[]) => {
          if (name === "transact") skippedMs += skipNextMs;
          return Reflect.apply(member, target, given);
        };
      },
    }) as Store;
    const { guard, caller } = await swarm.process("ann", { store: stopping });
    const permitted = await guard.admit(caller, claim);
    skipNextMs = 60_000;
    const tries = permitted.call.transact((tx) => {
      skipNextMs = 0;
      return tx.put("x/0", 1) ?? null;
    });
    expect(await outcome(tries)).toBe("unavailable"); // it was stopped each time it tried
    skipNextMs = 0;
    const { call } = await guard.admit(caller, claim);
    await swarm.publish({ members: swarm.member("ann", ["worker"], { revokedAt: 1 }) });
    skipNextMs = 60_000;
    const late = call.transact(put("x/1"));
    await new Promise(setImmediate);
    skipNextMs = 0;
    expect(await outcome(late)).toBe("permission_denied");
    expect(await swarm.audited()).toEqual([]);
    for (const key of ["x/0", "x/1"]) expect(await swarm.store.get(key)).toBeUndefined();
  });
});

test("a round that has begun and not yet found anything counts for nothing", async () => {
  verifies("SEC-08");
  let skippedMs = 0;
  const now = swarm.clock.now.bind(swarm.clock);
  swarm.clock.now = () => now() + skippedMs;
  const { guard, caller, trust } = await swarm.process("ann");
  await swarm.publish({ members: swarm.member("ann", ["worker"], { revokedAt: 1 }) });
  skippedMs = 60_000;
  const round = trust.refresh(); // as the timer of a process does that was stopped and goes on
  expect(await outcome(guard.admit(caller, claim))).toBe("permission_denied");
  await round;
});

describe("a call that waits", () => {
  test("is ended by a revocation, and by a new forbid, and its transaction commits nothing", async () => {
    verifies("SEC-08");
    const { guard, caller, trust } = await swarm.process("ann");
    const forbid: Policy = { id: "stop", effect: "forbid", operations: ["task:claim"] };
    for (const change of [{ policies: [WORK, forbid] }, { members: swarm.member("ann", ["worker"], { revokedAt: 1 }) }]) {
      await swarm.publish({ members: swarm.member("ann", ["worker"]), policies: [WORK] });
      await swarm.round({ trust });
      const admission = await guard.admit(caller, claim);
      const { ended } = admission;
      await swarm.publish(change);
      expect(ended?.aborted).toBe(false);
      await swarm.round({ trust });
      expect(ended?.aborted).toBe(true);
      expect(admission.ended?.aborted).toBe(true);
      const failure = await admission.call.transact((tx) => tx.put("x/1", 1) ?? null).catch((error: unknown) => error);
      expect(codeOf(failure)).toBe("permission_denied");
      await admission.settle(failure);
      expect(await swarm.store.get("x/1")).toBeUndefined();
    }
    expect((await swarm.audited()).map(({ outcome }) => outcome)).toEqual(["deny", "deny"]);
  });

  test("and read meanwhile shows nothing once its caller was revoked", async () => {
    const { guard, caller, trust } = await swarm.process("bob");
    const { settle } = await guard.admit(caller, read);
    await swarm.publish({ members: swarm.member("bob", ["observer"], { quarantinedAt: 1 }) });
    await swarm.round({ trust });
    await expect(settle()).rejects.toMatchObject({ code: "permission_denied" });
  });

  test("after it has written shows nothing of what came since, once its caller was revoked", async () => {
    verifies("SEC-08");
    let skippedMs = 0;
    const stopped = new GuardedSwarm();
    await stopped.publish({ members: stopped.member("ann", ["worker"]), policies: [WORK] });
    const now = stopped.clock.now.bind(stopped.clock);
    stopped.clock.now = () => now() + skippedMs;
    const { guard, caller } = await stopped.process("ann");
    const { call, settle } = await guard.admit(caller, claim);
    await call.transact((tx) => tx.put("x/1", 1) ?? null); // and waits for an answer to it
    await stopped.publish({ members: stopped.member("ann", ["worker"], { revokedAt: 1 }) });
    skippedMs = 30_000; // the process stands still meanwhile, and none of its timers has fired
    await expect(settle()).rejects.toMatchObject({ code: "permission_denied" });
    expect(await stopped.audited()).toMatchObject([{ outcome: "permit" }, { outcome: "deny", reason: "revoked" }]);
  });

  test("that has written answers also when it may not be done any more by the time", async () => {
    const { guard, caller, trust } = await swarm.process("ann");
    const hours: Policy = { ...WORK, when: { time: { to: "15:07" } } }; // the clock stands at 15:06:40
    await swarm.publish({ policies: [hours] });
    await swarm.round({ trust });
    const { call, settle } = await guard.admit(caller, claim);
    await call.transact((tx) => tx.put("x/1", 1) ?? null);
    await swarm.clock.advance(30_000);
    await settle();
    expect(await outcome(guard.admit(caller, claim))).toBe("permission_denied");
  });

  test("goes on when others were revoked", async () => {
    const { guard, caller, trust } = await swarm.process("ann");
    const admission = await guard.admit(caller, claim);
    await swarm.publish({ members: swarm.member("bob", ["observer"], { revokedAt: 1 }) });
    await swarm.round({ trust });
    expect(admission.ended?.aborted).toBe(false);
    await admission.call.transact((tx) => tx.put("x/1", 1) ?? null);
    await admission.settle();
  });
});

describe("rates", () => {
  const rated: Policy = { ...WORK, id: "rated", when: { rate: { max: 3, perMs: 60_000 } } };

  test("are counted for an agent and a policy in all its processes, and come in again", async () => {
    verifies("SEC-12");
    await swarm.publish({ policies: [rated] });
    const [one, two] = [await swarm.process("ann"), await swarm.process("ann")];
    const made: string[] = [];
    for (const { guard, caller } of [one, two, one, two]) made.push(await outcome(guard.admit(caller, claim)));
    expect(made).toEqual(["permitted", "permitted", "permitted", "limit_exceeded"]);
    await swarm.clock.advance(20_000);
    expect(await outcome(two.guard.admit(two.caller, claim))).toBe("permitted");
    expect(await outcome(one.guard.admit(one.caller, claim))).toBe("limit_exceeded");
  });

  test("let nobody in who was revoked while the rate was taken", async () => {
    verifies("SEC-08");
    await swarm.publish({ policies: [rated] });
    const { promise: held, resolve: goOn } = Promise.withResolvers<void>();
    const { promise: asked, resolve: isAsked } = Promise.withResolvers<void>();
    const slow = new Proxy(swarm.store, {
      get(target, name) {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== "function") return member;
        return async (...given: unknown[]) => {
          if (name === "transact") {
            isAsked();
            await held;
          }
          return await Reflect.apply(member, target, given);
        };
      },
    }) as Store;
    const { guard, caller, trust } = await swarm.process("ann", { store: slow });
    const admitted = guard.admit(caller, claim);
    await asked; // it is judged, and its rate is being taken
    await swarm.publish({ members: swarm.member("ann", ["worker"], { revokedAt: 1 }) });
    await swarm.round({ trust });
    goOn();
    await expect(admitted.then(({ call }) => call.transact((tx) => tx.put("x/1", 1) ?? null))).rejects.toMatchObject({
      code: "permission_denied",
    });
    expect(await swarm.store.get("x/1")).toBeUndefined();
  });

  test("bound nobody whom another policy permits it without a rate", async () => {
    await swarm.publish({ policies: [rated, WORK] });
    const { guard, caller } = await swarm.process("ann");
    for (let i = 0; i < 10; i++) expect(await outcome(guard.admit(caller, claim))).toBe("permitted");
  });

  test("of one policy that is used up leave those of another", async () => {
    await swarm.publish({ policies: [rated, { ...rated, id: "more", when: { rate: { max: 2, perMs: 60_000 } } }] });
    const { guard, caller } = await swarm.process("ann");
    const made: string[] = [];
    for (let i = 0; i < 6; i++) made.push(await outcome(guard.admit(caller, claim)));
    expect(made.filter((each) => each === "permitted")).toHaveLength(5);
  });

  test("of calls come in again after the clock was set back", async () => {
    verifies("SEC-12");
    const { guard } = await swarm.process("gate", { callRate: 2 });
    const made = async () => [await outcome(guard.admit(http("ann"), claim)), await outcome(guard.admit(http("ann"), claim))];
    expect(await made()).toEqual(["permitted", "permitted"]);
    const now = swarm.clock.now.bind(swarm.clock);
    swarm.clock.now = () => now() - 3_600_000;
    expect(await made()).toEqual(["limit_exceeded", "limit_exceeded"]);
    await swarm.clock.advance(60_000);
    expect(await made()).toEqual(["permitted", "permitted"]);
  });

  test("of a flood refuse what is too much, for that agent alone, and write it down twice and not a thousand times", async () => {
    verifies("SEC-12");
    const { guard } = await swarm.process("gate", { callRate: 100 });
    const made: string[] = [];
    for (let i = 0; i < 1_000; i++) made.push(await outcome(guard.admit(http("bob"), { ...claim, resource: `task/${i}` })));
    expect(made.filter((each) => each === "permission_denied")).toHaveLength(100);
    expect(made.filter((each) => each === "limit_exceeded")).toHaveLength(900);
    expect(await outcome(guard.admit(http("ann"), claim))).toBe("permitted");
    await swarm.clock.advance(61_000);
    const flood = (await swarm.audited()).filter(({ reason }) => reason === "too_many_calls");
    expect(flood).toMatchObject([{ agentId: "bob", operation: "*", resource: "*" }, { count: 899 }]);
  });
});
