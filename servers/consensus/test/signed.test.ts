/** Ballots of a secured swarm are signed; byzantine votes stand on that. */
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { ballotPayload } from "../src/signing.ts";
import { ballotKey } from "../src/vote-layer.ts";
import { code, names, type Process, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;

async function begin(voters: number, input: { algorithm?: "byzantine" | "majority" } = {}) {
  const { process, keys, ...rest } = swarm({ secured: true });
  const participants = names(voters);
  const all = participants.map((name) => process(name));
  const [first] = all as [Process];
  const { algorithm = "byzantine" } = input;
  const { id: voteId, hash } = await first.votes.initiate(first.call, {
    proposal: "p",
    participants,
    algorithm,
    timeoutMs: MINUTE,
  });
  const record = { id: voteId, hash };
  /** A ballot that the agent signs where its key is, whatever the server thinks of it. */
  const signedElsewhere = (voter: string, vote: string) =>
    keys.signed(voter, "ballot", ballotPayload({ record, voter }, { vote }, undefined));
  return { ...rest, process, keys, all, participants, voteId, record, signedElsewhere };
}

test.each([
  [4, 3],
  [5, 4],
  [6, 4],
  [7, 5],
  [8, 6],
  [9, 6],
  [10, 7],
  [13, 9],
])("of %i voters %i equal signed ballots decide, and one fewer does not", async (voters, needed) => {
  verifies("VOTE-06", "VOTE-09");
  const { all, voteId, store } = await begin(voters);
  for (const [cast, one] of all.slice(0, needed).entries()) {
    const { result } = await one.results.get(one.call, { voteId });
    expect(result, `after ${cast}`).toBeUndefined();
    expect(await one.casting.cast(one.call, { voteId, vote: "yes" })).toMatchObject({ signed: true });
  }
  const [first] = all as [Process];
  const { result } = await first.results.get(first.call, { voteId });
  expect(result?.outcome).toMatchObject({
    because: "decided",
    tally: { outcome: "accepted" },
    claim: expect.stringMatching(/^Byzantine voters, a trusted tally/),
  });
  expect(result).toMatchObject({ countedBy: expect.any(String), signature: expect.any(String) });
  expect(await first.results.verify(first.call, { voteId })).toMatchObject({
    verified: true,
    checks: expect.arrayContaining([{ what: "signature", ok: true }]),
  });
  expect((await store.get(ballotKey(voteId, "agent-00000")))?.value).toMatchObject({ ballot: { signature: expect.any(String) } });
});

test("two different signed ballots of one voter are kept as proof, and none of them counts", async () => {
  verifies("VOTE-06");
  const { all, process, voteId, store, signedElsewhere } = await begin(4);
  const [a, b, c, d] = all as [Process, Process, Process, Process];
  const liar = "agent-00003";
  const gateway = process("gateway", { holding: [] });
  const asLiar = { ...gateway.call, caller: { ...gateway.call.caller, agentId: liar } };
  await d.casting.cast(d.call, { voteId, vote: "yes" });
  // the same once more is no lie, and a server does not sign a second one for an agent that forgot
  expect(await code(d.casting.cast(d.call, { voteId, vote: "no" }))).toBe("already_exists");
  const again = signedElsewhere(liar, "yes");
  expect(await code(gateway.casting.cast(asLiar, { voteId, vote: "yes", signature: again }))).toBe("already_exists");
  const signature = signedElsewhere(liar, "no");
  expect(await gateway.casting.cast(asLiar, { voteId, vote: "no", signature })).toMatchObject({ recorded: "equivocation" });
  const row = (await store.get(ballotKey(voteId, liar)))?.value as { equivocation: { signatures: string[] } };
  expect(row.equivocation.signatures).toEqual([expect.any(String), signature]);
  expect(await code(d.casting.cast(d.call, { voteId, vote: "yes" }))).toBe("failed_precondition");
  for (const one of [a, b]) await one.casting.cast(one.call, { voteId, vote: "yes" });
  expect((await a.results.get(a.call, { voteId })).result).toBeUndefined(); // without the liar's it is not three
  await c.casting.cast(c.call, { voteId, vote: "yes" });
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ tally: { outcome: "accepted", counts: { yes: 3, no: 0 } }, equivocated: { count: 1, names: [liar] } },
  });
  expect(await a.results.verify(a.call, { voteId })).toMatchObject({ verified: true });
});

test("more liars than the vote can bear decide nothing", async () => {
  verifies("VOTE-06");
  const { all, process, voteId, participants, signedElsewhere } = await begin(4);
  const gateway = process("gateway", { holding: [] });
  for (const liar of participants.slice(0, 2)) {
    const asLiar = { ...gateway.call, caller: { ...gateway.call.caller, agentId: liar } };
    for (const vote of ["yes", "no"]) {
      await gateway.casting.cast(asLiar, { voteId, vote, signature: signedElsewhere(liar, vote) });
    }
  }
  for (const one of all.slice(2)) await code(one.casting.cast(one.call, { voteId, vote: "yes" }));
  const [a] = all as [Process];
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ tally: { outcome: "no_consensus" }, equivocated: { count: 2 } });
});

test("a ballot that nobody signed, or that is signed over something else, is refused in a byzantine vote", async () => {
  verifies("VOTE-06");
  const { process, voteId, keys, record, signedElsewhere } = await begin(4);
  const gateway = process("gateway", { holding: [] });
  const voter = "agent-00001";
  const asVoter = { ...gateway.call, caller: { ...gateway.call.caller, agentId: voter } };
  const cast = (signature?: string) =>
    gateway.casting.cast(asVoter, { voteId, vote: "yes", ...(signature ? { signature } : {}) });
  expect(await code(cast())).toBe("failed_precondition");
  expect(await code(cast(signedElsewhere(voter, "no")))).toBe("unauthenticated");
  expect(await code(cast(signedElsewhere("agent-00002", "yes")))).toBe("unauthenticated");
  expect(await code(cast("no.signature"))).toBe("unauthenticated");
  const payload = ballotPayload({ record, voter }, { vote: "yes" }, undefined);
  expect(await code(cast(keys.signed("agent-00002", "ballot", payload)))).toBe("unauthenticated"); // in the voter's name
  expect(await code(cast(keys.signed(voter, "commitment", payload)))).toBe("unauthenticated");
  expect(await code(cast(keys.signed(voter, "ballot", { ...payload, voteId: "vote-other" })))).toBe("unauthenticated");
  expect(await code(cast(keys.signed(voter, "ballot", { ...payload, confidence: 9 })))).toBe("unauthenticated");
  expect(await cast(keys.signed(voter, "ballot", { ...payload, iat: 1 }))).toMatchObject({ recorded: "cast", signed: true });
});

test("a row that somebody wrote past the server is not counted, and ends no vote early", async () => {
  verifies("VOTE-06", "VOTE-13");
  const { all, voteId, store, clock } = await begin(4);
  const [a, b] = all as [Process, Process];
  const forge = (voter: string, signature?: string) =>
    store.transact((tx) => {
      const ballot = { choice: { vote: "yes" }, at: tx.now, ...(signature === undefined ? {} : { signature }) };
      tx.put(ballotKey(voteId, voter), { voter, ballot });
    });
  await forge("agent-00002");
  await forge("agent-00003", "not.signed");
  await a.casting.cast(a.call, { voteId, vote: "yes" });
  await clock.advance(1_000);
  expect((await a.results.get(a.call, { voteId })).result).toBeUndefined();
  await b.casting.cast(b.call, { voteId, vote: "no" });
  await clock.advance(MINUTE);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ tally: { outcome: "no_consensus", counts: { yes: 1, no: 1 } }, invalid: { names: ["agent-00002", "agent-00003"] } },
  });
  expect(await a.results.verify(a.call, { voteId })).toMatchObject({
    verified: false,
    checks: expect.arrayContaining([{ what: "ballots", ok: false }]),
  });
});

test("all ballots of a secured swarm are signed, whatever the algorithm; one whose key is elsewhere counts unsigned", async () => {
  verifies("VOTE-13");
  const { all, process, voteId } = await begin(3, { algorithm: "majority" });
  const [a, b] = all as [Process, Process];
  const gateway = process("gateway", { holding: [] });
  const asC = { ...gateway.call, caller: { ...gateway.call.caller, agentId: "agent-00002" } };
  expect(await a.casting.cast(a.call, { voteId, vote: "yes", rationale: "Good" })).toMatchObject({ signed: true });
  expect(await gateway.casting.cast(asC, { voteId, vote: "no" })).toMatchObject({ signed: false });
  expect(await b.casting.cast(b.call, { voteId, vote: "yes" })).toMatchObject({ signed: true });
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ tally: { counts: { yes: 2, no: 1 } }, invalid: { count: 0 } });
});

test("in an open swarm a byzantine vote needs trustNames, and its result says what that is worth", async () => {
  verifies("VOTE-06");
  const { process } = swarm();
  const all = names(4).map((name) => process(name));
  const [a, b, c] = all as [Process, Process, Process];
  const input = { proposal: "p", participants: names(4), algorithm: "byzantine" as const };
  expect(await code(a.votes.initiate(a.call, input))).toBe("failed_precondition");
  const { id: voteId } = await a.votes.initiate(a.call, { ...input, trustNames: true });
  for (const one of [a, b, c]) expect(await one.casting.cast(one.call, { voteId, vote: "yes" })).toMatchObject({ signed: false });
  expect(await code(a.casting.cast(a.call, { voteId, vote: "no" }))).toBe("failed_precondition");
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    tally: { outcome: "accepted" },
    claim: expect.stringMatching(/^Names are taken on trust/),
  });
  expect(await code(a.casting.cast(a.call, { voteId, vote: "no", signature: "x.y" }))).toBe("failed_precondition");
});

test("a byzantine vote knows no delegation, no recusal and no revision", async () => {
  verifies("VOTE-06", "VOTE-11");
  const { all, voteId } = await begin(4);
  const [a] = all as [Process];
  expect(await code(a.casting.delegate(a.call, { voteId, to: "agent-00001" }))).toBe("failed_precondition");
  expect(await code(a.casting.recuse(a.call, { voteId, reason: "r" }))).toBe("failed_precondition");
  const revisable = { proposal: "p", participants: names(4), algorithm: "byzantine" as const, revisable: true };
  expect(await code(a.votes.initiate(a.call, revisable))).toBe("invalid_argument");
});

test("sealed byzantine ballots are signed commitments; two different ones are equivocation", async () => {
  verifies("VOTE-06", "VOTE-08");
  const { process, keys, clock } = swarm({ secured: true });
  const all = names(4).map((name) => process(name));
  const [a, b, c, d] = all as [Process, Process, Process, Process];
  const { id: voteId, hash: proposalHash } = await a.votes.initiate(a.call, {
    ...{ proposal: "p", participants: names(4), algorithm: "byzantine", sealed: true, timeoutMs: MINUTE, revealMs: MINUTE },
  });
  for (const one of [a, b, c, d]) {
    const { commitment } = await one.casting.seal(one.call, { voteId, vote: "yes" });
    if (one !== c) await one.casting.cast(one.call, { voteId, commitment });
  }
  const voter = "agent-00003";
  const commitment = "12".repeat(32);
  const signature = keys.signed(voter, "commitment", { voteId, proposalHash, voter, commitment });
  expect(await d.casting.cast(d.call, { voteId, commitment, signature })).toMatchObject({ recorded: "equivocation" });
  const sealed = await c.casting.seal(c.call, { voteId, vote: "yes" });
  await c.casting.cast(c.call, { voteId, commitment: sealed.commitment });
  expect(await code(d.casting.reveal(d.call, { voteId }))).toBe("failed_precondition");
  for (const one of [a, b, c]) await one.casting.reveal(one.call, { voteId });
  await clock.advance(1);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    tally: { outcome: "accepted" },
    equivocated: { names: [voter] },
    invalid: { count: 0 },
  });
});

test("rows that somebody wrote past the servers make no second ballot, no voter, no recusal and no liar", async () => {
  verifies("VOTE-06", "VOTE-13");
  const { all, voteId, store, keys, clock, record } = await begin(5);
  const [a, b, c, d] = all as [Process, Process, Process, Process];
  for (const one of [a, b]) await one.casting.cast(one.call, { voteId, vote: "yes" });
  const put = (key: string, row: Record<string, unknown>) => store.transact((tx) => tx.put(ballotKey(voteId, key), row as never));
  const copied = (await store.get(ballotKey(voteId, "agent-00000")))?.value as Record<string, unknown>;
  await put("copy", copied); // a good ballot once more, elsewhere
  await put("stranger", { voter: "stranger", ballot: { choice: { vote: "yes" }, at: 1 } });
  await put("agent-00002", { voter: "agent-00002", recused: { reason: "r", at: 1 } });
  const same = keys.signed("agent-00003", "ballot", ballotPayload({ record, voter: "agent-00003" }, { vote: "yes" }, undefined));
  await put("agent-00003", { voter: "agent-00003", equivocation: { signatures: [same, same], at: 1 } });
  const inItsName = keys.signed(
    "agent-00003",
    "ballot",
    ballotPayload({ record, voter: "agent-00004" }, { vote: "yes" }, undefined),
  );
  await put("agent-00004", { voter: "agent-00004", ballot: { choice: { vote: "yes" }, at: 1, signature: inItsName } });
  for (const one of [c, d]) await code(one.casting.cast(one.call, { voteId, vote: "yes" }));
  await clock.advance(MINUTE);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ tally: { outcome: "no_consensus", counts: { yes: 2, no: 0 }, turnout: { eligible: 5 } }, equivocated: { count: 0 } },
    invalid: { names: ["agent-00003", "agent-00004", "stranger"] },
  });
});

test("a proof of equivocation from another vote is none", async () => {
  verifies("VOTE-06");
  const { voteId, store, keys, clock, record, all } = await begin(4);
  const [a] = all as [Process];
  const voter = "agent-00001";
  const said = (of: { id: string; hash: string }, vote: string) =>
    keys.signed(voter, "ballot", ballotPayload({ record: of, voter }, { vote }, undefined));
  const signatures = [said(record, "yes"), said({ ...record, id: "vote-other" }, "no")];
  await store.transact((tx) => tx.put(ballotKey(voteId, voter), { voter, equivocation: { signatures, at: tx.now } }));
  await clock.advance(MINUTE);
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ equivocated: { count: 0 }, invalid: { names: [voter] } });
});

test("a lie that is found between the last look and the early end calls the end off", async () => {
  verifies("VOTE-06", "VOTE-09");
  const { all, process, voteId, store, signedElsewhere } = await begin(4);
  const [a, b, , d] = all as [Process, Process, Process, Process];
  for (const one of [a, b]) await one.casting.cast(one.call, { voteId, vote: "yes" });
  const gateway = process("gateway", { holding: [] });
  const liar = "agent-00000";
  const asLiar = { ...gateway.call, caller: { ...gateway.call.caller, agentId: liar } };
  let writes = 0;
  const between: typeof store = Object.assign(Object.create(store) as typeof store, {
    transact: async (plan: Parameters<typeof store.transact>[0]) => {
      writes += 1;
      // the first is the ballot that decides, the second the end
      if (writes === 2) await gateway.casting.cast(asLiar, { voteId, vote: "no", signature: signedElsewhere(liar, "no") });
      return store.transact(plan);
    },
    get: (key: string) => store.get(key),
    getMany: (keys: readonly string[]) => store.getMany(keys),
    scan: (range: Parameters<typeof store.scan>[0]) => store.scan(range),
    now: () => store.now(),
  });
  const third = process("agent-00002", { store: between });
  await third.casting.cast(third.call, { voteId, vote: "yes" });
  expect(writes).toBeGreaterThanOrEqual(2);
  expect(third.errors).toEqual([]);
  expect((await a.results.get(a.call, { voteId })).result).toBeUndefined();
  await d.casting.cast(d.call, { voteId, vote: "yes" });
  const { result } = await a.results.get(a.call, { voteId });
  expect(result?.outcome).toMatchObject({ tally: { outcome: "accepted" }, equivocated: { names: [liar] } });
});
