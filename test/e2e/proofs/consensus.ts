import { expect } from "vitest";
import type { Host } from "../../support/host.ts";
import type { ServerProof, ToolCall } from "./proof.ts";

/** Longest option, in UTF-16 units. */
const OPTION_MAX = 200;
/** Votes that nobody ends by chance while a test runs. */
const LONG = { timeout: 3_600_000 };
const SEALED = { ...LONG, sealed: true, revealMs: 3_600_000 };

const BEGIN: ToolCall = ["initiate_vote", { proposal: "@", participants: ["a", "b", "c"], ...LONG }];
const OF_IT = { voteId: "%vote.id" };

export const consensus: ServerProof = {
  setup: [
    ["initiate_vote", { proposal: { what: "Move" }, participants: ["a1", "b", "c"], ...LONG }],
    ["initiate_vote", { proposal: "Hidden", participants: ["a1", "b"], ...SEALED }],
  ],
  story: [
    [
      "initiate_vote",
      { proposal: { what: "Move" }, participants: ["teller", "teller/one", "teller/two", "other", "more"], ...LONG },
    ],
    ["list_active_votes", { mine: true, limit: 1 }],
    ["delegate_vote", { ...OF_IT, agentId: "one", to: "teller" }],
    ["recuse", { ...OF_IT, agentId: "two", reason: "It is mine" }],
    ["cast_vote", { ...OF_IT, vote: "yes", rationale: "It is time", confidence: 900, modelFamily: "a/b" }],
    ["get_vote", OF_IT],
    ["list_ballots", { ...OF_IT, limit: 1 }],
    ["get_result", OF_IT],
    ["cancel_vote", { ...OF_IT, reason: "Later" }],
    ["get_result", OF_IT],
    [
      "initiate_vote",
      {
        ...{ proposal: "Which?", participants: ["teller", "teller/one"], algorithm: "weighted", method: "score", ...SEALED },
        ...{ options: ["red", "blue"], weights: { teller: 3 }, quorum: "1/2", tieBreak: "chair:teller" },
      },
    ],
    ["seal_ballot", { ...OF_IT, choice: { scores: { red: 5, blue: 1 } } }],
    ["cast_vote", { ...OF_IT, commitment: "%commitment" }],
    ["recuse", { ...OF_IT, agentId: "one", reason: "Neither" }],
    ["get_vote", OF_IT],
    ["reveal_vote", { ...OF_IT, opening: "%opening", rationale: "Warm" }],
    ["get_result", { ...OF_IT, waitMs: 10_000 }],
    ["list_ballots", OF_IT],
    ["verify_result", OF_IT],
    ["list_active_votes", { ended: true }],
  ],
  writes: {
    initiate_vote: {
      before: [],
      args: { proposal: { b: "@", a: [2] }, participants: ["a", "b"], ...LONG },
      other: { proposal: { b: "@", a: [3] }, participants: ["a", "b"], ...LONG },
    },
    cast_vote: { before: [BEGIN], args: { ...OF_IT, vote: "yes" }, other: { ...OF_IT, vote: "no" } },
    reveal_vote: {
      before: [
        ["initiate_vote", { proposal: "@", participants: ["a"], ...SEALED }],
        ["seal_ballot", { ...OF_IT, choice: { vote: "yes" } }],
        ["cast_vote", { ...OF_IT, commitment: "%commitment" }],
      ],
      args: { ...OF_IT, opening: "%opening" },
      other: OF_IT,
    },
    delegate_vote: { before: [BEGIN], args: { ...OF_IT, to: "b" }, other: { ...OF_IT, to: "c" } },
    recuse: { before: [BEGIN], args: { ...OF_IT, reason: "Mine" }, other: { ...OF_IT, reason: "Not mine" } },
    cancel_vote: { before: [BEGIN], args: OF_IT, other: { ...OF_IT, reason: "Moot" } },
  },
  hostile: (text, n) => {
    const short = text.slice(0, 60);
    const option = text.slice(0, OPTION_MAX);
    const of = { participants: ["writer", "writer/child", "reader"], ...LONG };
    const options = [option, `other ${n}`];
    return [
      ["writer", "initiate_vote", { proposal: { note: text, [short]: text }, ...of }],
      ["writer", "recuse", { ...OF_IT, agentId: "child", reason: text }],
      ["reader", "list_active_votes", { mine: true }],
      ["reader", "get_vote", OF_IT],
      ["reader", "list_ballots", OF_IT],
      ["writer", "cancel_vote", { ...OF_IT, reason: text }],
      ["reader", "get_vote", OF_IT],
      ["reader", "list_active_votes", { ended: true }],
      ["writer", "initiate_vote", { proposal: text, options, method: "approval", ...of }],
      ["writer", "cast_vote", { ...OF_IT, scores: { [option]: 1 }, rationale: text }],
      ["writer", "cast_vote", { ...OF_IT, agentId: "child", scores: { [option]: 1 }, rationale: text }],
      ["reader", "cast_vote", { ...OF_IT, scores: { [option]: 1 } }],
      ["reader", "get_vote", OF_IT],
      ["reader", "get_result", OF_IT],
      ["reader", "list_ballots", OF_IT],
      ["reader", "verify_result", OF_IT],
      ["writer", "initiate_vote", { proposal: text, options, method: "schulze", ...of, revisable: true }],
      ["writer", "cast_vote", { ...OF_IT, ranking: [[option], [`other ${n}`]], rationale: text }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[`other ${n}`, option]], rationale: text }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[option]], rationale: text }],
      ["reader", "get_vote", OF_IT],
      ["writer", "cancel_vote", { ...OF_IT, reason: text }],
      ["reader", "get_result", OF_IT],
      ["writer", "initiate_vote", { proposal: text, options, ...of, sealed: true, revealMs: 3_600_000 }],
      ["reader", "seal_ballot", { ...OF_IT, choice: { vote: option } }],
      ["reader", "cast_vote", { ...OF_IT, commitment: "%commitment" }],
      ["reader", "get_vote", OF_IT],
      ["reader", "cast_vote", { ...OF_IT, vote: option }],
      ["writer", "cancel_vote", OF_IT],
      ["writer", "initiate_vote", { proposal: text, options, method: "schulze", ...of }],
      // refusals, each with hostile text in what is asked
      ["reader", "cast_vote", { ...OF_IT, vote: option }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[short], [short]] }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[option], [option]] }],
      ["reader", "cast_vote", { ...OF_IT, scores: { [short]: 1 } }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[option]], modelFamily: short }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[option]], signature: text }],
      ["reader", "cast_vote", { ...OF_IT, commitment: short }],
      ["reader", "cast_vote", { ...OF_IT, ranking: [[option]], agentId: short }],
      ["reader", "cast_vote", { voteId: short, vote: "yes" }],
      ["reader", "seal_ballot", { ...OF_IT, choice: { vote: option } }],
      ["reader", "reveal_vote", { ...OF_IT, opening: text }],
      ["reader", "reveal_vote", { ...OF_IT, opening: JSON.stringify({ nonce: "0".repeat(64), vote: option }) }],
      ["reader", "delegate_vote", { ...OF_IT, to: short }],
      ["reader", "recuse", { ...OF_IT, reason: text }],
      ["reader", "cancel_vote", { ...OF_IT, reason: text }],
      ["reader", "verify_result", OF_IT],
      ["reader", "get_result", { voteId: short }],
      ["reader", "list_active_votes", { cursor: short }],
      ["reader", "list_ballots", { ...OF_IT, cursor: short }],
      ["reader", "initiate_vote", { proposal: text, participants: [short] }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], options: [option, option] }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], tieBreak: short }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], threshold: short, method: "supermajority" }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], quorum: short }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], vetoHolders: [short] }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], algorithm: "weighted", weights: { [short]: 2 } }],
      ["reader", "initiate_vote", { proposal: text, participants: ["reader"], method: short }],
      ["writer", "cancel_vote", OF_IT],
    ];
  },
  async roundTrip(writer, reader, mark) {
    const nameOf = async (host: Host) => (await host.call<{ caller: { agentId: string } }>("list_active_votes")).caller.agentId;
    const [initiator, voter] = [await nameOf(writer), await nameOf(reader)];
    const { vote } = await writer.call<{ vote: { id: string } }>("initiate_vote", {
      ...{ proposal: { mark }, participants: [voter], ...LONG },
    });
    const voteId = vote.id;
    expect(await reader.call("get_vote", { voteId })).toMatchObject({ vote: { proposal: { mark }, initiator, you: "to_cast" } });
    await reader.call("cast_vote", { voteId, vote: "yes", rationale: mark });
    expect(await writer.call("get_result", { voteId, waitMs: 10_000 })).toMatchObject({
      ...{ status: "closed", result: { outcome: "accepted", counts: expect.arrayContaining([{ of: "yes", count: 1 }]) } },
    });
    expect(await writer.call("list_ballots", { voteId })).toMatchObject({ ballots: [{ voter, rationale: mark }] });
  },
};
