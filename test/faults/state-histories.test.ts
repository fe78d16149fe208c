/** Values under eight processes that are killed as they work: what was told is there, as if one call at a time were made. */
import { seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host } from "../support/host.ts";
import { checkLinearizable } from "../support/linearizability.ts";
import { stateSpace } from "../support/state-space.ts";
import { Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { Killer } from "./killer.ts";
import {
  callAtRandom,
  compare,
  follow,
  followSubscribed,
  readBack,
  readLog,
  replay,
  resolutions,
  type SpaceCall,
  withValues,
} from "./state-crew.ts";

const server = "shared-state";
const HOSTS = 8;
const CALLS_EACH = size(40, 100);
const ROUNDS = size(1, 12);
const KILLS = size(12, 120);
const SEED = Number(process.env.SWARM_SEED ?? 11_11);

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${KILLS} times kill -9 among ${HOSTS} hosts that write: the history is linearizable and every change was seen once`, {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-11", "STATE-05", "STATE-04", "STATE-07", "CORE-09");
    using meeting = await meet();
    const options = { server, store: meeting.store };
    const members = Array.from({ length: HOSTS }, (_, at) => new Member(`agent-${at}`, options));
    const followers = ["follower", "subscriber"].map((agent) => new Member(agent, options));
    await using reader = await Host.start({ ...options, agent: "reader" });
    await Promise.all([...members, ...followers].map((member) => member.start()));
    const [follower, subscriber] = followers as [Member, Member];
    const outcomes = new Map<string, number>();
    let lost = 0;
    let silent = 0;
    let changesSeen = 0;
    let wholeSeen = 0;
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const seed = SEED + round * 1_000;
        const scopeId = `round-${round}`;
        const killer = new Killer(Math.ceil(KILLS / ROUNDS), seededRandom(seed));
        const history: SpaceCall[] = [];
        let lastRev = Number.POSITIVE_INFINITY;
        const following = (kills: number, of: number) => ({
          killer: new Killer(kills, seededRandom(seed + of)),
          isOver: (rev: number) => rev >= lastRev,
        });
        const seeing = Promise.all([
          follow(follower, scopeId, following(2, 1)),
          followSubscribed(subscriber, scopeId, following(2, 2)),
        ]);
        const working = members.map((member, at) =>
          callAtRandom(member, history, {
            scopeId,
            calls: CALLS_EACH,
            diesFirst: at === 0,
            killer,
            random: seededRandom(seed + 10 + at),
          }),
        );
        await Promise.race([seeing, Promise.all(working)]); // whose failure comes first is told
        const log = await readLog(reader, scopeId);
        lastRev = log.at(-1)?.rev ?? 0;
        const [seen, seenBySubscription] = await seeing;

        const ways = resolutions(history, withValues(log, [seen, seenBySubscription], history));
        let [whole] = ways;
        let verdict = whole && checkLinearizable(whole, stateSpace);
        for (const way of ways.slice(1)) {
          if (verdict?.linearizable) break;
          whole = way;
          verdict = checkLinearizable(way, stateSpace);
        }
        if (!whole) throw new Error(`seed ${seed}: some revision was made by no call`);
        lost += history.length - history.filter(({ output }) => output).length;
        silent += whole.length - history.filter(({ output }) => output).length;
        for (const { input, output } of history) {
          const outcome = `${input.call} ${output === undefined ? "lost" : output.ok ? "ok" : output.code}`;
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }
        const revisions = [...new Set(log.map(({ rev }) => rev))];
        expect(revisions, `seed ${seed}`).toEqual(Array.from({ length: lastRev }, (_, at) => at + 1));
        expect(verdict, `seed ${seed}: ${JSON.stringify(verdict, null, 1).slice(0, 4_000)}`).toEqual({ linearizable: true });

        const states = replay(whole);
        const names = (changes: typeof log) => changes.map(({ rev, key, op, by }) => `${rev} ${op} ${key} by ${by}`);
        expect(names(seen), `seed ${seed}`).toEqual(names(log));
        expect([...new Set(names(seenBySubscription))], `seed ${seed}`).toEqual(names(log));
        for (const changes of [log, seen, seenBySubscription]) expect(compare(changes, states).wrong, `seed ${seed}`).toEqual([]);
        changesSeen += seen.length;
        wholeSeen += compare(seen, states).whole;
        await readBack(reader, scopeId, states);
      }
    } finally {
      await Promise.all([...members, ...followers].map((member) => member.close()));
    }
    expect([lost > 0, silent > 0]).toEqual([true, true]);
    const expected = [
      "get ok",
      "get not_found",
      "set ok",
      "set conflict",
      "increment ok",
      "delete ok",
      "transact ok",
      "append failed_precondition",
    ];
    for (const outcome of expected) expect([...outcomes.keys()], `${SEED}`).toContain(outcome);
    expect(wholeSeen).toBeGreaterThan(changesSeen / 10);
    expect([...members, ...followers].map(({ stderr }) => stderr).join("")).toBe("");
    console.log(
      `${lost} answers lost, ${silent} of them after the change; ${wholeSeen} of ${changesSeen} changes seen with both values`,
    );
  });
});
