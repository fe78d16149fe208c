/** PostgreSQL goes away and comes back while agents send, wait and read. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, type ToolAnswer } from "../support/host.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { LOCK_WORDS, Member } from "./crew.ts";
import { size } from "./engines.ts";

const AGENTS = ["ann", "bob", "cat", "dan"];
/** Messages from each agent to each. */
const EACH = size(25, 250);
const ALL = EACH * AGENTS.length * AGENTS.length;
/** Longer than an outage lasts. */
const LEASE_MS = 60_000;
const WAIT_MS = 2_000;
const AN_ANSWER_MS = 120_000;

interface Message {
  from: string;
  payload: number;
}

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server.stop();
});

test("what is sent and read while PostgreSQL restarts and crashes comes once and in order, and who waits goes on waiting", {
  timeout: 600_000,
}, async () => {
  verifies("CORE-09", "CORE-12", "COMM-05", "COMM-11");
  const env = { SWARM_LEASE_MS: String(LEASE_MS) };
  const store = await server.freshDatabase();
  const members = AGENTS.map((agent) => new Member(agent, { server: "agent-comm", store, env }));
  await Promise.all(members.map((member) => member.start()));
  let unavailable = 0;
  let keys = 0;
  /** The first answer that is not `unavailable`; repeated under one key, since the first try may have taken place. */
  const insist = (member: Member, tool: string, args: Record<string, unknown>): Promise<ToolAnswer> => {
    keys += 1;
    const call = { ...args, idempotencyKey: `key-${keys}` };
    return eventually(
      "an answer",
      async () => {
        const answer = await member.try(tool, call);
        expect(answer.text).not.toMatch(LOCK_WORDS);
        if (!answer.isError) return answer;
        expect(answer.text).toMatch(/^unavailable: .*\nThe same call may succeed if you repeat it\.$/s);
        unavailable += 1;
        return undefined;
      },
      AN_ANSWER_MS,
    );
  };

  const got = new Map(AGENTS.map((agent) => [agent, [] as Message[]]));
  const received = () => [...got.values()].reduce((sum, messages) => sum + messages.length, 0);
  const send = async (member: Member) => {
    for (let n = 0; n < EACH; n++) {
      for (const targetAgent of AGENTS) {
        await insist(member, "send_message", { targetAgent, messageType: "note", payload: n, mailbox: true });
      }
    }
  };
  const read = async (member: Member) => {
    const mine = got.get(member.agent) ?? [];
    while (mine.length < EACH * AGENTS.length) {
      const { structured } = await insist(member, "get_messages", { acknowledge: true, waitMs: WAIT_MS, limit: 5 });
      mine.push(...(structured.messages as Message[]));
    }
  };
  const outages = async () => {
    const reached = (part: number) => eventually("progress", () => received() >= part * ALL, AN_ANSWER_MS);
    await reached(0.2);
    await server.restart("fast");
    await reached(0.6);
    await server.restart("crash");
  };
  await Promise.all([outages(), ...members.flatMap((member) => [send(member), read(member)])]);

  for (const [agent, messages] of got) {
    for (const from of AGENTS) {
      const order = messages.filter((message) => message.from === from).map(({ payload }) => payload);
      expect(order, `${from} to ${agent}`).toEqual(Array.from({ length: EACH }, (_, n) => n));
    }
  }
  for (const member of members) {
    expect((await member.try("get_messages")).structured.messages).toEqual([]);
    expect((await member.try("list_dead_letters")).structured.messages).toEqual([]);
    await member.close();
  }
  console.log(`2 outages: ${received()} messages, ${unavailable} times unavailable`);
});
