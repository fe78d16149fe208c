/** The longest votes that may be: no answer is longer than a model can read, and what was left out is said. */
import { ANSWER_BYTES_MAX, type Tool } from "@mcp-swarm/server";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { ConsensusServer } from "../src/open.ts";
import { tools } from "../src/tools/index.ts";
import { OPTIONS_BYTES_MAX, PROPOSAL_BYTES_MAX } from "../src/vote-record.ts";
import { type Process, swarm } from "./support/swarm.ts";

/** Left for what the server adds to every answer. */
const ENVELOPE_BYTES = 1_000;
const VOTERS = 150;
const OPTIONS = 20;
/** A character that takes six bytes of JSON. */
const WIDE = "\u0001";

const room = (bytes: number, count: number) => Math.floor((bytes - 2 - count * 3) / count / 6);
const options = Array.from({ length: OPTIONS }, (_, n) =>
  String.fromCharCode(97 + n).padEnd(room(OPTIONS_BYTES_MAX, OPTIONS), WIDE),
);
const text = (chars: number) => WIDE.repeat(chars);
const agents = Array.from({ length: VOTERS }, (_, n) => `${"long-name-".repeat(5)}${String(n).padStart(4, "0")}`);

async function answered({ votes, casting, results, call }: Process, name: string, input: Record<string, unknown>) {
  const tool = tools.find((one) => one.name === name) as Tool<ConsensusServer>;
  const domain = { votes, casting, results, close: async () => {} };
  const signal = new AbortController().signal;
  const checked = tool.input.parse(input) as never;
  const answer = await tool.handle(domain, checked, {
    call,
    caller: call.caller,
    signal,
    progress: () => {},
    attach: () => false,
  });
  const bytes = Buffer.byteLength(JSON.stringify(answer));
  expect(bytes, name).toBeLessThanOrEqual(ANSWER_BYTES_MAX - ENVELOPE_BYTES);
  tool.output.parse({ ...answer, caller: { agentId: "a", verified: false } });
  return answer;
}

test.each(["schulze", "star", "instant_runoff", "approval"] as const)("by method %s", { timeout: 60_000 }, async (method) => {
  verifies("CORE-11", "VOTE-13");
  const { process } = swarm({ secured: true });
  const used = method === "instant_runoff" ? options.slice(0, 12) : options;
  const all = agents.map((name) => process(name));
  const [first] = all as [Process];
  const proposal = text(Math.floor((PROPOSAL_BYTES_MAX - 2) / 6));
  const { id: voteId } = await first.votes.initiate(first.call, { proposal, participants: agents, options: used, method });
  for (const [n, one] of all.entries()) {
    if (n % 10 === 9) {
      await one.casting.recuse(one.call, { voteId, reason: text(1_000) });
      continue;
    }
    const rotated = [...used.slice(n % used.length), ...used.slice(0, n % used.length)];
    const scores = Object.fromEntries(rotated.map((option, at) => [option, method === "approval" ? at % 2 : at % 6]));
    const choice = method === "star" || method === "approval" ? { scores } : { ranking: rotated.map((option) => [option]) };
    await one.casting.cast(one.call, { voteId, ...choice, rationale: text(1_000), confidence: 1 });
  }
  await answered(first, "get_vote", { voteId });
  const { result } = await answered(first, "get_result", { voteId });
  expect(result).toMatchObject({ because: "all_voted", recused: { count: VOTERS / 10 } });
  await answered(first, "verify_result", { voteId });
  await answered(first, "list_active_votes", { ended: true });
  const seen: string[] = [];
  let cursor: unknown;
  do {
    const page = await answered(first, "list_ballots", { voteId, limit: 50, ...(cursor === undefined ? {} : { cursor }) });
    seen.push(...(page.ballots as unknown as { voter: string }[]).map(({ voter }) => voter));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  expect(seen).toEqual(agents);
});

test("a long reason, many veto holders and a list of long proposals", async () => {
  verifies("CORE-11");
  const { process } = swarm();
  const first = process(agents[0] ?? "");
  const proposal = text(Math.floor((PROPOSAL_BYTES_MAX - 2) / 6));
  for (let n = 0; n < 60; n++) {
    await first.votes.initiate(first.call, { proposal, participants: agents, vetoHolders: agents.slice(0, 20) });
  }
  const { votes, nextCursor } = await answered(first, "list_active_votes", { limit: 200 });
  expect((votes as unknown[]).length).toBeLessThan(60);
  expect(nextCursor).toBeDefined();
  const [vote] = votes as unknown as { id: string }[];
  await first.votes.cancel(first.call, { voteId: vote?.id ?? "", reason: text(1_000) });
  await answered(first, "get_vote", { voteId: vote?.id });
  await answered(first, "get_result", { voteId: vote?.id });
});
