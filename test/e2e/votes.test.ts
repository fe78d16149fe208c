/** Votes between real processes: cast through any of them, ended by whoever looks, told to whom it concerns. */
import { openStore } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { lookInto } from "../support/content.ts";
import { ERAS, type Era, eventually, Host } from "../support/host.ts";

const server = "consensus";
const WAIT_MS = 50_000;

interface Result {
  status: string;
  result: { outcome: string; winners: string[]; because: string; counts: { of: string; count: number }[]; hash: string } | null;
}
type Begun = { vote: { id: string; closesAt: number; told: number } };

async function begin(host: Host, participants: readonly string[], more: Record<string, unknown> = {}): Promise<string> {
  const { vote } = await host.call<Begun>("initiate_vote", { proposal: { what: "Move" }, participants, ...more });
  return vote.id;
}

describe.each(ENGINES)("votes on $name", ({ meet }) => {
  test("agents of every era vote through processes of their own; all are told the one result, which each can compute again", async () => {
    verifies("VOTE-01", "VOTE-02", "VOTE-03", "VOTE-09", "VOTE-13");
    using meeting = await meet();
    const hosts = await Promise.all(ERAS.map((era) => Host.start({ server, store: meeting.store, era, agent: era })));
    try {
      const [first, second, third] = hosts as [Host, Host, Host];
      const voteId = await begin(first, [...ERAS], { options: ["red", "blue"], method: "plurality" });
      for (const host of hosts) {
        expect(await host.call("list_active_votes", { mine: true })).toMatchObject({ votes: [{ id: voteId, you: "to_cast" }] });
      }
      const waiting = hosts.map((host) => host.call<Result>("get_result", { voteId, waitMs: WAIT_MS }));
      await first.call("cast_vote", { voteId, vote: "red", rationale: "Warm", confidence: 900, modelFamily: "one" });
      expect((await second.try("cast_vote", { voteId, vote: "green" })).text).toMatch(/^invalid_argument: /);
      await second.call("cast_vote", { voteId, vote: "red" });
      const results = await Promise.all(waiting);
      expect(results[0]).toMatchObject({
        status: "closed",
        result: {
          outcome: "elected",
          winners: ["red"],
          because: "decided",
          counts: [
            { of: "red", count: 2 },
            { of: "blue", count: 0 },
          ],
        },
      });
      expect(new Set(results.map(({ result }) => result?.hash)).size).toBe(1);
      expect((await third.try("cast_vote", { voteId, vote: "blue" })).text).toMatch(/^failed_precondition: The vote is closed/);
      for (const host of hosts) expect(await host.call("verify_result", { voteId })).toMatchObject({ verified: true });
      expect(await third.call("list_ballots", { voteId })).toMatchObject({
        ballots: expect.arrayContaining([
          expect.objectContaining({ voter: "v1", choice: { vote: "red", confidence: 900, modelFamily: "one" } }),
        ]),
      });
      expect(await first.call("list_active_votes")).toMatchObject({ votes: [] });
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });

  test("a vote whose deadline passes while no process lives ends then: late ballots are refused, earlier ones count", async () => {
    verifies("VOTE-10", "VOTE-02");
    using meeting = await meet();
    let voteId = "";
    {
      await using early = await Host.start({ server, store: meeting.store, agent: "early" });
      voteId = await begin(early, ["early", "late", "never"], { timeout: 3_000 });
      await early.call("cast_vote", { voteId, vote: "no" });
    }
    const store = await openStore(meeting.store);
    const record = (await store.scan({ from: "vote/", before: "vote0", limit: 2 }))[0]?.value as { closesAt: number };
    await eventually("the deadline is over", async () => (await store.now()) >= record.closesAt);
    expect(await store.scan({ from: "vote-result/", before: "vote-result0", limit: 1 })).toEqual([]);
    await store.close();
    await using late = await Host.start({ server, store: meeting.store, agent: "late" });
    expect((await late.try("cast_vote", { voteId, vote: "yes" })).text).toMatch(/^failed_precondition: The vote is closed/);
    expect(await late.call("get_result", { voteId })).toMatchObject({
      ...{
        status: "closed",
        result: { outcome: "rejected", because: "deadline", closedAt: expect.any(Number), notVoted: { count: 2 } },
      },
    });
  });

  test("a vote that nobody asks about is ended by any process that lives", async () => {
    verifies("VOTE-10");
    using meeting = await meet();
    await using idle = await Host.start({ server, store: meeting.store, agent: "idle" });
    await begin(idle, ["other"], { timeout: 1_000 });
    await using look = await lookInto(meeting.store);
    await eventually("somebody counts", async () => {
      return (await look.store.scan({ from: "vote-result/", before: "vote-result0", limit: 1 })).length === 1;
    });
  });

  test("sealed choices are in no row until they are revealed, and a process that starts anew reveals with the opening", async () => {
    verifies("VOTE-08");
    using meeting = await meet();
    await using look = await lookInto(meeting.store);
    await using a = await Host.start({ server, store: meeting.store, agent: "a" });
    const b = await Host.start({ server, store: meeting.store, agent: "b" });
    const voteId = await begin(a, ["a", "b"], { options: ["crimson", "azure"], sealed: true, revealMs: 600_000 });
    const seal = (host: Host) =>
      host.call<{ commitment: string; opening: string }>("seal_ballot", { voteId, choice: { vote: "azure", confidence: 987 } });
    for (const host of [a, b]) {
      const plain = await host.try("cast_vote", { voteId, vote: "azure", confidence: 987, idempotencyKey: "k" });
      expect(plain.text).toMatch(/^failed_precondition: This vote is sealed/);
    }
    const [byA, byB] = [await seal(a), await seal(b)];
    await a.call("cast_vote", { voteId, commitment: byA.commitment, idempotencyKey: "k" });
    await b.call("cast_vote", { voteId, commitment: byB.commitment });
    const rows = (await look.content()).filter(({ key }) => !key.startsWith("vote/"));
    expect(JSON.stringify(rows)).not.toMatch(/azure|confidence|nonce/);
    await b.kill();
    await using again = await Host.start({ server, store: meeting.store, agent: "b" });
    expect((await again.try("reveal_vote", { voteId })).text).toMatch(/^invalid_argument: .*opens your commitment/);
    expect(await a.call("reveal_vote", { voteId })).toMatchObject({ ballot: { recorded: "revealed" } });
    expect(JSON.stringify(await again.call("list_ballots", { voteId }))).not.toMatch(/azure|confidence|nonce/);
    await again.call("reveal_vote", { voteId, opening: byB.opening, rationale: "Calm" });
    expect(await a.call("get_result", { voteId, waitMs: WAIT_MS })).toMatchObject({
      ...{ status: "closed", result: { winners: ["azure"], because: "all_revealed" } },
    });
    expect(a.stderr + again.stderr + b.stderr).not.toMatch(/azure|confidence/);
  });

  test("participants who use messages are told once that a vote began and how it ended; others are not", async () => {
    verifies("VOTE-03");
    using meeting = await meet();
    await using a = await Host.start({ server, store: meeting.store, agent: "a" });
    await using b = await Host.start({ server, store: meeting.store, agent: "b" });
    await using inbox = await Host.start({ server: "agent-comm", store: meeting.store, agent: "b" });
    await using outside = await Host.start({ server: "agent-comm", store: meeting.store, agent: "outside" });
    for (const host of [inbox, outside]) await host.call("register_agent", { agentType: "tester", capabilities: [] });
    const { vote } = await a.call<Begun>("initiate_vote", { proposal: "p", participants: ["a", "b", "c"] });
    expect(vote.told).toBe(1);
    const [voteId, read] = [vote.id, { acknowledge: true, waitMs: 20_000 }];
    expect(await inbox.call("get_messages", read)).toMatchObject({
      messages: [{ from: "a", messageType: "vote", payload: { event: "vote_began", voteId, algorithm: "majority" } }],
    });
    await a.call("cast_vote", { voteId, vote: "yes" });
    // both look at once
    await Promise.all([b.call("cast_vote", { voteId, vote: "yes" }), a.call("get_result", { voteId, waitMs: WAIT_MS })]);
    expect(await inbox.call("get_messages", read)).toMatchObject({
      messages: [{ payload: { event: "vote_ended", voteId, because: "decided", outcome: "accepted", winners: ["yes"] } }],
    });
    const cancelled = await begin(a, ["b"]);
    await a.call("cancel_vote", { voteId: cancelled });
    expect(await inbox.call("get_messages", { ...read, limit: 10 })).toMatchObject({
      messages: [
        { payload: { event: "vote_began", voteId: cancelled } },
        { payload: { event: "vote_ended", voteId: cancelled, because: "cancelled" } },
      ],
    });
    expect(await inbox.call("get_messages", {})).toMatchObject({ messages: [] });
    expect(await outside.call("get_messages", {})).toMatchObject({ messages: [] });
  });
});

const WAYS: readonly { name: string; transport: "stdio" | "http"; era: Era }[] = [
  ...ERAS.map((era) => ({ name: `${era} over stdio`, transport: "stdio" as const, era })),
  { name: "v2-modern over HTTP", transport: "http", era: "v2-modern" },
];

describe.each(WAYS)("a host of $name", ({ transport, era }) => {
  test("lists and reads votes as resources and is told when one changes and ends", async () => {
    verifies("VOTE-03");
    using meeting = await (ENGINES[0] as (typeof ENGINES)[number]).meet();
    const serving = transport === "http" ? await startServerHttp(server, { SWARM_STORE: meeting.store }) : undefined;
    const watcher = serving
      ? await Host.http(`${serving.url}/mcp`, { agent: "watcher", era })
      : await Host.start({ server, store: meeting.store, agent: "watcher", era });
    const voter = await Host.start({ server, store: meeting.store, agent: "voter" });
    try {
      const voteId = await begin(voter, ["voter", "watcher"]);
      const uri = `vote://${voteId}`;
      const { resources } = await watcher.client.listResources();
      expect(resources.map((one) => one.uri)).toEqual([uri]);
      expect(await watcher.read(uri)).toMatchObject({
        vote: { status: "open", settled: 0, waitingFor: ["voter", "watcher"], you: "to_cast" },
      });
      await watcher.subscribe(uri);
      await voter.call("cast_vote", { voteId, vote: "yes" });
      await eventually("the ballot is told", () => watcher.updates(uri) >= 1);
      expect(await watcher.read(uri)).toMatchObject({ vote: { settled: 1, waitingFor: ["watcher"] } });
      const before = watcher.updates(uri);
      await watcher.call("cast_vote", { voteId, vote: "yes" });
      await eventually("the end is told", () => watcher.updates(uri) > before);
      await eventually("it is closed", async () => {
        const { vote } = await watcher.read<{ vote: { status: string; outcome?: string } }>(uri);
        return vote.status === "closed" && vote.outcome === "accepted";
      });
      await expect(watcher.read("vote://vote-none")).rejects.toThrow();
    } finally {
      await Promise.all([watcher.close(), voter.close()]);
      await serving?.stop();
    }
  });
});
