import { type ManualClock, manualClock, SwarmError, seededRandom } from "@mcp-swarm/core";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { checkAgentId, deriveAgentId, type LiveAgent, liveAgentIn, liveAgentsIn, Presence } from "../src/index.ts";

const LEASE_MS = 9_000;
let clock: ManualClock;
let store: Store;
let writes: number;
let down: boolean;
let errors: unknown[];
beforeEach(() => {
  clock = manualClock();
  writes = 0;
  down = false;
  errors = [];
  store = new Proxy(new MemoryStore({ clock }), {
    get(target, name) {
      if (name === "transact") {
        return async <T>(plan: (tx: Transaction) => T) => {
          if (down) throw new SwarmError("unavailable", "The store cannot be reached.");
          return target.transact((tx) => {
            const put: Transaction["put"] = (...args) => {
              writes++;
              tx.put(...args);
            };
            return plan({ ...tx, put });
          });
        };
      }
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? member.bind(target) : member;
    },
  });
});

const processOf = (processId: string, through: Store = store) =>
  new Presence({ store: through, clock, processId, leaseMs: LEASE_MS, onError: (error) => errors.push(error) });
const at = (processId: string, agentId: string) => ({ agentId, processId });
const http = (agentId: string) => ({ agentId, processId: undefined });
const ids = async (presence: Presence) => (await presence.liveAgents()).agents.map(({ agentId }) => agentId);

describe("presence", () => {
  test("an agent is alive while its process renews, by one write each third of a lease", async () => {
    const p = processOf("p1");
    await p.announce(at("p1", "ann"), { capabilities: ["ts", "review"], agentType: "claude-code" });
    const since = clock.now();
    await clock.advance(10 * LEASE_MS);
    expect(writes).toBe(31);
    expect(await p.find("ann")).toEqual({
      agentId: "ann",
      capabilities: ["ts", "review"],
      agentType: "claude-code",
      sinceAt: since,
      lastSeenAt: clock.now(),
      leaseExpiresAt: clock.now() + LEASE_MS,
      processes: 1,
    } satisfies LiveAgent);
  });

  test("a dead process's agent is gone within its lease", async () => {
    const watcher = processOf("p2");
    await processOf("p1").announce(at("p1", "ann"));
    down = true; // no renewal reaches the store any more
    await clock.advance(LEASE_MS - 1);
    expect(await ids(watcher)).toEqual(["ann"]);
    await clock.advance(1);
    expect(await ids(watcher)).toEqual([]);
    expect(await watcher.find("ann")).toBeUndefined();
  });

  test("a process that was cut off for less than a lease stays, tries again soon and says what failed", async () => {
    const p = processOf("p1");
    await p.announce(at("p1", "ann"));
    down = true;
    await clock.advance(LEASE_MS - LEASE_MS / 3);
    down = false;
    await clock.advance(LEASE_MS / 6);
    expect((await p.find("ann"))?.leaseExpiresAt).toBeGreaterThanOrEqual(clock.now() + LEASE_MS - LEASE_MS / 6);
    expect(errors.length).toBeGreaterThan(0);
  });

  test("a process that slept past its lease is alive again at its next renewal", async () => {
    const p = processOf("p1");
    await p.announce(at("p1", "ann"), { capabilities: ["ts"] });
    down = true;
    await clock.advance(3 * LEASE_MS);
    expect(await ids(p)).toEqual([]);
    down = false;
    await clock.advance(LEASE_MS / 3);
    expect(await p.find("ann")).toMatchObject({ capabilities: ["ts"] });
  });

  test("an agent in several processes lives while one does, and is what it last announced", async () => {
    const [one, two] = [processOf("p1"), processOf("p2")];
    await one.announce(at("p1", "ann"), { capabilities: ["old"] });
    await clock.advance(10);
    await two.announce(at("p2", "ann"), { capabilities: ["new"] });
    expect(await one.find("ann")).toMatchObject({ capabilities: ["new"], processes: 2 });
    await clock.advance(2 * LEASE_MS); // renewals of the first are later, but say nothing new
    expect(await one.find("ann")).toMatchObject({ capabilities: ["new"], processes: 2 });
    await two.leave();
    expect(await one.find("ann")).toMatchObject({ capabilities: ["old"], processes: 1 });
    await one.leave();
    expect(await one.find("ann")).toBeUndefined();
  });

  test("a process without words of its own does not silence another's", async () => {
    const [one, two] = [processOf("p1"), processOf("p2")];
    await one.announce(at("p1", "ann"), { capabilities: ["ts"] });
    await clock.advance(10);
    await two.announce(at("p2", "ann"));
    expect(await one.find("ann")).toMatchObject({ capabilities: ["ts"], processes: 2 });
  });

  test("a renewal that the store holds up does not bring back what was said before", async () => {
    let letGo = () => {};
    let hold = false;
    const slow = new Proxy(store, {
      get(target, name) {
        if (name !== "transact") return Reflect.get(target, name);
        return async <T>(plan: (tx: Transaction) => T) => {
          if (hold) await new Promise<void>((resolve) => (letGo = resolve));
          return target.transact(plan);
        };
      },
    });
    const p = processOf("p1", slow);
    await p.announce(at("p1", "ann"), { capabilities: ["old"] });
    hold = true;
    await clock.advance(LEASE_MS / 3);
    hold = false;
    const said = p.announce(at("p1", "ann"), { capabilities: ["new"] });
    await clock.advance(0);
    letGo();
    await said;
    expect(await p.find("ann")).toMatchObject({ capabilities: ["new"] });
  });

  test("leaving ends it at once, for one agent or for all, even with a renewal under way", async () => {
    const p = processOf("p1");
    for (const agent of ["ann", "ann/a", "ann/b"]) await p.announce(at("p1", agent));
    await p.leave("ann/a");
    expect(await ids(p)).toEqual(["ann", "ann/b"]);
    const renewal = clock.advance(LEASE_MS / 3);
    const left = p.leave();
    await Promise.all([renewal, left]);
    expect(await ids(p)).toEqual([]);
    await clock.advance(3 * LEASE_MS);
    expect(await ids(p)).toEqual([]);
    expect(await store.scan(prefixRange("presence/", 10))).toEqual([]);
  });

  test("an HTTP caller lives a lease from its last call, touched at most once per third, whichever process it reaches", async () => {
    const [one, two] = [processOf("p1"), processOf("p2")];
    await one.announce(http("web"), { capabilities: ["ts"] });
    expect(writes).toBe(1);
    for (let n = 0; n < 100; n++) {
      await (n % 2 ? one : two).touch(http("web"));
      await clock.advance(LEASE_MS / 30);
    }
    expect(writes).toBe(10);
    expect(await one.find("web")).toMatchObject({ capabilities: ["ts"], processes: 1 });
    await clock.advance(LEASE_MS);
    expect(await one.find("web")).toBeUndefined();
  });

  test("a touch of a caller with a process writes nothing", async () => {
    await processOf("p1").touch(at("p1", "ann"));
    expect(writes).toBe(0);
  });

  test("pages hold every living agent once, however many processes each has", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(
          fc.record({
            name: fc.stringMatching(/^[A-Z][a-z0-9]{0,3}(\/[a-z]{1,3})?$/),
            processes: fc.integer({ min: 1, max: 100 }),
          }),
          {
            selector: ({ name }) => name,
            maxLength: 8,
          },
        ),
        fc.integer({ min: 1, max: 4 }),
        async (agents, limit) => {
          const plain = new MemoryStore({ clock: manualClock() });
          for (const { name, processes } of agents) {
            for (let n = 0; n < processes; n++) await processOf(`p${n}`, plain).announce({ agentId: name, processId: `p${n}` });
          }
          const reader = processOf("reader", plain);
          const seen: LiveAgent[] = [];
          let after: string | undefined;
          for (let page = 0; page <= agents.length; page++) {
            const got = await reader.liveAgents({ limit, ...(after === undefined ? {} : { after }) });
            expect(got.agents.length).toBeLessThanOrEqual(limit);
            seen.push(...got.agents);
            after = got.next;
            if (after === undefined) break;
          }
          expect(after).toBeUndefined();
          const counts = seen.map(({ agentId, processes }) => `${agentId} ${processes}`);
          expect(counts.sort()).toEqual(agents.map(({ name, processes }) => `${name} ${processes}`).sort());
          const inside = await plain.transact((tx) => ({ all: liveAgentsIn(tx, 200), one: liveAgentIn(tx, "Nobody") }));
          expect(inside.one).toBeUndefined();
          expect(inside.all.agents.length > 0).toBe(agents.length > 0);
        },
      ),
      { numRuns: 40 },
    );
  });

  test("what is announced has bounds, and so has a process", async () => {
    const p = processOf("p1");
    const tooMany = Array.from({ length: 65 }, (_, n) => `c${n}`);
    for (const capabilities of [tooMany, ["x".repeat(65)], [""]]) {
      await expect(p.announce(at("p1", "ann"), { capabilities })).rejects.toMatchObject({ code: "invalid_argument" });
    }
    await expect(p.announce(at("p1", "not an id"))).rejects.toMatchObject({ code: "invalid_argument" });
    for (let n = 0; n < 100; n++) await p.announce(at("p1", `ann/${n}`));
    await p.announce(at("p1", "ann/7"));
    await expect(p.announce(at("p1", "ann/100"))).rejects.toMatchObject({ code: "limit_exceeded" });
    await p.leave();
  });
});

describe("an agent's id", () => {
  const random = seededRandom(1);

  test("is what SWARM_AGENT says", () => {
    expect(deriveAgentId({ env: { SWARM_AGENT: "build-7", CLAUDE_CODE_SESSION_ID: "s" }, random })).toBe("build-7");
    expect(() => deriveAgentId({ env: { SWARM_AGENT: "not an id" }, random })).toThrow(
      expect.objectContaining({ code: "invalid_argument" }),
    );
  });

  test("is one for all servers of a session, and does not show the session's id", () => {
    const env = { CLAUDE_CODE_SESSION_ID: "5e0c1f6e-aaaa-bbbb" };
    const id = deriveAgentId({ env, random });
    expect(id).toMatch(/^claude-[0-9a-f]{10}$/);
    expect(deriveAgentId({ env, random })).toBe(id);
    expect(deriveAgentId({ env: { CLAUDE_CODE_SESSION_ID: "another" }, random })).not.toBe(id);
  });

  test("is minted where nothing tells it", () => {
    const [one, two] = [deriveAgentId({ env: {}, random }), deriveAgentId({ env: { SWARM_AGENT: "" }, random })];
    expect(one).not.toBe(two);
    expect(checkAgentId(one)).toMatch(/^agent-/);
  });
});
