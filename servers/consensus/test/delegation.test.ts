/** Who votes for another, and who takes no part. */
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { code, names, type Process, swarm } from "./support/swarm.ts";

const MINUTE = 60_000;

async function begin(voters: number, input: Record<string, unknown> = {}) {
  const { process, ...rest } = swarm();
  const all = names(voters, "v").map((name) => process(name));
  const [first] = all as [Process];
  const { id: voteId } = await first.votes.initiate(first.call, {
    ...{ proposal: "p", participants: names(voters, "v"), timeoutMs: MINUTE },
    ...input,
  });
  const by = (n: number) => all[n] as Process;
  const delegate = (from: number, to?: number) =>
    by(from).casting.delegate(by(from).call, { voteId, ...(to === undefined ? {} : { to: names(voters, "v")[to] }) });
  const cast = (n: number, vote: string) => by(n).casting.cast(by(n).call, { voteId, vote });
  const recuse = (n: number) => by(n).casting.recuse(by(n).call, { voteId, reason: "Involved" });
  const outcome = async () => {
    await rest.clock.advance(MINUTE);
    const { result } = await first.results.get(first.call, { voteId });
    expect(await first.results.verify(first.call, { voteId })).toMatchObject({ verified: true });
    return result?.outcome;
  };
  return { ...rest, voteId, by, delegate, cast, recuse, outcome, first };
}

test("a delegated vote counts with the ballot of whom it was given to, also through others", async () => {
  verifies("VOTE-11");
  const { delegate, cast, outcome } = await begin(7);
  await delegate(0, 1);
  await delegate(1, 2);
  await cast(2, "yes");
  await cast(3, "no");
  await cast(4, "no");
  expect(await outcome()).toMatchObject({
    ...{ because: "deadline", delegated: { names: names(7, "v").slice(0, 2) }, notVoted: { names: names(7, "v").slice(5) } },
    tally: { outcome: "accepted", counts: { yes: 3, no: 2 }, turnout: { eligible: 7, voted: 5 } },
  });
});

test("an own ballot overrides a delegation, a delegation may be taken back, and after a ballot there is none to give", async () => {
  verifies("VOTE-11");
  const { delegate, cast, outcome, by, voteId } = await begin(6);
  await delegate(0, 5);
  await delegate(1, 5);
  await delegate(2, 5);
  expect((await by(0).votes.get(by(0).call, { voteId })).own).toBe("delegated");
  await cast(0, "no");
  const [row] = (await by(0).results.ballots(by(0).call, { voteId })).rows;
  expect(row).toMatchObject({ voter: "v-00000", ballot: { choice: { vote: "no" } } });
  expect(row).not.toHaveProperty("delegated");
  await delegate(1);
  await cast(5, "yes");
  expect(await code(delegate(0, 5))).toBe("already_exists");
  expect(await outcome()).toMatchObject({
    delegated: { names: ["v-00002"] },
    tally: { outcome: "accepted", counts: { yes: 2, no: 1 } },
  });
});

test("cycles, chains that are too long and weight beyond the cap abstain; to a non-voter is no vote", async () => {
  verifies("VOTE-11");
  const circle = await begin(4);
  await circle.delegate(0, 1);
  await circle.delegate(1, 0);
  await circle.cast(2, "yes");
  expect(await circle.outcome()).toMatchObject({
    ...{ delegatedInVain: { count: 2 }, tally: { counts: { yes: 1, no: 0 }, turnout: { voted: 3, abstained: 2 } } },
  });
  const chain = await begin(20);
  for (let n = 0; n < 7; n++) await chain.delegate(n, n + 1);
  await chain.cast(7, "yes");
  const { delegated, delegatedInVain } = (await chain.outcome()) ?? {};
  expect(delegated?.names).toEqual(names(20, "v").slice(2, 7)); // at most five steps
  expect(delegatedInVain?.names).toEqual(names(20, "v").slice(0, 2));
  const heavy = await begin(10);
  for (let n = 1; n < 8; n++) await heavy.delegate(n, 0);
  await heavy.cast(0, "yes");
  expect(await heavy.outcome()).toMatchObject({
    delegated: { count: 4 },
    delegatedInVain: { count: 3 },
    tally: { counts: { yes: 5 } },
  });
  const nowhere = await begin(4);
  await nowhere.delegate(0, 1);
  await nowhere.cast(2, "no");
  expect(await nowhere.outcome()).toMatchObject({ notVoted: { count: 3 }, tally: { counts: { yes: 0, no: 1 } } });
});

test("delegations are frozen at the close, and a delegator's vote is open until then", async () => {
  verifies("VOTE-11", "VOTE-09");
  const { delegate, cast, clock, by, voteId, outcome } = await begin(3);
  await delegate(0, 1);
  await cast(1, "yes");
  expect((await by(2).results.get(by(2).call, { voteId })).result).toBeUndefined(); // v0 may still say no
  await clock.advance(MINUTE);
  expect(await code(delegate(0))).toBe("failed_precondition");
  expect(await outcome()).toMatchObject({ tally: { outcome: "accepted", counts: { yes: 2, no: 0 } } });
});

test("a participant recuses itself with a reason, for good, before it has voted; it is no longer counted", async () => {
  verifies("VOTE-11");
  const { cast, recuse, by, voteId, delegate, first } = await begin(4, { method: "absolute" });
  expect(await code(delegate(3, 3))).toBe("invalid_argument");
  expect(await code(by(3).casting.delegate(by(3).call, { voteId, to: "stranger" }))).toBe("invalid_argument");
  await cast(0, "yes");
  expect(await code(recuse(0))).toBe("already_exists");
  await recuse(2);
  expect(await code(cast(2, "no"))).toBe("failed_precondition");
  expect(await code(delegate(2, 0))).toBe("failed_precondition");
  expect(await code(recuse(2))).toBe("failed_precondition");
  await cast(1, "yes"); // two of three
  const { result } = await first.results.get(first.call, { voteId });
  expect(result?.outcome).toMatchObject({
    ...{ because: "decided", recused: { names: ["v-00002"] }, notVoted: { names: ["v-00003"] } },
    tally: { outcome: "accepted", turnout: { eligible: 3 } },
  });
  expect((await first.results.ballots(first.call, { voteId })).rows).toContainEqual(
    expect.objectContaining({ voter: "v-00002", recused: expect.objectContaining({ reason: "Involved" }) }),
  );
});

test("the last one missing may end a vote by recusing itself, and if all do, nothing is decided", async () => {
  verifies("VOTE-11");
  const some = await begin(2, { options: ["x", "y", "z"], method: "schulze" });
  await some.by(0).casting.cast(some.by(0).call, { voteId: some.voteId, ranking: [["x"], ["y"]] });
  await some.recuse(1);
  const { result } = await some.first.results.get(some.first.call, { voteId: some.voteId });
  expect(result?.outcome).toMatchObject({ because: "all_voted", tally: { outcome: "elected", winners: ["x"] } });
  const none = await begin(2);
  await none.recuse(0);
  await none.recuse(1);
  expect(await none.outcome()).toMatchObject({ because: "deadline", recused: { count: 2 }, tally: { winners: [] } });
});

test("chair and veto holders may recuse themselves like any other", async () => {
  verifies("VOTE-11", "VOTE-04");
  const chair = await begin(3, { tieBreak: "chair:v-00000" });
  await chair.recuse(0);
  await chair.cast(1, "yes");
  await chair.cast(2, "no");
  expect(await chair.outcome()).toMatchObject({ tally: { outcome: "tied" } });
  const veto = await begin(3, { vetoHolders: ["v-00000"] });
  await veto.recuse(0);
  await veto.cast(1, "yes");
  await veto.cast(2, "yes");
  expect(await veto.outcome()).toMatchObject({ tally: { outcome: "accepted" } });
});
