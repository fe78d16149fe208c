import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { checkFence } from "../src/fence.ts";
import { CANDIDATES_MAX } from "../src/leader-layer.ts";
import { REMOTE_CANDIDACY_MS } from "../src/leaders.ts";
import { LEASE_MS, machine, type Process } from "./support/processes.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });
const RUNS = Number(process.env.SWARM_RUNS ?? 60);
/** A group is looked at so long after a lease ended, at the latest. */
const GRACE_MS = 1_000;

test("who waits for the leadership has it as soon as the leader resigns, and a term of its own", async () => {
  verifies("STATE-10", "CORE-10");
  const { process, pass } = machine();
  const [ann, ben] = [process("ann"), process("ben")];
  expect((await ann.leaders.elect(ann.call, { group: "g" })).leader).toMatchObject({ agentId: "ann", term: 1, you: true });
  const waiting = ben.leaders.elect(ben.call, { group: "g", candidateInfo: "the fast one" }, { waitMs: 50_000 });
  await pass(20);
  await ann.leaders.resign(ann.call, { group: "g" });
  await pass(20);
  expect((await waiting).leader).toMatchObject({ agentId: "ben", term: 2, you: true, info: "the fast one" });
  expect(await ann.leaders.get(ann.call, { group: "g" })).toMatchObject({
    leader: { agentId: "ben", you: false },
    candidates: [],
  });
});

test("a candidacy of a call that was cancelled, or of a process that is ending, is none", async () => {
  verifies("STATE-10");
  const { process, pass } = machine();
  const [ann, ben] = [process("ann"), process("ben")];
  await ann.leaders.elect(ann.call, { group: "g" });
  const abort = new AbortController();
  const waiting = ben.leaders
    .elect(ben.call, { group: "g" }, { waitMs: 50_000, signal: abort.signal })
    .catch((error: unknown) => error);
  await pass(20);
  abort.abort(new Error("cancelled"));
  expect(await waiting).toMatchObject({ message: "cancelled" });
  expect((await ann.leaders.get(ann.call, { group: "g" })).candidates).toEqual([]);
  await ann.close();
  expect(await ben.leaders.get(ben.call, { group: "g" })).toEqual({ leader: null, candidates: [] });
});

test("a candidacy of a cancelled call stays when a later call of its agent was answered with it", async () => {
  verifies("STATE-10");
  const { process, pass } = machine();
  const [ann, ben] = [process("ann"), process("ben")];
  await ann.leaders.elect(ann.call, { group: "g" });
  const abort = new AbortController();
  const cancelled = ben.leaders
    .elect(ben.call, { group: "g" }, { waitMs: 50_000, signal: abort.signal })
    .catch((error: unknown) => error);
  await pass(20);
  const again = ben.leaders.elect(ben.call, { group: "g" });
  abort.abort(new Error("cancelled"));
  expect(await cancelled).toMatchObject({ message: "cancelled" });
  await again;
  expect((await ann.leaders.get(ann.call, { group: "g" })).candidates).toMatchObject([{ agentId: "ben" }]);
  await pass(LEASE_MS * 2);
  await ann.leaders.resign(ann.call, { group: "g" });
  expect((await ben.leaders.get(ben.call, { group: "g" })).leader).toMatchObject({ agentId: "ben", you: true });
});

test("who resigns does so for all processes of the agent, which do not renew it any more", async () => {
  verifies("STATE-10");
  const { process, pass } = machine();
  const [first, second, other] = [process("ann"), process("ann"), process("ben")];
  await first.leaders.elect(first.call, { group: "g" });
  await second.leaders.elect(second.call, { group: "g" });
  await other.leaders.elect(other.call, { group: "g" });
  expect(await second.leaders.resign(second.call, { group: "g" })).toMatchObject({
    resigned: { led: true },
    leader: { agentId: "ben", term: 2 },
  });
  await pass(LEASE_MS * 2);
  expect(await other.leaders.get(other.call, { group: "g" })).toMatchObject({
    leader: { agentId: "ben", term: 2 },
    candidates: [],
  });
  await expect(first.leaders.resign(first.call, { group: "g" })).rejects.toEqual(code("failed_precondition", /no candidate/));
  await first.leaders.elect(first.call, { group: "g" });
  expect((await other.leaders.get(other.call, { group: "g" })).candidates).toMatchObject([{ agentId: "ann" }]);
});

test("over HTTP a candidate stays one by calling again", async () => {
  verifies("STATE-10");
  const { process, pass } = machine();
  const remote = process("far", { remote: true });
  const near = process("near");
  await remote.leaders.elect(remote.call, { group: "g" });
  await near.leaders.elect(near.call, { group: "g" });
  await pass(REMOTE_CANDIDACY_MS - 1_000);
  await remote.leaders.elect(remote.call, { group: "g" });
  await pass(REMOTE_CANDIDACY_MS - 1_000);
  expect((await near.leaders.get(near.call, { group: "g" })).leader).toMatchObject({ agentId: "far", term: 1 });
  await pass(1_000 + GRACE_MS);
  expect((await near.leaders.get(near.call, { group: "g" })).leader).toMatchObject({ agentId: "near", term: 2 });
});

test("a group has so many candidates and no more", async () => {
  verifies("STATE-10");
  const { process } = machine();
  const host = process("host");
  for (let number = 0; number < CANDIDATES_MAX; number++)
    await host.leaders.elect(host.call, { group: "g", agentId: `c${number}` });
  await expect(host.leaders.elect(host.call, { group: "g", agentId: "more" })).rejects.toEqual(code("limit_exceeded"));
  await host.leaders.elect(host.call, { group: "g", agentId: "c7" });
  await expect(host.leaders.elect(host.call, { group: "a b" })).rejects.toEqual(code("invalid_argument", /group/));
});

type Step = { do: "elect" | "resign" | "kill" | "stop" | "continue" | "close"; who: number } | { do: "pass"; ms: number };
const HOSTS = 4;
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("elect" as const), who: fc.nat(HOSTS - 1) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("continue" as const), who: fc.nat(HOSTS - 1) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom("resign" as const, "kill" as const, "stop" as const, "close" as const),
      who: fc.nat(HOSTS - 1),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(100, 4_000, 16_000) }) },
);

test("there is one leader or none, terms rise, and a living candidate leads within lease + 1 s whatever happens to the others", async () => {
  verifies("STATE-10", "STATE-09");
  let changes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30, size: "max" }), async (steps) => {
      const { process, pass, store } = machine();
      const observer = process("observer");
      let started = 0;
      const hosts: Process[] = Array.from({ length: HOSTS }, () => process(`agent-${started++}`));
      const standing = new Set<Process>();
      const terms = new Map<number, string>();
      let greatest = 0;
      const look = async () => {
        const { leader } = await observer.leaders.get(observer.call, { group: "g" });
        if (!leader) return;
        expect(leader.term).toBeGreaterThanOrEqual(greatest);
        greatest = leader.term;
        expect(terms.get(leader.term) ?? leader.agentId).toBe(leader.agentId);
        terms.set(leader.term, leader.agentId);
        for (const [term, agentId] of terms) {
          const written = store.transact((tx) => checkFence(tx, { lock: "leader:g", fencingToken: term }, agentId));
          if (term === leader.term) await written;
          else await expect(written).rejects.toEqual(code("failed_precondition"));
        }
      };
      for (const one of steps) {
        if (one.do === "pass") {
          await pass(one.ms);
          await look();
          continue;
        }
        const host = hosts[one.who] as Process;
        if (host.state() === "dead") hosts[one.who] = process(`agent-${started++}`);
        else if (one.do === "elect") {
          const elected = host.leaders.elect(host.call, { group: "g" }).then(
            () => void standing.add(host),
            // it was stopped in the middle, and went on only to end
            (error: unknown) => expect(error).toEqual(code("unavailable", /shutting down/)),
          );
          if (host.state() === "runs") await elected;
        } else if (one.do === "resign") {
          if (host.state() === "runs" && standing.delete(host)) await host.leaders.resign(host.call, { group: "g" });
        } else if (one.do === "close") {
          host.continue();
          await host.close();
        } else if (one.do === "kill") host.kill();
        else if (one.do === "stop") host.stop();
        else host.continue();
        await pass(0);
        await look();
      }
      await pass(LEASE_MS + GRACE_MS);
      const { leader } = await observer.leaders.get(observer.call, { group: "g" });
      const living = [...standing].filter((host) => host.state() === "runs").map(({ agentId }) => agentId);
      if (living.length > 0) expect(living).toContain(leader?.agentId);
      else expect([...standing].filter((host) => host.state() === "runs")).toEqual([]);
      changes += greatest;
    }),
    { numRuns: RUNS },
  );
  expect(changes).toBeGreaterThan(RUNS); // else the programs prove little
}, 600_000);
