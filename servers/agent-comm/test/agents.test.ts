import { onceCall } from "@mcp-swarm/identity";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { CONFIGURATION_BYTES_MAX, METADATA_BYTES_MAX, RESULTS_BYTES_MAX } from "../src/agent-record.ts";
import { type AgentFilter, type Agents, LOOKED_AT_MAX } from "../src/agents.ts";
import { agentSwarm, LEASE_MS } from "./support/agents.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

const registration = {
  agentType: "claude-code",
  capabilities: ["ts", "review"],
  description: "Reviews TypeScript",
  metadata: { model: "large" },
};

describe("registering", () => {
  test("an agent is shown with what it said, and presence announces its type and capabilities", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const bob = await swarm.agent("bob");
    const { agent } = await ann.agents.register(ann.call, registration);
    expect(agent).toMatchObject({ ...registration, id: "ann", online: true, status: "idle", registeredAt: swarm.clock.now() });
    // a write does not answer what time alone changes
    expect((await bob.agents.get(bob.call, "ann")).agent).toEqual({ ...agent, lastSeenAt: swarm.clock.now() });
    expect(await bob.presence.find("ann")).toMatchObject({ agentType: "claude-code", capabilities: ["ts", "review"] });
  });

  test("one that only lives is there too, and nobody else is", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const { agent } = await ann.agents.get(ann.call, "ann");
    expect(agent).toEqual({ id: "ann", capabilities: [], online: true, status: "online", lastSeenAt: swarm.clock.now() });
    await expect(ann.agents.get(ann.call, "bob")).rejects.toEqual(code("not_found", /bob/));
    await expect(ann.agents.get(ann.call, "no agent id")).rejects.toEqual(code("invalid_argument"));
  });

  test("a dead process's agent is offline when its lease ends, whatever it said", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const bob = await swarm.agent("bob");
    await ann.agents.register(ann.call, registration);
    await ann.agents.updateStatus(ann.call, { status: "working" });
    await swarm.clock.advance(10 * LEASE_MS);
    expect((await bob.agents.get(bob.call, "ann")).agent).toMatchObject({ online: true, status: "working" });
    ann.die();
    await swarm.clock.advance(LEASE_MS);
    expect((await bob.agents.get(bob.call, "ann")).agent).toMatchObject({
      online: false,
      status: "offline",
      lastStatus: "working",
      capabilities: ["ts", "review"],
    });
    expect((await bob.agents.list(bob.call, { status: "offline" })).agents.map(({ id }) => id)).toEqual(["ann"]);
    expect((await bob.agents.list(bob.call, { status: "working" })).agents).toEqual([]);
  });

  test("registering again in the same session keeps what was said of the work; a new session starts idle", async () => {
    verifies("COMM-01", "COMM-02");
    const swarm = agentSwarm();
    const before = await swarm.agent("ann", { sessionId: "claude-1" });
    const { agent } = await before.agents.register(before.call, registration);
    await before.agents.updateStatus(before.call, { status: "working", currentTask: "build", load: 0.5 });
    await swarm.clock.advance(1_000);
    const again = await before.agents.register(before.call, { agentType: "codex", capabilities: [] });
    expect(again.agent).toMatchObject({ status: "working", currentTask: "build", load: 0.5, agentType: "codex" });
    expect(again.agent).toMatchObject({ registeredAt: agent.registeredAt, updatedAt: swarm.clock.now() });
    const after = await swarm.agent("ann", { sessionId: "claude-2" });
    const renewed = await after.agents.register(after.call, registration);
    expect(renewed.agent).toMatchObject({ status: "idle", sessionId: "claude-2", registeredAt: agent.registeredAt });
    expect(renewed.agent).not.toHaveProperty("currentTask");
    expect(renewed.agent).not.toHaveProperty("load");
  });

  test("a repeated registration does not bring back what a later one replaced", async () => {
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const once = () => onceCall({ store: swarm.store, caller: ann.caller }, { key: "k", fingerprint: "f" });
    await ann.agents.register(once(), { agentType: "old", capabilities: ["old"] });
    await ann.agents.register(ann.call, { agentType: "new", capabilities: ["new"] });
    await ann.agents.register(once(), { agentType: "old", capabilities: ["old"] });
    expect((await ann.agents.get(ann.call, "ann")).agent).toMatchObject({ agentType: "new", capabilities: ["new"] });
  });

  test("unregistering removes record and configuration; the agent lives on without them", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    await ann.agents.register(ann.call, registration);
    await ann.agents.configure(ann.call, { configuration: { a: 1 } });
    await ann.agents.unregister(ann.call);
    expect((await ann.agents.get(ann.call, "ann")).agent).toMatchObject({ status: "online", capabilities: [] });
    expect(await ann.agents.configuration(ann.call)).toMatchObject({ rev: 0, configuration: {} });
    await expect(ann.agents.unregister(ann.call)).rejects.toEqual(code("not_found", /ann/));
  });

  test("a subagent lives while its agent's process does, until it is unregistered; another's cannot be spoken for", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const bob = await swarm.agent("bob");
    await ann.agents.register(ann.call, { ...registration, agentId: "reviewer" });
    await ann.agents.updateStatus(ann.call, { agentId: "ann/writer", status: "working" });
    await swarm.clock.advance(5 * LEASE_MS);
    for (const [id, status] of [
      ["ann/reviewer", "idle"],
      ["ann/writer", "working"],
    ] as const) {
      expect((await bob.agents.get(bob.call, id)).agent).toMatchObject({ id, online: true, status });
    }
    await ann.agents.unregister(ann.call, { agentId: "reviewer" });
    await expect(bob.agents.get(bob.call, "ann/reviewer")).rejects.toEqual(code("not_found"));
    expect((await bob.agents.get(bob.call, "ann")).agent.online).toBe(true);
    for (const attempt of [
      bob.agents.register(bob.call, { ...registration, agentId: "ann/reviewer" }),
      bob.agents.unregister(bob.call, { agentId: "ann/writer" }),
      bob.agents.updateStatus(bob.call, { agentId: "ann/writer", status: "idle" }),
      bob.agents.configure(bob.call, { agentId: "ann/writer", configuration: {} }),
    ]) {
      await expect(attempt).rejects.toEqual(code("permission_denied"));
    }
  });

  test("over HTTP an agent is alive for a lease from what it registered", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const web = await swarm.agent("web", { remote: true });
    const { agent } = await web.agents.register(web.call, registration);
    expect(agent).toMatchObject({ online: true });
    expect(agent).not.toHaveProperty("sessionId");
    await swarm.clock.advance(LEASE_MS);
    expect((await web.agents.get(web.call, "web")).agent).toMatchObject({ online: false, capabilities: ["ts", "review"] });
  });
});

describe("the coordination record", () => {
  test("a status is told without registering, what is left out stays, and null clears", async () => {
    verifies("COMM-02");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann", { sessionId: "claude-1" });
    const told = { currentTask: "build", agentRole: "builder", load: 0.25, results: { ok: 1 }, dependencies: ["lint"] };
    const { agent } = await ann.agents.updateStatus(ann.call, { status: "working", ...told });
    expect(agent).toMatchObject({ id: "ann", ...told, status: "working", online: true, sessionId: "claude-1" });
    await swarm.clock.advance(5);
    const { agent: kept } = await ann.agents.updateStatus(ann.call, { status: "blocked" });
    expect(kept).toMatchObject({ ...told, status: "blocked", updatedAt: swarm.clock.now(), registeredAt: agent.registeredAt });
    const cleared = await ann.agents.updateStatus(ann.call, {
      status: "idle",
      currentTask: null,
      agentRole: null,
      load: null,
      results: null,
      dependencies: [],
      sessionId: "mine",
    });
    for (const name of Object.keys(told)) expect(cleared.agent).not.toHaveProperty(name);
    expect(cleared.agent.sessionId).toBe("mine");
    expect((await swarm.store.get("agent/ann"))?.value).toEqual({
      id: "ann",
      capabilities: [],
      registeredAt: agent.registeredAt,
      updatedAt: swarm.clock.now(),
      sessionId: "mine",
      status: "idle",
    });
  });

  test.each([
    ["status", (agents: Agents, call: never) => agents.updateStatus(call, { status: "offline" })],
    ["status", (agents: Agents, call: never) => agents.updateStatus(call, { status: "online" })],
    [
      "results",
      (agents: Agents, call: never) => agents.updateStatus(call, { status: "x", results: "r".repeat(RESULTS_BYTES_MAX) }),
    ],
    [
      "metadata",
      (agents: Agents, call: never) =>
        agents.register(call, { ...registration, metadata: { m: "r".repeat(METADATA_BYTES_MAX) } }),
    ],
    [
      "configuration",
      (agents: Agents, call: never) => agents.configure(call, { configuration: { m: "r".repeat(CONFIGURATION_BYTES_MAX) } }),
    ],
  ])("what is out of bounds is refused, named, and changes nothing: %s", async (name, attempt) => {
    verifies("COMM-02");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    await expect(attempt(ann.agents, ann.call as never)).rejects.toEqual(code("invalid_argument", new RegExp(name)));
    expect((await ann.agents.get(ann.call, "ann")).agent).not.toHaveProperty("registeredAt");
    expect(await ann.agents.configuration(ann.call)).toMatchObject({ rev: 0 });
  });
});

describe("what may not be known", () => {
  test("an agent that tells its host's own id of the session is known by the session's name instead", async () => {
    verifies("COMM-02");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann", { sessionId: "claude-1" });
    const { agent } = await ann.agents.updateStatus(ann.call, { status: "idle", sessionId: "key of claude-1" });
    expect(agent.sessionId).toBe("claude-1");
    expect(JSON.stringify((await swarm.store.get("agent/ann"))?.value)).not.toContain("key of");
  });
});

describe("configuration", () => {
  test("is merged, counted, read by anyone, and changed at the rev that was read", async () => {
    verifies("COMM-01");
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    const bob = await swarm.agent("bob");
    await ann.agents.configure(ann.call, { configuration: { verbose: true, limits: { tasks: 3, time: 5 } } });
    const { rev } = await ann.agents.configure(ann.call, { configuration: { verbose: null, limits: { time: null } }, ifRev: 1 });
    expect(rev).toBe(2);
    expect(await bob.agents.configuration(bob.call, { agentId: "ann" })).toEqual({
      agentId: "ann",
      configuration: { limits: { tasks: 3 } },
      rev: 2,
      updatedAt: swarm.clock.now(),
      updatedBy: "ann",
    });
    await expect(ann.agents.configure(ann.call, { configuration: { a: 1 }, ifRev: 1 })).rejects.toEqual(
      code("conflict", /rev 2/),
    );
    await expect(bob.agents.configuration(bob.call, { agentId: "nobody" })).rejects.toEqual(code("not_found"));
  });
});

describe("listing", () => {
  const KINDS = ["coder", "tester"];
  const SKILLS = ["ts", "go"];

  test("pages hold every agent that fits once, the living first, whatever the filter and the page", async () => {
    verifies("COMM-01");
    const agent = fc.record({
      name: fc.stringMatching(/^[A-Za-z][a-z0-9.-]{0,3}$/),
      lives: fc.boolean(),
      type: fc.option(fc.constantFrom(...KINDS)),
      skills: fc.subarray(SKILLS),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(agent, { selector: ({ name }) => name, minLength: 1, maxLength: 12 }),
        fc.record({
          type: fc.option(fc.constantFrom(...KINDS), { nil: undefined }),
          capability: fc.option(fc.constantFrom(...SKILLS), { nil: undefined }),
          status: fc.constantFrom(undefined, "online", "offline", "idle"),
          limit: fc.integer({ min: 1, max: 5 }),
        }),
        async (given, filter) => {
          const swarm = agentSwarm();
          const processes = [];
          for (const { name, type, skills } of given) {
            const process = await swarm.agent(name);
            if (type) await process.agents.register(process.call, { agentType: type, capabilities: skills });
            processes.push(process);
          }
          for (const [at, { lives }] of given.entries()) if (!lives) processes[at]?.die();
          await swarm.clock.advance(2 * LEASE_MS);
          const expected = given.filter(
            ({ lives, type, skills }) =>
              (lives || type !== null) &&
              (filter.type === undefined || type === filter.type) &&
              (filter.capability === undefined || (type !== null && skills.includes(filter.capability))) &&
              (filter.status === undefined ||
                (filter.status === "idle" ? lives && type !== null : lives === (filter.status === "online"))),
          );
          const [reader] = processes;
          if (!reader) return;
          const seen = await readAll(reader.agents, reader.call, filter);
          expect(seen.map(({ id }) => id).toSorted()).toEqual(expected.map(({ name }) => name).toSorted());
          const online = seen.map(({ online }) => online);
          expect(online).toEqual(online.toSorted((a, b) => Number(b) - Number(a)));
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a page looks at a bounded number of agents, and its cursor goes on; a cursor of other filters is refused", async () => {
    const swarm = agentSwarm();
    const ann = await swarm.agent("ann");
    await swarm.store.transact((tx) => {
      for (let n = 0; n < LOOKED_AT_MAX + 20; n++) {
        const id = `old-${String(n).padStart(4, "0")}`;
        tx.put(`agent/${id}`, {
          id,
          agentType: n === LOOKED_AT_MAX + 10 ? "rare" : "common",
          capabilities: [],
          status: "idle",
          registeredAt: 1,
          updatedAt: 1,
        });
      }
    });
    const first = await ann.agents.list(ann.call, { type: "rare" });
    expect(first.agents).toEqual([]);
    const second = await ann.agents.list(ann.call, { type: "rare", cursor: first.nextCursor });
    expect(second.agents.map(({ id }) => id)).toEqual([`old-0${LOOKED_AT_MAX + 10}`]);
    expect(second).not.toHaveProperty("nextCursor");
    await expect(ann.agents.list(ann.call, { type: "common", cursor: first.nextCursor })).rejects.toEqual(
      code("invalid_argument"),
    );
  });

  async function readAll(agents: Agents, call: Parameters<Agents["list"]>[0], filter: AgentFilter) {
    const seen = [];
    let cursor: string | undefined;
    for (let page = 0; page < 40; page++) {
      const got = await agents.list(call, { ...filter, cursor });
      expect(got.agents.length).toBeLessThanOrEqual(filter.limit ?? 0);
      seen.push(...got.agents);
      cursor = got.nextCursor;
      if (cursor === undefined) return seen;
    }
    throw new Error("The list has no end");
  }
});
