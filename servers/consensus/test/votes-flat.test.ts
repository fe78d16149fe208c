/** A vote of very many participants: what one ballot costs does not grow with how many were cast, and no ballot is lost. */
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { code, names, type Process, swarm } from "./support/swarm.ts";

const VOTERS = 10_000;
const FEWER = 1_000;
const PROCESSES = 32;
/** Entries that one ballot touches on average: its own few rows, the counts, and its part of the looks at all ballots. */
const TOUCHED_PER_BALLOT_MAX = 250;
/** Entries that a ballot touches when no look is due: counts in COUNT_SHARDS parts, and its own rows. */
const TOUCHED_USUALLY_MAX = 100;

async function begin(voters: number, input: Record<string, unknown> = {}) {
  const made = swarm();
  const { store, touched } = counted(made.store);
  const participants = names(voters, "v");
  // a server over HTTP speaks for any
  const processes = Array.from({ length: PROCESSES }, (_, n) => made.process(`server-${n}`, { store }));
  const [first] = processes as [Process];
  const { id: voteId } = await first.votes.initiate(first.call, { proposal: "p", participants, ...input });
  const callOf = (n: number) => {
    const by = processes[n % PROCESSES] as Process;
    return { by, call: { ...by.call, caller: { ...by.call.caller, agentId: participants[n] ?? "" } } };
  };
  return { ...made, store, touched, participants, processes, first, voteId, callOf };
}

test(`${VOTERS} participants vote through ${PROCESSES} processes at once: each ballot counts once, and costs little`, {
  timeout: 120_000,
}, async () => {
  verifies("VOTE-14", "VOTE-02");
  const { touched, processes, first, voteId, callOf } = await begin(VOTERS);
  const before = touched();
  const costs: number[] = [];
  const choice = (n: number) => (n % 2 === 0 ? "yes" : n % 3 === 0 ? "abstain" : "no");
  const expected = { yes: 0, no: 0, abstain: 0 };
  let refused = 0;
  for (let from = 0; from < VOTERS; from += PROCESSES) {
    const at = touched();
    await Promise.all(
      Array.from({ length: Math.min(PROCESSES, VOTERS - from) }, async (_, offset) => {
        const n = from + offset;
        const { by, call } = callOf(n);
        if ((await code(by.casting.cast(call, { voteId, vote: choice(n) }))) === "ok") expected[choice(n)] += 1;
        else refused += 1; // the outcome was certain before
        return by;
      }),
    );
    costs.push((touched() - at) / PROCESSES);
  }
  const { result } = await first.results.get(first.call, { voteId });
  const { tally, because } = result?.outcome ?? {};
  expect(because).toBe("decided");
  expect(tally).toMatchObject({
    ...{ outcome: "accepted", counts: { yes: expected.yes, no: expected.no } },
    turnout: { eligible: VOTERS, voted: VOTERS - refused, abstained: expected.abstain },
  });
  // yes is ahead by one in six: it is decided once no more than that are left, and found out within a few looks
  expect(refused).toBeGreaterThan(VOTERS / 10);
  expect(processes.flatMap(({ errors }) => errors)).toEqual([]);
  expect((touched() - before) / (VOTERS - refused)).toBeLessThan(TOUCHED_PER_BALLOT_MAX);
  expect(costs.sort((a, b) => a - b)[Math.floor(costs.length / 2)]).toBeLessThan(TOUCHED_USUALLY_MAX);
  expect(await first.results.verify(first.call, { voteId })).toMatchObject({ verified: true });
  const seen = new Set<string>();
  let cursor: string | undefined;
  do {
    const page = await first.results.ballots(first.call, { voteId, limit: 200, cursor });
    for (const { voter } of page.rows) seen.add(voter);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  expect(seen.size).toBe(VOTERS - refused);
});

test("a large vote that only its last ballot can decide ends with it, and a sealed one with the last reveal", {
  timeout: 120_000,
}, async () => {
  verifies("VOTE-09", "VOTE-08");
  const ranked = await begin(FEWER, { options: ["x", "y"], method: "schulze", timeoutMs: 3_600_000 });
  for (let n = 0; n < FEWER; n++) {
    const { by, call } = ranked.callOf(n);
    if (n === FEWER - 1) expect((await by.results.get(call, { voteId: ranked.voteId })).result).toBeUndefined();
    await by.casting.cast(call, { voteId: ranked.voteId, ranking: [[n % 2 === 0 ? "x" : "y"]] });
  }
  const { result } = await ranked.first.results.get(ranked.first.call, { voteId: ranked.voteId });
  const mine = await ranked.first.votes.list(ranked.callOf(7).call, { mine: true, ended: true });
  expect(mine.votes).toMatchObject([{ record: { id: ranked.voteId }, own: "cast" }]);
  expect((await ranked.first.votes.list(ranked.first.call, { mine: true, ended: true })).votes).toEqual([]);
  expect(result?.outcome).toMatchObject({ because: "all_voted", tally: { outcome: "tied", turnout: { voted: FEWER } } });

  const few = 300; // large enough to be counted in parts
  const made = swarm();
  const participants = names(few, "v");
  const server = made.process("server");
  const { id: voteId } = await server.votes.initiate(server.call, { proposal: "p", participants, sealed: true });
  const calls = participants.map((agentId) => ({ ...server.call, caller: { ...server.call.caller, agentId } }));
  for (const [n, call] of calls.entries()) {
    const { commitment } = await server.casting.seal(call, { voteId, vote: n % 3 === 0 ? "yes" : "no" });
    await server.casting.cast(call, { voteId, commitment });
  }
  for (const [n, call] of calls.entries()) {
    expect((await server.results.get(call, { voteId })).result, `${n} have revealed`).toBeUndefined();
    await server.casting.reveal(call, { voteId });
  }
  expect((await server.results.get(server.call, { voteId })).result?.outcome).toMatchObject({
    ...{ because: "all_revealed", tally: { outcome: "rejected", counts: { yes: 100, no: 200 } } },
  });
});

test("the last ballot of a large vote ends it though its process died with it: whoever waits finds out", async () => {
  verifies("VOTE-09", "VOTE-10");
  const { process, store, clock } = swarm();
  const participants = names(250, "v");
  const server = process("server");
  const { id: voteId } = await server.votes.initiate(server.call, { proposal: "p", participants, method: "unanimity" });
  const as = (by: Process, agentId: string) => ({ ...by.call, caller: { ...by.call.caller, agentId } });
  for (const voter of participants.slice(1)) await server.casting.cast(as(server, voter), { voteId, vote: "yes" });
  const waiter = process("waiter");
  const waiting = waiter.results.get(waiter.call, { voteId }, { waitMs: 20_000 });
  await clock.advance(1_000);
  let writes = 0;
  const dying = process("dying", {
    store: Object.assign(Object.create(store) as typeof store, {
      transact: async (plan: Parameters<typeof store.transact>[0]) => {
        writes += 1;
        if (writes > 1) throw new Error("killed");
        return store.transact(plan);
      },
      get: (key: string) => store.get(key),
      getMany: (keys: readonly string[]) => store.getMany(keys),
      scan: (range: Parameters<typeof store.scan>[0]) => store.scan(range),
      now: () => store.now(),
    }),
  });
  await dying.casting.cast(as(dying, participants[0] ?? ""), { voteId, vote: "yes" });
  expect(dying.errors).toHaveLength(1);
  await clock.advance(5_000);
  expect((await waiting).result?.outcome).toMatchObject({ because: "all_voted", tally: { outcome: "accepted" } });
});
