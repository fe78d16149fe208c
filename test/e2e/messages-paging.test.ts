/** Long lists of long and awkward payloads: everything can be read, and no answer is long. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";

/** The bound in tokens; no tokenizer makes more tokens than bytes. */
const ANSWER_BYTES_MAX = 20_000;
const MESSAGES = 60;
const PAGES_MAX = 400;
/** Characters of a payload's text. */
const LONGEST = 30_000;

const fill = (unit: string) => unit.repeat(Math.ceil(LONGEST / unit.length)).slice(0, LONGEST - (LONGEST % unit.length));
const PAYLOADS: readonly unknown[] = [
  fill("任務を実行して結果を報告する。"),
  { text: fill("👩‍👩‍👧‍👦"), more: [1, null, { deep: "x" }] },
  fill('"\\\n\t'),
  fill("\u0001\u001b[31m"),
  Array.from({ length: 500 }, (_, n) => ({ n, note: "結果" })),
  fill("plain English words, one after another, "),
  "short",
  { short: true },
];
const payloadOf = (n: number) => PAYLOADS[n % PAYLOADS.length];
const textOf = (payload: unknown) => (typeof payload === "string" ? payload : JSON.stringify(payload));
const LABEL = "long-name:".repeat(6).slice(0, 60);

interface Message {
  id: string;
  payload: unknown;
  cut?: { missingChars: number; readOn: string };
}
interface Page {
  messages: Message[];
  nextCursor?: string;
}

describe(`${MESSAGES} messages of long payloads`, () => {
  const folder = temporaryFolder();
  let host: Host;
  beforeAll(async () => {
    const env = { SWARM_DURABILITY: "normal", SWARM_LEASE_MS: "600000" };
    host = await Host.start({ server: "agent-comm", store: folder.store, agent: "a", env });
    for (let n = 0; n < MESSAGES; n++) {
      const message = { messageType: LABEL, payload: payloadOf(n), correlationId: "thread", ackWithinMs: 1 };
      await host.call("send_message", { targetAgent: n < MESSAGES / 2 ? "a/rejects" : "a/reads", ...message });
    }
  });
  afterAll(async () => {
    await host.close();
    folder[Symbol.dispose]();
  });

  async function ask<T>(tool: string, args: Record<string, unknown>): Promise<T> {
    const answer = await host.try(tool, args);
    expect(answer.isError, answer.text).toBe(false);
    expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
    return answer.structured as T;
  }

  /** Follows `get_message {…}` to the end of the payload. */
  async function whole({ payload, cut }: Message, agentId: string): Promise<string> {
    let text = textOf(payload);
    if (!cut) return text;
    const [, tool = "", json = "{}"] = /^(\w+) (\{.*\})$/.exec(cut.readOn) ?? [];
    let args: Record<string, unknown> | undefined = { ...(JSON.parse(json) as object), agentId };
    for (let part = 0; part < PAGES_MAX && args !== undefined; part++) {
      const read: { part: { text: string; nextOffset?: number } } = await ask(tool, args);
      expect(read.part.text.isWellFormed()).toBe(true);
      text += read.part.text;
      args = read.part.nextOffset === undefined ? undefined : { ...args, offset: read.part.nextOffset };
    }
    return text;
  }

  async function pages(tool: string, args: Record<string, unknown>): Promise<Message[]> {
    const all: Message[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX; page++) {
      const { messages, nextCursor }: Page = await ask(tool, { ...args, ...(cursor === undefined ? {} : { cursor }) });
      all.push(...messages);
      if (nextCursor === undefined) return all;
      expect(messages.length).toBeGreaterThan(0);
      cursor = nextCursor;
    }
    throw new Error("The list does not end");
  }

  test("are all handed out in order, however many at once, and each payload can be read to its end", async () => {
    verifies("CORE-11", "COMM-05");
    const read: Message[] = [];
    for (const limit of [25, 1, 3, 25]) read.push(...(await ask<Page>("get_messages", { agentId: "reads", limit })).messages);
    expect(read.length).toBe(MESSAGES / 2);
    for (const [n, message] of read.entries()) {
      expect(await whole(message, "reads"), `message ${n}`).toBe(textOf(payloadOf(MESSAGES / 2 + n)));
    }
    expect(read.some(({ cut }) => cut !== undefined)).toBe(true);
  });

  test("are all listed once when they are dead, overdue, in a thread or found by a word", async () => {
    verifies("CORE-11", "COMM-09", "COMM-14");
    const reason = "理由".repeat(250);
    for (let turn = 0; turn < MESSAGES; turn++) {
      const { messages } = await ask<Page>("get_messages", { agentId: "rejects", limit: 25 });
      if (messages.length === 0) break;
      const messageIds = messages.map(({ id }) => id);
      await ask("acknowledge_messages", { agentId: "rejects", messageIds, outcome: "reject", reason });
    }
    await eventually("all are overdue", async () => (await ask<Page>("mark_overdue", { agentId: "reads" })).messages.length > 0);
    const lists: [string, Record<string, unknown>, number][] = [
      ["list_dead_letters", { agentId: "rejects" }, MESSAGES / 2],
      ["list_dead_letters", { sent: true, limit: 15 }, MESSAGES / 2],
      ["mark_overdue", { agentId: "reads", limit: 15 }, MESSAGES / 2],
      ["mark_overdue", { limit: 7 }, MESSAGES / 2],
      ["get_thread", { correlationId: "thread", limit: 25 }, MESSAGES],
      ["search_messages", { text: "plain English", limit: 3 }, Math.floor(MESSAGES / PAYLOADS.length)],
      ["search_messages", { text: "long-name", limit: 25 }, MESSAGES],
    ];
    for (const [tool, args, count] of lists) {
      const ids = (await pages(tool, args)).map(({ id }) => id);
      expect(new Set(ids).size, tool).toBe(ids.length);
      expect(ids.length, `${tool} ${JSON.stringify(args)}`).toBe(count);
    }
  });

  test("agents, topics and subscriptions with all that they may hold stay within the bound too", async () => {
    verifies("CORE-11", "COMM-01", "COMM-07");
    const capabilities = Array.from({ length: 64 }, (_, n) => `${LABEL}${n}`.slice(-64));
    for (let n = 0; n < 30; n++) {
      const text = "任務".repeat(250);
      const metadata = { text: "結果".repeat(600) };
      await ask("register_agent", { agentId: `child-${n}`, agentType: LABEL, capabilities, description: text, metadata });
      await ask("broadcast_message", { scope: "topic", name: `${LABEL}${n}`, messageType: "note", payload: "x" });
    }
    const topics = Array.from({ length: 20 }, (_, n) => `${LABEL}${n}`);
    for (let n = 0; n < 50; n++) await ask("subscribe", { topics, types: [`t${n}`, ...topics.slice(1)] });
    const listed = async (tool: string, field: string) => {
      const ids: string[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < PAGES_MAX; page++) {
        const answer: Record<string, unknown> = await ask(tool, cursor === undefined ? {} : { cursor });
        ids.push(...(answer[field] as { id?: string; name?: string }[]).map(({ id, name }) => id ?? name ?? ""));
        cursor = answer.nextCursor as string | undefined;
        if (cursor === undefined) return ids;
      }
      throw new Error("The list does not end");
    };
    expect(new Set(await listed("list_agents", "agents")).size).toBe(31);
    expect(new Set(await listed("list_topics", "topics")).size).toBe(30);
    await ask("get_agent_status", { agentId: "a/child-3" });
    expect(new Set(await listed("list_subscriptions", "subscriptions")).size).toBe(50);
    expect(await ask("list_subscriptions", { limit: 1 })).toMatchObject({ subscriptions: [{}], total: 50 });
  });
});
