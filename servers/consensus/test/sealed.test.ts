/** Sealed votes: commitments, then choices; nobody learns a choice before the close. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { commitmentOf } from "../src/sealing.ts";
import { stateKey } from "../src/vote-layer.ts";
import { code, everything, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;

async function begin({ revealMs = MINUTE, ...more }: { revealMs?: number; revisable?: boolean } = {}) {
  const { process, ...rest } = swarm();
  const [a, b, c] = [process("a"), process("b"), process("c")];
  const { id: voteId } = await a.votes.initiate(a.call, {
    ...{ proposal: "p", participants: ["a", "b", "c"], sealed: true, revealMs, timeoutMs: MINUTE },
    ...more,
  });
  return { ...rest, process, a, b, c, voteId };
}

test("a commitment is SHA-256 over voteId, voter, choice and nonce, each behind its length", () => {
  verifies("VOTE-08");
  const nonce = "ab".repeat(32);
  const length = (n: number) => Buffer.from([0, 0, 0, n]);
  const bytes = [
    ...[length(6), Buffer.from("vote-1"), length(1), Buffer.from("b")],
    ...[length(14), Buffer.from('{"vote":"yes"}'), length(32), Buffer.from(nonce, "hex")],
  ];
  const byHand = createHash("sha256").update(Buffer.concat(bytes)).digest("hex");
  expect(commitmentOf({ voteId: "vote-1", voter: "b", choice: { vote: "yes" } }, nonce)).toBe(byHand);
  // what is moved from one part to the next is another commitment
  expect(commitmentOf({ voteId: "vote-", voter: "1b", choice: { vote: "yes" } }, nonce)).not.toBe(byHand);
});

test("choices are committed, and revealed once all have committed; no row shows one before", async () => {
  verifies("VOTE-08");
  const { a, b, c, voteId, store } = await begin();
  const said = { vote: "no", confidence: 612, modelFamily: "familiar" };
  for (const one of [a, b, c]) {
    const { commitment } = await one.casting.seal(one.call, { voteId, ...said });
    expect(await code(one.casting.reveal(one.call, { voteId }))).toBe("failed_precondition"); // too early
    expect(await one.casting.cast(one.once("cast"), { voteId, commitment })).toMatchObject({ recorded: "committed" });
  }
  expect((await store.get(stateKey(voteId)))?.value).toMatchObject({ phase: "revealing", because: "all_voted" });
  expect(await everything(store)).not.toMatch(/"no"|confidence|familiar|nonce/);
  expect((await a.votes.get(a.call, { voteId })).own).toBe("to_reveal");
  await a.casting.reveal(a.call, { voteId, rationale: "So be it" });
  // others still learn nothing, though it is open
  const seen = JSON.stringify([await b.results.ballots(b.call, { voteId }), await b.votes.get(b.call, { voteId })]);
  expect(seen).not.toMatch(/confidence|familiar|So be it|nonce/);
  await b.casting.reveal(b.call, { voteId });
  expect((await c.results.get(c.call, { voteId })).result).toBeUndefined();
  await c.casting.reveal(c.call, { voteId });
  const { result } = await c.results.get(c.call, { voteId });
  expect(result?.outcome).toMatchObject({ because: "all_revealed", tally: { outcome: "rejected", counts: { yes: 0, no: 3 } } });
  expect(await c.results.verify(c.call, { voteId })).toMatchObject({ verified: true });
});

test("a choice said in the open is refused, and neither it nor its hash is written anywhere", async () => {
  verifies("VOTE-08");
  const { a, voteId, store } = await begin();
  const before = await everything(store);
  expect(await code(a.casting.cast(a.once("k"), { voteId, vote: "yes" }))).toBe("failed_precondition");
  const { commitment } = await a.casting.seal(a.call, { voteId, vote: "yes" });
  for (const more of [{ vote: "yes" }, { rationale: "r" }, { confidence: 5 }, { modelFamily: "f" }]) {
    expect(await code(a.casting.cast(a.call, { voteId, commitment, ...more }))).toBe("invalid_argument");
  }
  expect(await everything(store)).toBe(before);
});

test("what is not revealed in time counts as an abstention, and is said", async () => {
  verifies("VOTE-08", "VOTE-10");
  const { a, b, c, voteId, clock } = await begin();
  for (const [one, vote] of [[a, "yes"] as const, [b, "no"] as const]) {
    const { commitment } = await one.casting.seal(one.call, { voteId, vote });
    await one.casting.cast(one.call, { voteId, commitment });
  }
  await clock.advance(MINUTE);
  expect(await code(c.casting.cast(c.call, { voteId, commitment: "0".repeat(64) }))).toBe("failed_precondition");
  await a.casting.reveal(a.call, { voteId });
  expect(await code(c.casting.reveal(c.call, { voteId }))).toBe("failed_precondition"); // it committed to nothing
  await clock.advance(MINUTE);
  expect(await code(b.casting.reveal(b.call, { voteId }))).toBe("failed_precondition");
  const { result } = await b.results.get(b.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ because: "deadline", notRevealed: { count: 1, names: ["b"] }, notVoted: { count: 1, names: ["c"] } },
    tally: { outcome: "accepted", counts: { yes: 1, no: 0 }, turnout: { voted: 2, abstained: 1 } },
  });
});

test("another process reveals with the opening; one that fits no commitment is refused", async () => {
  verifies("VOTE-08");
  const { process, a, b, c, voteId } = await begin();
  const sealed = await a.casting.seal(a.call, { voteId, vote: "yes", confidence: 5 });
  await a.casting.cast(a.call, { voteId, commitment: sealed.commitment });
  for (const one of [b, c]) {
    await one.casting.cast(one.call, {
      voteId,
      commitment: (await one.casting.seal(one.call, { voteId, vote: "no" })).commitment,
    });
  }
  const elsewhere = process("a");
  const { nonce } = sealed;
  const reveal = (input: { vote?: string; confidence?: number; nonce?: string }) =>
    elsewhere.casting.reveal(elsewhere.call, { voteId, ...input });
  expect(await code(reveal({}))).toBe("invalid_argument");
  expect(await code(reveal({ vote: "yes", confidence: 5 }))).toBe("invalid_argument");
  expect(await code(reveal({ vote: "no", confidence: 5, nonce }))).toBe("invalid_argument");
  expect(await code(reveal({ vote: "yes", nonce }))).toBe("invalid_argument");
  expect(await code(reveal({ vote: "yes", confidence: 5, nonce: "0".repeat(64) }))).toBe("invalid_argument");
  // another's commitment is not opened by its nonce either
  expect(await code(b.casting.reveal(b.call, { voteId, vote: "yes", confidence: 5, nonce }))).toBe("invalid_argument");
  expect(await reveal({ vote: "yes", confidence: 5, nonce })).toMatchObject({ recorded: "revealed" });
  expect(await code(reveal({ vote: "yes", confidence: 5, nonce }))).toBe("already_exists");
});

test("a commitment to what the method cannot count is refused when it is opened, and abstains", async () => {
  verifies("VOTE-08");
  const { a, b, c, voteId, clock } = await begin();
  const nonce = "cd".repeat(32);
  const commitment = commitmentOf({ voteId, voter: "a", choice: { vote: "maybe" } }, nonce);
  await a.casting.cast(a.call, { voteId, commitment });
  for (const one of [b, c]) {
    await one.casting.cast(one.call, {
      voteId,
      commitment: (await one.casting.seal(one.call, { voteId, vote: "no" })).commitment,
    });
    await code(one.casting.reveal(one.call, { voteId }));
  }
  expect(await code(a.casting.reveal(a.call, { voteId, vote: "maybe", nonce }))).toBe("invalid_argument");
  await b.casting.reveal(b.call, { voteId });
  await clock.advance(2 * MINUTE);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ notRevealed: { names: ["a"] }, tally: { outcome: "rejected" } });
});

test("a commitment of a revisable vote may be replaced until the close", async () => {
  verifies("VOTE-08", "VOTE-02");
  const { a, voteId, clock } = await begin({ revisable: true });
  const first = await a.casting.seal(a.call, { voteId, vote: "yes" });
  const second = await a.casting.seal(a.call, { voteId, vote: "no" });
  await a.casting.cast(a.call, { voteId, commitment: first.commitment });
  expect(await a.casting.cast(a.call, { voteId, commitment: second.commitment })).toMatchObject({ recorded: "revised" });
  await clock.advance(MINUTE);
  expect(await code(a.casting.reveal(a.call, { voteId, vote: "yes", nonce: first.nonce }))).toBe("invalid_argument");
  expect(await a.casting.reveal(a.call, { voteId })).toMatchObject({ recorded: "revealed" });
});

test("a vote that is not sealed takes no commitment", async () => {
  verifies("VOTE-08");
  const { process } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"] });
  expect(await code(a.casting.seal(a.call, { voteId, vote: "yes" }))).toBe("failed_precondition");
  expect(await code(a.casting.cast(a.call, { voteId, commitment: "0".repeat(64) }))).toBe("failed_precondition");
  expect(await code(a.casting.reveal(a.call, { voteId }))).toBe("failed_precondition");
});

test("a reveal that arrives when its time is just over is refused, though it was in time when it set out", async () => {
  verifies("VOTE-08", "VOTE-10");
  const { process, store, clock, a, b, voteId } = await begin();
  const sealed = await a.casting.seal(a.call, { voteId, vote: "yes" });
  await a.casting.cast(a.call, { voteId, commitment: sealed.commitment });
  await b.casting.cast(b.call, { voteId, commitment: (await b.casting.seal(b.call, { voteId, vote: "no" })).commitment });
  await clock.advance(MINUTE);
  expect(await code(b.casting.reveal(b.call, { voteId, nonce: "0".repeat(64), vote: "no" }))).toBe("invalid_argument");
  const listed = (await process("x").votes.list(process("x").call)).votes;
  expect(listed).toMatchObject([{ status: "revealing", record: { id: voteId } }]); // once
  const slow: typeof store = Object.assign(Object.create(store) as typeof store, {
    transact: async (plan: Parameters<typeof store.transact>[0]) => {
      await clock.advance(MINUTE);
      return store.transact(plan);
    },
    get: (key: string) => store.get(key),
    getMany: (keys: readonly string[]) => store.getMany(keys),
    now: () => store.now(),
  });
  const late = process("a", { store: slow });
  expect(await code(late.casting.reveal(late.call, { voteId, vote: "yes", nonce: sealed.nonce }))).toBe("failed_precondition");
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome.notRevealed.names).toEqual(["a", "b"]);
});
