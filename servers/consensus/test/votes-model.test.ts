/**
 * Random programs of several processes against a model that is a few lines: whatever they do, in whatever order, the vote ends as the
 * model says, once, and the result can be computed again.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { resultKey } from "../src/vote-layer.ts";
import { code, names, type Process, swarm } from "./support/swarm.ts";

const VOTERS = 5;
const RUNS = process.env.SWARM_TEST_LONG ? 2_000 : 150;
const TIMEOUT_MS = 60_000;
const REVEAL_MS = 30_000;

type Act =
  | { kind: "cast"; voter: number; vote: "yes" | "no" | "abstain" }
  | { kind: "delegate"; voter: number; to: number }
  | { kind: "recuse"; voter: number }
  | { kind: "reveal"; voter: number }
  | { kind: "read"; voter: number }
  | { kind: "work"; voter: number }
  | { kind: "pass"; ms: number };

const voter = fc.nat(VOTERS - 1);
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("cast" as const), voter, vote: fc.constantFrom("yes", "no", "abstain") }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delegate" as const), voter, to: voter }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("recuse" as const), voter }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("reveal" as const), voter }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("read" as const), voter }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("work" as const), voter }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 40_000 }) }) },
);
const setting = fc.record({ sealed: fc.boolean(), revisable: fc.boolean(), atOnce: fc.boolean() });

/** What the model knows of a participant. */
interface Said {
  vote?: string;
  revealed?: boolean;
  recused?: boolean;
  to?: number;
}

/** Whose ballot counts for a participant in the end: its own, or the first on the way of its delegations; undefined without one. */
function speaks(said: readonly Said[], from: number): number | "circle" | undefined {
  const met = new Set<number>();
  let at = from;
  while (said[at]?.vote === undefined) {
    const next = said[at]?.to;
    if (next === undefined || said[next]?.recused) return undefined;
    met.add(at);
    if (met.has(next)) return "circle";
    at = next;
  }
  return at;
}

test(`in ${RUNS} random programs of ${VOTERS} processes each vote has the one result that its ballots have`, async () => {
  verifies("VOTE-02", "VOTE-09", "VOTE-10", "VOTE-13");
  const outcomes = new Map<string, number>();
  await fc.assert(
    fc.asyncProperty(setting, fc.array(act, { maxLength: 30 }), async ({ sealed, revisable, atOnce }, acts) => {
      const { process, store, clock } = swarm();
      const participants = names(VOTERS, "v");
      const all = participants.map((name) => process(name));
      const [first] = all as [Process];
      const begun = await first.votes.initiate(first.call, {
        ...{ proposal: "p", participants, timeoutMs: TIMEOUT_MS },
        ...(sealed ? { sealed, revealMs: REVEAL_MS } : {}),
        ...(revisable ? { revisable } : {}),
      });
      const voteId = begun.id;
      const said: Said[] = participants.map(() => ({}));
      /** What the store says happened; the model takes over what was acknowledged, and checks that nothing else was. */
      const run = async (one: Act) => {
        if (one.kind === "pass") return clock.advance(one.ms);
        const by = all[one.voter] as Process;
        const mine = said[one.voter] as Said;
        const before = { ...mine };
        switch (one.kind) {
          case "cast": {
            const { vote } = one;
            const cast = async () => {
              if (!sealed) return by.casting.cast(by.call, { voteId, vote });
              return by.casting.cast(by.call, {
                voteId,
                commitment: (await by.casting.seal(by.call, { voteId, vote })).commitment,
              });
            };
            const answer = await code(cast());
            if (answer !== "ok") return expect(answer).toMatch(/^(already_exists|failed_precondition)$/);
            expect(before.recused).toBeUndefined();
            if (!revisable) expect(before.vote).toBeUndefined();
            mine.vote = vote;
            delete mine.to;
            return;
          }
          case "delegate": {
            const answer = await code(by.casting.delegate(by.call, { voteId, to: participants[one.to] }));
            if (answer === "ok") mine.to = one.to;
            return;
          }
          case "recuse": {
            if ((await code(by.casting.recuse(by.call, { voteId, reason: "r" }))) !== "ok") return;
            expect(before.vote).toBeUndefined();
            mine.recused = true;
            delete mine.to;
            return;
          }
          case "reveal": {
            if ((await code(by.casting.reveal(by.call, { voteId }))) !== "ok") return;
            expect([sealed, before.vote !== undefined, before.revealed]).toEqual([true, true, undefined]);
            mine.revealed = true;
            return;
          }
          case "read":
            return void (await by.results.get(by.call, { voteId }));
          case "work":
            return void (await by.work());
        }
      };
      if (atOnce && !revisable) await Promise.all(acts.filter(({ kind }) => kind !== "pass").map(run));
      else for (const one of acts) await run(one);

      await clock.advance(TIMEOUT_MS);
      await first.results.get(first.call, { voteId });
      await clock.advance(REVEAL_MS);
      const { result } = await first.results.get(first.call, { voteId });
      const rev = (await store.get(resultKey(voteId)))?.rev;
      for (const one of all) expect((await one.results.get(one.call, { voteId })).result).toEqual(result);
      expect((await store.get(resultKey(voteId)))?.rev).toBe(rev);
      expect(await first.results.verify(first.call, { voteId })).toMatchObject({ verified: true });
      expect(all.flatMap(({ errors }) => errors)).toEqual([]);

      // by hand
      const counts: Record<string, number> = { yes: 0, no: 0, abstain: 0 };
      for (const [index, { recused }] of said.entries()) {
        const by = recused ? undefined : speaks(said, index);
        if (typeof by !== "number") continue;
        const { vote = "abstain", revealed } = said[by] as Said;
        const counted = sealed && !revealed ? "abstain" : vote;
        counts[counted] = (counts[counted] ?? 0) + 1;
      }
      const tally = result?.outcome.tally;
      outcomes.set(tally?.outcome ?? "none", (outcomes.get(tally?.outcome ?? "none") ?? 0) + 1);
      // who is carried when a delegation leads in a circle or to too much weight has a proof of its own
      if (result?.outcome.delegatedInVain.count === 0) {
        expect(tally?.counts).toEqual({ yes: counts.yes, no: counts.no });
        expect(tally?.turnout.abstained).toBe(counts.abstain);
      }
      expect(tally?.turnout.eligible).toBe(said.filter(({ recused }) => !recused).length);
      expect(result?.outcome.recused.count).toBe(said.filter(({ recused }) => recused).length);
    }),
    { numRuns: RUNS },
  );
  expect(outcomes.size).toBeGreaterThan(2);
});
