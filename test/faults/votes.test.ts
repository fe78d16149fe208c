/** Ballots under kill -9, and from very many processes at once: what was acknowledged counts, once. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host } from "../support/host.ts";
import { HostKilled, LOCK_WORDS, Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { Killer } from "./killer.ts";

const SEED = Number(process.env.SWARM_SEED ?? 20_26);
const KILLS = size(12, 100);
const HOSTS = 8;
const CROWD = 32;
/** Each host casts for so many of its subagents: with them a vote is one of the large ones. */
const CHILDREN = 8;
const VOTES_MAX = size(12, 60);
/** Votes whose deadline comes while all hosts cast. */
const DEADLINES = size(3, 30);
const SHORT_MS = 1_500;
const server = "consensus";
const LONG_MS = 3_600_000;

interface Row {
  voter: string;
  ballot?: { choice: { vote: string } };
}
interface Ballot {
  readonly voteId: string;
  readonly voter: string;
  readonly vote: string;
}

async function rowsOf(store: Store, voteId: string): Promise<Row[]> {
  return (await store.scan(prefixRange(`ballot/${voteId}/`, 1_000))).map(({ value }) => value as unknown as Row);
}

const childrenOf = (agent: string) => Array.from({ length: CHILDREN }, (_, n) => `${agent}/child-${n}`);
const nameOf = (voter: string) => voter.slice(voter.indexOf("/") + 1);

interface Result {
  status: string;
  result: { outcome: string; because: string; counts: { of: string; count: number }[]; turnout: { voted: number } } | null;
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${CROWD} processes cast ${CROWD * CHILDREN} ballots at once: none is lost, none counts twice, and the last one ends the vote`, {
    timeout: 300_000,
  }, async () => {
    verifies("VOTE-14", "VOTE-02", "CORE-08");
    using meeting = await meet();
    const agents = Array.from({ length: CROWD }, (_, n) => `agent-${n}`);
    const env = { SWARM_LEASE_MS: "600000" };
    const hosts = await Promise.all(agents.map((agent) => Host.start({ server, store: meeting.store, agent, env })));
    try {
      const [first] = hosts as [Host];
      const participants = agents.flatMap(childrenOf);
      // one "no" decides it, and else the last "yes"
      const { vote } = await first.call<{ vote: { id: string } }>("initiate_vote", {
        ...{ proposal: "p", participants, method: "unanimity", timeout: LONG_MS },
      });
      const voteId = vote.id;
      const waiting = first.call<Result>("get_result", { voteId, waitMs: 50_000 }, { timeout: 120_000 });
      const answers = await Promise.all(
        hosts.flatMap((host) =>
          // each ballot from two calls at once: one of them is refused
          childrenOf(host.agent ?? "").flatMap((voter) =>
            [1, 2].map(() => host.try("cast_vote", { voteId, vote: "yes", agentId: nameOf(voter) })),
          ),
        ),
      );
      for (const { text } of answers) expect(text).not.toMatch(LOCK_WORDS);
      const refused = answers.filter(({ isError }) => isError);
      for (const { text } of refused) expect(text).toMatch(/^(already_exists|failed_precondition): /);
      const cast = answers.flatMap(({ isError, structured }) =>
        isError ? [] : [(structured.ballot as { voter: string }).voter],
      );
      expect(cast.toSorted()).toEqual(participants.toSorted());
      await waiting;
      const { status, result } = await first.call<Result>("get_result", { voteId, waitMs: 50_000 }, { timeout: 120_000 });
      expect({ status, result }).toMatchObject({
        status: "closed",
        result: { outcome: "accepted", because: "all_voted", turnout: { voted: participants.length } },
      });
      expect(await first.call("verify_result", { voteId })).toMatchObject({ verified: true });
      const store = await openStore(meeting.store);
      expect((await rowsOf(store, voteId)).map(({ voter }) => voter).toSorted()).toEqual(participants.toSorted());
      await store.close();
      expect(hosts.map(({ stderr }) => stderr).join("")).toBe("");
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });

  test(`${DEADLINES} deadlines in the midst of ballots from ${HOSTS} hosts: what was acknowledged counts, what was refused does not`, {
    timeout: 600_000,
  }, async () => {
    verifies("VOTE-10", "VOTE-02", "VOTE-13");
    using meeting = await meet();
    const agents = Array.from({ length: HOSTS }, (_, n) => `agent-${n}`);
    const env = { SWARM_LEASE_MS: "600000", SWARM_DURABILITY: "normal" };
    const hosts = await Promise.all(agents.map((agent) => Host.start({ server, store: meeting.store, agent, env })));
    const participants = agents.flatMap(childrenOf);
    let acknowledged = 0;
    try {
      const [first] = hosts as [Host];
      for (let round = 0; round < DEADLINES; round++) {
        const { vote } = await first.call<{ vote: { id: string } }>("initiate_vote", {
          ...{ proposal: "p", participants, revisable: true, timeout: SHORT_MS },
        });
        const voteId = vote.id;
        const last = new Map<string, string>();
        // each subagent changes its mind again and again, one ballot after the other, until it is told that the vote is closed
        const castUntilClosed = async (host: Host, voter: string, random: Random) => {
          for (;;) {
            const choice = random.integer(2) === 0 ? "yes" : "no";
            const answer = await host.try("cast_vote", { voteId, vote: choice, agentId: nameOf(voter) });
            expect(answer.text).not.toMatch(LOCK_WORDS);
            if (answer.isError) return expect(answer.text).toMatch(/^failed_precondition: The vote is closed/);
            last.set(voter, choice);
            acknowledged += 1;
          }
        };
        const casting = hosts.flatMap((host, n) =>
          childrenOf(host.agent ?? "").map((voter, m) => castUntilClosed(host, voter, seededRandom(SEED + 100 * n + m))),
        );
        const waiting = hosts.map((host) => host.call<Result>("get_result", { voteId, waitMs: 50_000 }, { timeout: 120_000 }));
        const results = await Promise.all(waiting);
        await Promise.all(casting);
        expect(new Set(results.map(({ result }) => JSON.stringify(result))).size).toBe(1);
        const count = (choice: string) => [...last.values()].filter((one) => one === choice).length;
        expect(results[0], `round ${round}, seed ${SEED}`).toMatchObject({
          status: "closed",
          result: {
            because: "deadline",
            counts: [
              { of: "yes", count: count("yes") },
              { of: "no", count: count("no") },
            ],
          },
        });
        expect(await first.call("verify_result", { voteId })).toMatchObject({ verified: true });
      }
      console.log(`${acknowledged} ballots acknowledged around ${DEADLINES} deadlines`);
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });

  test(`${KILLS} times kill -9 among ${HOSTS} voting hosts: each acknowledged ballot counts, and each counts once`, {
    timeout: 900_000,
  }, async () => {
    verifies("VOTE-02", "VOTE-10", "VOTE-13", "CORE-09");
    using meeting = await meet();
    const agents = Array.from({ length: HOSTS }, (_, n) => `agent-${n}`);
    const env = { SWARM_LEASE_MS: "3000" };
    const members = agents.map((agent) => new Member(agent, { server, store: meeting.store, env }));
    const participants = agents.flatMap(childrenOf);
    const killer = new Killer(KILLS, seededRandom(SEED));
    const votes: string[] = [];
    const acknowledged: Ballot[] = [];
    /** What was cut off: it may be there or not. */
    const unknown: Ballot[] = [];
    const wrong = ({ isError, text }: { isError: boolean; text: string }, fine: RegExp) => {
      if (LOCK_WORDS.test(text) || (isError && !fine.test(text))) throw new Error(`seed ${SEED}: ${text}`);
    };

    const castOne = async (member: Member, random: Random, ballot: Ballot) => {
      const { voteId, voter, vote } = ballot;
      unknown.push(ballot);
      const answer = await killer.during(member, () => member.try("cast_vote", { voteId, vote, agentId: nameOf(voter) }));
      unknown.splice(unknown.indexOf(ballot), 1);
      wrong(answer, /^(already_exists|failed_precondition): /);
      if (!answer.isError) acknowledged.push(ballot);
      if (random.integer(4) === 0) wrong(await killer.during(member, () => member.try("get_result", { voteId })), /^$/);
    };
    const voteWhileKilled = async (member: Member, random: Random) => {
      while (killer.left > 0) {
        try {
          if (votes.length === 0 || (votes.length < VOTES_MAX && random.integer(8) === 0)) {
            const began = await killer.during(member, () =>
              member.try("initiate_vote", { proposal: "p", participants, timeout: LONG_MS }),
            );
            wrong(began, /^$/);
            votes.push((began.structured.vote as { id: string }).id);
          }
          const voteId = votes[random.integer(votes.length)] ?? "";
          const voter = childrenOf(member.agent)[random.integer(CHILDREN)] ?? "";
          await castOne(member, random, { voteId, voter, vote: random.integer(2) === 0 ? "yes" : "no" });
        } catch (error) {
          if (!(error instanceof HostKilled)) throw error;
          await member.start();
        }
      }
    };

    try {
      await Promise.all(members.map((member) => member.start()));
      await Promise.all(members.map((member, n) => voteWhileKilled(member, seededRandom(SEED + n + 1))));
      for (const member of members) if (member.pid === -1) await member.start(); // killed with its last answer
      expect(killer.left).toBe(0);
      expect(acknowledged.length).toBeGreaterThan(KILLS);
      // whoever has not voted does, so that each vote ends
      await Promise.all(
        members.map(async (member) => {
          for (const voteId of votes) {
            for (const voter of childrenOf(member.agent)) {
              const answer = await member.try("cast_vote", { voteId, vote: "no", agentId: nameOf(voter) });
              wrong(answer, /^(already_exists|failed_precondition): /);
              if (!answer.isError) acknowledged.push({ voteId, voter, vote: "no" });
            }
          }
        }),
      );
      const store = await openStore(meeting.store);
      const [judge] = members as [Member];
      for (const voteId of votes) {
        const rows = await rowsOf(store, voteId);
        const said = new Map(rows.map(({ voter, ballot }) => [voter, ballot?.choice.vote]));
        const mine = acknowledged.filter((one) => one.voteId === voteId);
        expect(new Set(mine.map(({ voter }) => voter)).size, `one ballot each, seed ${SEED}`).toBe(mine.length);
        for (const { voter, vote } of mine) expect(said.get(voter), `${voter} in ${voteId}, seed ${SEED}`).toBe(vote);
        for (const { voter } of rows) {
          const known = [...mine, ...unknown.filter((one) => one.voteId === voteId)].some((one) => one.voter === voter);
          expect(known, `nobody cast ${voter} in ${voteId}, seed ${SEED}`).toBe(true);
        }
        const { structured } = await judge.try("get_result", { voteId, waitMs: 20_000 });
        const { status, result } = structured as unknown as Result;
        const count = (vote: string) => [...said.values()].filter((one) => one === vote).length;
        expect({ status, counts: result?.counts, voted: result?.turnout.voted }, `seed ${SEED}`).toEqual({
          ...{ status: "closed", voted: rows.length },
          counts: [
            { of: "yes", count: count("yes") },
            { of: "no", count: count("no") },
          ],
        });
        expect((await judge.try("verify_result", { voteId })).structured).toMatchObject({ verified: true });
      }
      await store.close();
      console.log(`${KILLS} kills: ${acknowledged.length} ballots of ${votes.length} votes kept; ${unknown.length} were cut off`);
    } finally {
      await Promise.all(members.map((member) => member.close()));
    }
  });
});
