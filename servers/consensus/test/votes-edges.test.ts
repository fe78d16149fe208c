/** The end of a vote where something is odd: what is waited for, and ends that no rule brought. */
import type { Json } from "@mcp-swarm/core";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { ballotPayload } from "../src/signing.ts";
import { ballotKey, stateKey, voteKey } from "../src/vote-layer.ts";
import { code, everything, type Process, type Swarm, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;

type Row = Record<string, Json>;

function change(store: Swarm["store"], key: string, how: (value: Row) => Row): Promise<void> {
  return store.transact((tx) => tx.put(key, how(tx.get(key)?.value as Row)));
}

async function wrongIn(by: Process, voteId: string) {
  const { verified, checks, difference } = await by.results.verify(by.call, { voteId });
  return { verified, wrong: checks.filter(({ ok }) => !ok).map(({ what }) => what), difference };
}

test("a wait for a sealed vote ends when its ballots are to be revealed: who waits for the result would lose its own", async () => {
  verifies("VOTE-03", "VOTE-08");
  const { process } = swarm();
  const [a, b, outside] = [process("a"), process("b"), process("outside")];
  const { id: voteId } = await a.votes.initiate(a.call, {
    proposal: "p",
    participants: ["a", "b"],
    sealed: true,
    revealMs: 20_000,
  });
  const commit = async (one: Process) => {
    const { commitment } = await one.casting.seal(one.call, { voteId, vote: "yes" });
    await one.casting.cast(one.call, { voteId, commitment });
  };
  await commit(a);
  const waiting = [a, outside].map((one) => one.results.get(one.call, { voteId }, { waitMs: 50_000 }));
  await commit(b);
  for (const one of await Promise.all(waiting)) expect(one).toMatchObject({ status: "revealing", result: undefined });
  // who comes later and has nothing to reveal waits for the result
  const later = outside.results.get(outside.call, { voteId }, { waitMs: 50_000 });
  // and who has is told at once
  expect(await b.results.get(b.call, { voteId }, { waitMs: 50_000 })).toMatchObject({ status: "revealing" });
  for (const one of [a, b]) await one.casting.reveal(one.call, { voteId });
  expect(await later).toMatchObject({ status: "closed", result: { outcome: { because: "all_revealed" } } });
});

test("participants who use messages are told once that it is time to reveal, however many processes look", async () => {
  verifies("VOTE-03", "VOTE-08");
  const { process, store, clock } = swarm();
  const all = ["a", "b", "c"].map((name) => process(name));
  const [a, b] = all as [Process, Process];
  await store.transact((tx) => tx.put("agent/b", { agentId: "b" }));
  const input = { proposal: "p", participants: ["a", "b", "c"], sealed: true, timeoutMs: MINUTE, revealMs: MINUTE };
  const { id: voteId } = await a.votes.initiate(a.call, input);
  const { commitment } = await b.casting.seal(b.call, { voteId, vote: "yes" });
  await b.casting.cast(b.call, { voteId, commitment });
  const told = async () => (await everything(store)).match(/^delivery\/b\/|(?<="event":")vote_\w+/gm);
  expect(await told()).toEqual(["delivery/b/", "vote_began"]);
  await clock.advance(MINUTE);
  await Promise.all(all.map((one) => one.results.get(one.call, { voteId })));
  expect((await told())?.filter((what) => what !== "delivery/b/").sort()).toEqual(["vote_began", "vote_revealing"]);
  await b.casting.reveal(b.call, { voteId });
  const events = await told();
  expect(events?.filter((what) => what !== "delivery/b/").sort()).toEqual(["vote_began", "vote_ended", "vote_revealing"]);
  expect(events?.filter((what) => what === "delivery/b/")).toHaveLength(3);
});

test("an end that somebody wrote past the servers is found out: nothing had ended the vote", async () => {
  verifies("VOTE-09", "VOTE-13");
  const { process, store, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const participants = ["a", "b", "c", "d", "e"];
  for (const because of ["decided", "all_voted", "deadline", "all_revealed"]) {
    const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants, timeoutMs: MINUTE });
    await a.casting.cast(a.call, { voteId, vote: "yes" });
    await store.transact((tx) => tx.put(stateKey(voteId), { phase: "closed", at: tx.now, because }));
    expect((await a.results.get(a.call, { voteId })).result?.outcome.tally.outcome).toBe("accepted");
    expect(await wrongIn(b, voteId), because).toMatchObject({ verified: false, wrong: ["end"] });
  }
  // the casting of a sealed one that was cut off
  const { id: cut } = await a.votes.initiate(a.call, {
    ...{ proposal: "p", participants, timeoutMs: 10 * MINUTE, sealed: true, revealMs: MINUTE },
  });
  const { commitment } = await a.casting.seal(a.call, { voteId: cut, vote: "yes" });
  await a.casting.cast(a.call, { voteId: cut, commitment });
  await store.transact((tx) =>
    tx.put(stateKey(cut), { phase: "revealing", at: tx.now, because: "all_voted", revealUntil: tx.now + MINUTE }),
  );
  await a.casting.reveal(a.call, { voteId: cut });
  expect(await wrongIn(b, cut)).toMatchObject({ verified: false, wrong: ["end"] });
  // the deadline that was moved
  const { id: moved } = await a.votes.initiate(a.call, { proposal: "p", participants, timeoutMs: 10 * MINUTE });
  await a.casting.cast(a.call, { voteId: moved, vote: "yes" });
  await change(store, voteKey(moved), (record) => ({ ...record, closesAt: Number(record.startedAt) + MINUTE }));
  await clock.advance(MINUTE);
  const fresh = process("fresh");
  expect((await fresh.results.get(fresh.call, { voteId: moved })).status).toBe("closed");
  expect(await wrongIn(b, moved)).toMatchObject({ verified: false, wrong: ["proposal", "end"] });
});

test("a result whose vote says that it still runs, or was cancelled, is not verified", async () => {
  verifies("VOTE-13");
  const { process, store } = swarm();
  const a = process("a");
  const decided = async () => {
    const { id } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"] });
    await a.casting.cast(a.call, { voteId: id, vote: "yes" });
    return id;
  };
  const reopened = await decided();
  await store.transact((tx) => tx.delete(stateKey(reopened)));
  expect(await wrongIn(a, reopened)).toMatchObject({ verified: false, wrong: expect.arrayContaining(["end"]) });
  const cancelled = await decided();
  await change(store, stateKey(cancelled), (state) => ({ ...state, phase: "cancelled" }));
  expect(await wrongIn(a, cancelled)).toMatchObject({ verified: false, wrong: ["end"] });
});

test("a byzantine vote among subagents of one agent is refused: one key would cast a deciding number of ballots", async () => {
  verifies("VOTE-06");
  const { process } = swarm({ secured: true });
  const a = process("a", { holding: ["a", "a/1", "a/2"] });
  const input = { proposal: "p", algorithm: "byzantine" as const, participants: ["a", "a/1", "a/2", "b"] };
  expect(await code(a.votes.initiate(a.call, input))).toBe("invalid_argument");
  expect(await code(a.votes.initiate(a.call, { ...input, participants: ["a/1", "b/1", "c", "d"] }))).toBe("ok");
  expect(await code(a.votes.initiate(a.call, { ...input, trustNames: true }))).toBe("ok");
});

test("a commitment that another copied opens to nothing", async () => {
  verifies("VOTE-08");
  const { process } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], sealed: true });
  const sealed = await a.casting.seal(a.call, { voteId, vote: "yes" });
  const asB = { ...a.call, caller: { ...a.call.caller, agentId: "b" } }; // one process for both, as behind a gateway
  await a.casting.cast(asB, { voteId, commitment: sealed.commitment });
  await a.casting.cast(a.call, { voteId, commitment: sealed.commitment });
  expect(await code(a.casting.reveal(asB, { voteId }))).toBe("invalid_argument");
  expect(await code(a.casting.reveal(asB, { voteId, vote: "yes", nonce: sealed.nonce }))).toBe("invalid_argument");
  await a.casting.reveal(a.call, { voteId });
  expect(await code(a.casting.reveal(a.call, { voteId }))).toBe("already_exists");
});

test("a signed ballot counts in no other vote, not even of the same proposal", async () => {
  verifies("VOTE-06");
  const { process, keys } = swarm({ secured: true });
  const participants = ["a", "b", "c", "d"];
  const a = process("a");
  const gateway = process("gateway", { holding: [] });
  const asB = { ...gateway.call, caller: { ...gateway.call.caller, agentId: "b" } };
  const [one, other] = [
    await a.votes.initiate(a.call, { proposal: "p", participants, algorithm: "byzantine" }),
    await a.votes.initiate(a.call, { proposal: "p", participants, algorithm: "byzantine" }),
  ];
  const signature = keys.signed("b", "ballot", ballotPayload({ record: one, voter: "b" }, { vote: "yes" }, undefined));
  expect(await code(gateway.casting.cast(asB, { voteId: other.id, vote: "yes", signature }))).toBe("unauthenticated");
  expect(await code(gateway.casting.cast(asB, { voteId: one.id, vote: "yes", signature }))).toBe("ok");
  expect(ballotKey(one.id, "b")).not.toBe(ballotKey(other.id, "b"));
});

test("a result of a secured swarm names the voters whose ballots no key has signed: the store alone says that they are theirs", async () => {
  verifies("VOTE-13");
  const { process, store, clock } = swarm({ secured: true });
  const participants = ["a", "b", "c", "d", "e"];
  const [a, b] = [process("a"), process("b")];
  const elsewhere = process("c", { holding: [] }); // its key is in another process
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants, timeoutMs: MINUTE });
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await b.casting.delegate(b.call, { voteId, to: "a" });
  await elsewhere.casting.cast(elsewhere.call, { voteId, vote: "no" });
  await store.transact((tx) => {
    tx.put(ballotKey(voteId, "d"), { voter: "d", ballot: { choice: { vote: "no" }, at: 1 } }); // by nobody knows whom
    tx.put(ballotKey(voteId, "e"), { voter: "e", delegated: { to: "c", at: 1 } });
    tx.put(ballotKey(voteId, "stranger"), { voter: "stranger", ballot: { choice: { vote: "no" }, at: 1 } });
    tx.put(ballotKey(voteId, "other"), { voter: "other", recused: { reason: "r", at: 1 } });
  });
  await clock.advance(MINUTE);
  const { result } = await b.results.get(b.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ tally: { turnout: { eligible: 5 } }, unsigned: { count: 3, names: ["c", "d", "e"] }, invalid: { count: 0 } },
    ...{ recused: { count: 0 }, delegated: { names: ["b", "e"] } }, // strangers are none of them
  });
  expect(await b.results.verify(b.call, { voteId })).toMatchObject({ verified: true });
  // of an open swarm, where nobody signs, the claim says it once for all
  const open = swarm();
  const one = open.process("a");
  const { id } = await one.votes.initiate(one.call, { proposal: "p", participants: ["a"] });
  await one.casting.cast(one.call, { voteId: id, vote: "yes" });
  expect((await one.results.get(one.call, { voteId: id })).result?.outcome).toMatchObject({
    ...{ unsigned: { count: 0 }, claim: "Voters' names are taken on trust: the swarm is open." },
  });
});

test("in a revisable vote nobody is told that a ballot is final", async () => {
  verifies("VOTE-02", "VOTE-11");
  const { process } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], revisable: true });
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  for (const refused of [a.casting.delegate(a.call, { voteId, to: "b" }), a.casting.recuse(a.call, { voteId, reason: "r" })]) {
    await expect(refused).rejects.toMatchObject({ code: "already_exists", message: expect.not.stringContaining("final") });
  }
});
