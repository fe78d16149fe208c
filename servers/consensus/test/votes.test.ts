/** Votes over yes and no, and over options: begun, cast, ended, listed, called off and computed again. */
import { createHash } from "node:crypto";
import type { Json } from "@mcp-swarm/core";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { canonicalJson } from "../src/canonical.ts";
import { ballotKey, readVote, resultKey, stateKey, voteKey } from "../src/vote-layer.ts";
import { hashed, proposalHash } from "../src/vote-record.ts";
import type { InitiateVote } from "../src/votes.ts";
import { code, everything, names, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;
const DAY = 24 * 3_600_000;

test("a vote is begun with all its settings, hashed together, and what is not said has its default", async () => {
  verifies("VOTE-01");
  const { process, store } = swarm();
  const a = process("a");
  const begun = await a.votes.initiate(a.call, { proposal: { what: "Use PostgreSQL" }, participants: ["c", "b"] });
  expect(begun).toMatchObject({ status: "open", participants: 2, closesAt: begun.startedAt + 300_000 });
  const vote = await readVote(store, begun.id);
  expect(vote?.roll).toEqual([
    { name: "b", weight: 1 },
    { name: "c", weight: 1 },
  ]);
  expect(vote?.record.settings).toMatchObject({ algorithm: "majority" });
  // by hand: SHA-256 of the canonical JSON
  const again = createHash("sha256")
    .update(canonicalJson(vote ? hashed(vote.record, vote.roll) : null))
    .digest("hex");
  expect(begun.hash).toBe(again);
});

test("each setting is in the hash: none can change under the voters", async () => {
  verifies("VOTE-01");
  const { process, store } = swarm();
  const a = process("a");
  const participants = names(5);
  const [first = "", second = ""] = participants;
  const settingsOf = async (input: Partial<InitiateVote>) => {
    const { id } = await a.votes.initiate(a.call, { proposal: "p", participants, timeoutMs: MINUTE, ...input });
    const vote = await readVote(store, id);
    if (!vote) throw new Error("It is there");
    const { record, roll } = vote;
    const settings = record.settings as unknown as Record<string, Json>;
    expect(hashed(record, roll)).toMatchObject({ settings, initiator: "a", timeoutMs: MINUTE });
    for (const name of Object.keys(settings)) {
      const { [name]: _, ...others } = settings;
      const changed = { ...record, settings: others as unknown as typeof record.settings };
      expect(proposalHash(changed, roll), name).not.toBe(record.hash);
    }
    expect(proposalHash({ ...record, proposal: "q" }, roll)).not.toBe(record.hash);
    expect(proposalHash({ ...record, timeoutMs: 1 }, roll)).not.toBe(record.hash);
    expect(proposalHash(record, roll.slice(1))).not.toBe(record.hash);
    expect(proposalHash(record, [{ name: first, weight: 9 }, ...roll.slice(1)])).not.toBe(record.hash);
    return Object.keys(settings).sort().join(" ");
  };
  const strict: Partial<InitiateVote> = { method: "supermajority", threshold: "2/3", base: "present", vetoHolders: [second] };
  expect(await settingsOf({ algorithm: "weighted", ...strict, weights: { [first]: 3 }, quorum: 2, sealed: true })).toBe(
    "algorithm base delegation method quorum revealMs sealed threshold vetoHolders",
  );
  expect(await settingsOf({ tieBreak: `chair:${first}`, revisable: true })).toBe("algorithm delegation revisable tieBreak");
  expect(await settingsOf({ options: ["x", "y"], method: "borda" })).toBe("algorithm delegation method options");
  expect(await settingsOf({ algorithm: "byzantine", trustNames: true })).toBe("algorithm delegation trustNames");
});

test.each([
  ["a participant twice", { participants: ["b", "b"] }],
  ["no name", { participants: ["b c"] }],
  ["nobody", { participants: [] }],
  ["weights of a majority", { weights: { b: 2 } }],
  ["a weight of a stranger", { algorithm: "weighted" as const, weights: { x: 2 } }],
  ["a reveal window of an open vote", { revealMs: 1_000 }],
  ["trustNames elsewhere", { trustNames: true }],
  ["a proposal that is too long", { proposal: "x".repeat(9_000) }],
  ["options that are too long", { options: Array.from({ length: 20 }, (_, n) => `${n}`.padEnd(180, "x")) }],
  ["a veto of a stranger", { vetoHolders: ["x"] }],
  ["a chair who is a stranger", { tieBreak: "chair:x" }],
  ["a method over options without any", { method: "borda" as const }],
])("%s is refused, and nothing is written", async (_, wrong) => {
  verifies("VOTE-01");
  const { process, store } = swarm();
  const a = process("a");
  const input = { proposal: "p", participants: ["b", "c"], ...wrong };
  expect(await code(a.votes.initiate(a.call, input))).toBe("invalid_argument");
  expect(await everything(store)).toBe("");
});

test("the voter is the caller or its subagent, and a participant; one ballot each, in a row of its own", async () => {
  verifies("VOTE-02");
  const { process, store } = swarm();
  const [a, b, stranger] = [process("a"), process("b"), process("x")];
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b", "b/child", "c", "d"] });
  expect(await code(stranger.casting.cast(stranger.call, { voteId, vote: "yes" }))).toBe("permission_denied");
  expect(await code(b.casting.cast(b.call, { voteId, vote: "yes", agentId: "a/child" }))).toBe("permission_denied");
  expect(await code(b.casting.cast(b.call, { voteId, vote: "yes", agentId: "other" }))).toBe("permission_denied");
  expect(await b.casting.cast(b.call, { voteId, vote: "yes", agentId: "child" })).toMatchObject({
    voter: "b/child",
    recorded: "cast",
  });
  expect(await b.casting.cast(b.call, { voteId, vote: "no", rationale: "Too early", confidence: 700 })).toMatchObject({
    voter: "b",
  });
  expect(await code(b.casting.cast(b.call, { voteId, vote: "yes" }))).toBe("already_exists");
  expect((await store.get(ballotKey(voteId, "b")))?.value).toMatchObject({
    voter: "b",
    ballot: { choice: { vote: "no", confidence: 700 }, rationale: "Too early" },
  });
  expect(await code(b.casting.cast(b.call, { voteId: "vote-none", vote: "yes" }))).toBe("not_found");
  expect(await code(a.casting.cast(a.call, { voteId, vote: "maybe" }))).toBe("invalid_argument");
  expect(await code(a.casting.cast(a.call, { voteId }))).toBe("invalid_argument");
});

test("a ballot cast again under its idempotency key is the same ballot", async () => {
  verifies("VOTE-02");
  const { process } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b", "c"] });
  const first = await a.casting.cast(a.once("k"), { voteId, vote: "yes" });
  expect(await a.casting.cast(a.once("k"), { voteId, vote: "yes" })).toEqual(first);
});

test("in a revisable vote the last ballot counts, earlier ones are kept, and no outcome is early", async () => {
  verifies("VOTE-02", "VOTE-09");
  const { process, store, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], revisable: true });
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await b.casting.cast(b.call, { voteId, vote: "yes" });
  expect(await store.get(stateKey(voteId))).toBeUndefined();
  for (let again = 0; again < 12; again++) {
    const vote = again % 2 === 0 ? "no" : "yes";
    expect(await a.casting.cast(a.call, { voteId, vote })).toMatchObject({ recorded: "revised" });
  }
  await a.casting.cast(a.call, { voteId, vote: "no" });
  await b.casting.cast(b.call, { voteId, vote: "no" });
  const row = (await store.get(ballotKey(voteId, "a")))?.value;
  expect(row).toMatchObject({ ballot: { choice: { vote: "no" } }, revisions: 13 });
  expect((row as { revised: unknown[] }).revised).toHaveLength(10);
  await clock.advance(300_000);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ because: "deadline", tally: { outcome: "rejected", counts: { yes: 0, no: 2 } } });
});

test("a vote ends with the ballot that decides it, and takes none after", async () => {
  verifies("VOTE-09", "VOTE-03");
  const { process, store } = swarm();
  const all = names(5).map((name) => process(name));
  const [a, b, c, d] = all;
  if (!a || !b || !c || !d) throw new Error("Five");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: names(5) });
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await b.casting.cast(b.call, { voteId, vote: "yes" });
  expect(await store.get(stateKey(voteId))).toBeUndefined();
  await c.casting.cast(c.call, { voteId, vote: "yes" });
  expect(await code(d.casting.cast(d.call, { voteId, vote: "no" }))).toBe("failed_precondition");
  const { status, result } = await d.results.get(d.call, { voteId });
  expect(status).toBe("closed");
  expect(result?.outcome).toMatchObject({
    ...{ because: "decided", tally: { outcome: "accepted", winners: ["yes"] } },
    notVoted: { count: 2, names: names(5).slice(3) },
  });
  expect(await d.results.verify(d.call, { voteId })).toMatchObject({ verified: true });
  expect(all.flatMap(({ errors }) => errors)).toEqual([]);
});

test("the deadline is the store's: a late ballot is refused, and whoever reads first after it writes the one result", async () => {
  verifies("VOTE-10", "VOTE-03");
  const { process, store, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const { id: voteId, closesAt } = await a.votes.initiate(a.call, {
    proposal: "p",
    participants: ["a", "b", "c"],
    timeoutMs: MINUTE,
  });
  await a.casting.cast(a.call, { voteId, vote: "no" });
  await clock.advance(MINUTE - 1);
  expect((await b.results.get(b.call, { voteId })).result).toBeUndefined();
  await clock.advance(1);
  expect(await store.get(stateKey(voteId))).toBeUndefined(); // nothing ran meanwhile
  expect(await code(b.casting.cast(b.call, { voteId, vote: "yes" }))).toBe("failed_precondition");
  // all who look at once get the same record
  const readers = names(8, "reader").map((name) => process(name));
  let writes = 0;
  using _ = store.watch(resultKey(voteId), () => {
    writes += 1;
  });
  const found = await Promise.all(readers.map(({ results, call }) => results.get(call, { voteId })));
  const [first] = found;
  expect(first?.result?.outcome).toMatchObject({ because: "deadline", closedAt: closesAt, tally: { outcome: "rejected" } });
  expect(new Set(found.map(({ result }) => JSON.stringify(result))).size).toBe(1);
  const written = await store.get(resultKey(voteId));
  await process("late").results.get(process("late").call, { voteId });
  expect(writes).toBe(1);
  expect((await store.get(resultKey(voteId)))?.rev).toBe(written?.rev);
});

test("a process that nobody asks ends what is due", async () => {
  verifies("VOTE-10");
  const { process, store, clock } = swarm();
  const [a, idle] = [process("a"), process("idle")];
  const { id: soon } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], timeoutMs: MINUTE });
  const { id: later } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], timeoutMs: 2 * MINUTE });
  expect(await idle.work()).toBe(MINUTE);
  await clock.advance(MINUTE);
  await idle.work();
  expect(await store.get(resultKey(soon))).toBeDefined();
  expect(await store.get(resultKey(later))).toBeUndefined();
});

test("get_result waits until another ends the vote, and no longer than it was told", async () => {
  verifies("VOTE-03", "VOTE-10");
  const { process, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"], timeoutMs: MINUTE });
  const short = b.results.get(b.call, { voteId }, { waitMs: 1_000 });
  const long = b.results.get(b.call, { voteId }, { waitMs: 50_000 });
  await clock.advance(1_000);
  expect((await short).result).toBeUndefined();
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await clock.advance(10);
  expect((await long).result?.outcome).toMatchObject({ because: "all_voted", tally: { outcome: "accepted" } });
  const { id: due } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"], timeoutMs: 30_000 });
  const untilDue = b.results.get(b.call, { voteId: due }, { waitMs: 50_000 });
  await clock.advance(30_100);
  expect((await untilDue).result?.outcome).toMatchObject({ because: "deadline", notVoted: { count: 1 } });
});

test("who dies between its ballot and the end of the vote leaves it to whoever waits", async () => {
  verifies("VOTE-09", "VOTE-10");
  const { process, store, clock } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"], timeoutMs: MINUTE });
  // the store takes the ballot, and nothing after it
  let writes = 0;
  const dying = process("a", {
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
  expect(await dying.casting.cast(dying.call, { voteId, vote: "yes" })).toMatchObject({ recorded: "cast" });
  expect(dying.errors).toHaveLength(1);
  expect(await store.get(stateKey(voteId))).toBeUndefined();
  const b = process("b");
  const waiting = b.results.get(b.call, { voteId }, { waitMs: 10_000 });
  await clock.advance(3_000);
  expect((await waiting).result?.outcome.tally.outcome).toBe("accepted");
});

test("its initiator cancels a vote, and nobody else; it has no result and takes no ballot", async () => {
  verifies("VOTE-03");
  const { process, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"] });
  expect(await code(b.votes.cancel(b.call, { voteId }))).toBe("permission_denied");
  const waiting = b.results.get(b.call, { voteId }, { waitMs: 10_000 });
  expect(await a.votes.cancel(a.call, { voteId, reason: "Moot" })).toMatchObject({ id: voteId });
  await clock.advance(10);
  expect(await waiting).toMatchObject({ status: "cancelled", result: undefined });
  expect(await code(b.casting.cast(b.call, { voteId, vote: "yes" }))).toBe("failed_precondition");
  expect(await code(a.votes.cancel(a.call, { voteId }))).toBe("failed_precondition");
  expect(await code(a.results.verify(a.call, { voteId }))).toBe("failed_precondition");
  expect((await b.votes.list(b.call)).votes).toEqual([]);
  expect((await b.votes.list(b.call, { ended: true })).votes).toMatchObject([{ status: "cancelled", record: { id: voteId } }]);
});

test("lists show the reader's own votes first, in order of the deadline, page by page, each once", async () => {
  verifies("VOTE-03");
  const { process, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const ids: string[] = [];
  for (let n = 0; n < 9; n++) {
    const participants = n % 3 === 0 ? ["b", "c"] : ["c", "d"];
    const { id } = await a.votes.initiate(a.call, { proposal: n, participants, timeoutMs: (20 - n) * MINUTE });
    ids.push(id);
  }
  const seen: { id: string; own: string }[] = [];
  let cursor: string | undefined;
  do {
    const page = await b.votes.list(b.call, { limit: 2, cursor });
    expect(page.votes.length).toBeLessThanOrEqual(2);
    seen.push(...page.votes.map(({ record, own }) => ({ id: record.id, own })));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  const of = (...which: number[]) => which.map((n) => ids[n]);
  expect(seen.map(({ id }) => id)).toEqual([...of(6, 3, 0), ...of(8, 7, 5, 4, 2, 1)]);
  expect(seen.map(({ own }) => own)).toEqual([...Array(3).fill("to_cast"), ...Array(6).fill("none")]);
  const mine = await b.votes.list(b.call, { mine: true });
  expect(mine.votes.map(({ record }) => record.id)).toEqual(of(6, 3, 0));
  await b.casting.cast(b.call, { voteId: ids[6] ?? "", vote: "yes" });
  expect((await b.votes.list(b.call, { mine: true })).votes[0]?.own).toBe("cast");
  await clock.advance(14 * MINUTE); // 8, 7 and 6 are over, and nobody has counted them
  expect((await b.votes.list(b.call)).votes.map(({ record }) => record.id)).toEqual([...of(3, 0), ...of(5, 4, 2, 1)]);
  await b.work();
  const ended = await b.votes.list(b.call, { ended: true });
  expect(ended.votes.map(({ record }) => record.id).sort()).toEqual(of(8, 7, 6).sort());
  expect(await code(b.votes.list(b.call, { cursor: "nonsense" }))).toBe("invalid_argument");
});

test("choices of others are shown once the vote is closed, and not before", async () => {
  verifies("VOTE-02", "VOTE-13");
  const { process, clock } = swarm();
  const [a, b] = [process("a"), process("b")];
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b", "c"], timeoutMs: MINUTE });
  await a.casting.cast(a.call, { voteId, vote: "yes", rationale: "Because" });
  const before = await b.results.ballots(b.call, { voteId });
  expect(before.rows).toMatchObject([{ voter: "a", ballot: { choice: {} } }]);
  expect(JSON.stringify(before)).not.toMatch(/yes|Because/);
  expect((await a.results.ballots(a.call, { voteId })).rows[0]?.ballot?.choice).toEqual({ vote: "yes" });
  const seen = await b.votes.get(b.call, { voteId });
  expect(seen).toMatchObject({ own: "to_cast", settled: 1, waitingFor: ["b", "c"] });
  await clock.advance(MINUTE);
  expect((await b.results.ballots(b.call, { voteId })).rows).toMatchObject([
    { voter: "a", ballot: { choice: { vote: "yes" }, rationale: "Because" } },
  ]);
});

test("a result is computed again from the rows, and the first thing that is not so is named", async () => {
  verifies("VOTE-13");
  const { process, store } = swarm();
  const [a, b] = [process("a"), process("b")];
  const begin = async () => {
    const { id } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], options: ["red", "blue"] });
    await a.casting.cast(a.call, { voteId: id, vote: "red" });
    await b.casting.cast(b.call, { voteId: id, vote: "red" });
    return id;
  };
  const change = (key: string, how: (value: Record<string, Json>) => Record<string, Json>) =>
    store.transact((tx) => tx.put(key, how(tx.get(key)?.value as Record<string, Json>)));
  const good = await begin();
  expect(await b.results.verify(b.call, { voteId: good })).toEqual({
    ...{ voteId: good, verified: true },
    checks: ["proposal", "ballots", "end", "tally", "record"].map((what) => ({ what, ok: true })),
  });
  const wrong = async (voteId: string) => {
    const { verified, checks, difference } = await b.results.verify(b.call, { voteId });
    return { verified, wrong: checks.filter(({ ok }) => !ok).map(({ what }) => what), difference };
  };
  const edited = await begin();
  await change(ballotKey(edited, "a"), (row) => ({ ...row, ballot: { choice: { vote: "blue" }, at: 1 } }));
  expect(await wrong(edited)).toEqual({ verified: false, wrong: ["ballots", "tally"], difference: "ballotsHash" });
  const dropped = await begin();
  await store.transact((tx) => tx.delete(ballotKey(dropped, "b")));
  expect(await wrong(dropped)).toMatchObject({ verified: false, wrong: ["ballots", "end", "tally"] });
  const reworded = await begin();
  await change(voteKey(reworded), (record) => ({ ...record, proposal: "another" }));
  expect(await wrong(reworded)).toEqual({ verified: false, wrong: ["proposal"], difference: undefined });
  const claimed = await begin();
  await change(resultKey(claimed), (result) => ({
    ...result,
    outcome: JSON.parse(JSON.stringify(result.outcome).replaceAll('"red":2', '"red":1')) as Json,
  }));
  expect(await wrong(claimed)).toEqual({ verified: false, wrong: ["tally", "record"], difference: "tally.counts.red" });
});

test("all rows of a vote are forgotten together, a while after its last deadline", async () => {
  verifies("VOTE-03");
  const { process, store, clock } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b"], timeoutMs: MINUTE });
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await clock.advance(DAY);
  await a.work();
  await clock.advance(5 * DAY);
  expect((await a.results.get(a.call, { voteId })).status).toBe("closed");
  await clock.advance(2 * DAY);
  expect(await everything(store)).toBe("");
  expect(await code(a.results.get(a.call, { voteId }))).toBe("not_found"); // though this process remembers it
  expect(await code(a.casting.cast(a.call, { voteId, vote: "no" }))).toBe("not_found");
  expect(await code(process("b").results.get(process("b").call, { voteId }))).toBe("not_found");
});

test("a wait that is cancelled ends at once with the caller's reason, and says meanwhile that it goes on", async () => {
  verifies("VOTE-03");
  const { process, clock } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a"], timeoutMs: 60 * MINUTE });
  const gone = new AbortController();
  const told: number[] = [];
  const waiting = a.results.get(
    a.call,
    { voteId },
    { waitMs: 50_000, signal: gone.signal, onProgress: (ms) => void told.push(ms) },
  );
  waiting.catch(() => {}); // looked at below
  await clock.advance(11_000);
  expect(told).toEqual([5_000, 10_000]);
  gone.abort(new Error("cancelled"));
  await expect(waiting).rejects.toThrow("cancelled");
});

test("what somebody wrote past the servers into an open swarm's store is no participant's ballot", async () => {
  verifies("VOTE-13");
  const { process, store, clock } = swarm();
  const a = process("a");
  const { id: voteId } = await a.votes.initiate(a.call, { proposal: "p", participants: ["a", "b", "c"], timeoutMs: MINUTE });
  await store.transact((tx) => {
    for (const voter of ["stranger", "other"])
      tx.put(ballotKey(voteId, voter), { voter, ballot: { choice: { vote: "yes" }, at: 1 } });
    tx.put(ballotKey(voteId, "b"), { voter: "b", ballot: { choice: { vote: "perhaps" }, at: 1 } });
  });
  await a.casting.cast(a.call, { voteId, vote: "no" });
  await clock.advance(MINUTE);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    tally: { counts: { yes: 0, no: 1 }, turnout: { voted: 1 } },
    invalid: { names: ["b"] },
  });
});
