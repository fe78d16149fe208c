/** Receivers that die of a message, sleep over one, or are gone; senders that go in circles or flood. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, type ToolAnswer } from "../support/host.ts";
import { HostKilled, LOCK_WORDS, Member } from "./crew.ts";
import { ENGINES } from "./engines.ts";

const SERVER = "agent-comm";
const LEASE_MS = 1_500;
const VISIBILITY_MS = 1_000;
const WAIT_MS = 20_000;
/** As the server has them. */
const DELIVERIES_MAX = 5;
const HOPS_MAX = 64;
/** Messages a minute: ten at once, then one in six seconds. */
const SLOW_RATE = { SWARM_MESSAGE_RATE: "10" };
const FLOOD = 40;
const BURST = 10;
const env = { SWARM_LEASE_MS: String(LEASE_MS) };

interface Message {
  id: string;
  from: string;
  deliveries: number;
  payload: unknown;
  hops: number;
}
interface Messages {
  messages: Message[];
}

const start = (store: string, agent: string, more: Record<string, string> = {}) =>
  Host.start({ server: SERVER, store, agent, env: { ...env, ...more } });
const note = (targetAgent: string, payload: unknown = "Hello") => ({ targetAgent, messageType: "note", payload });

describe.each(ENGINES)("$name", ({ meet }) => {
  test.concurrent("a message of which every reader dies is a dead letter after five deliveries; its sender sees it and may send it again", async () => {
    verifies("COMM-06");
    using meeting = await meet();
    await using sender = await start(meeting.store, "sender");
    const victim = new Member("victim", { server: SERVER, store: meeting.store, env });
    await victim.start();
    await victim.try("register_agent", { agentType: "tester", capabilities: [] });
    const { message } = await sender.call<{ message: Message }>("send_message", note("victim", "poison"));
    for (let delivery = 1; delivery <= DELIVERIES_MAX; delivery++) {
      const answer = await victim.try("get_messages", { waitMs: WAIT_MS, visibilityMs: VISIBILITY_MS });
      expect(answer.structured.messages, answer.text).toMatchObject([{ id: message.id, deliveries: delivery }]);
      await victim.kill();
      await expect(victim.try("get_messages")).rejects.toThrow(HostKilled);
      await victim.start();
    }
    // nothing is left for the sixth reader, however long it waits for the fifth one's lease
    await eventually("the message is dead", async () => {
      expect((await victim.try("get_messages", { waitMs: 100 })).structured.messages).toEqual([]);
      const { messages } = await sender.call<Messages>("list_dead_letters", { sent: true });
      return messages.length > 0 ? messages : undefined;
    });
    const dead = { id: message.id, to: "victim", status: "dead", cause: "undelivered", deliveries: DELIVERIES_MAX };
    expect((await sender.call<Messages>("list_dead_letters", { sent: true })).messages).toMatchObject([dead]);
    expect((await victim.try("list_dead_letters")).structured.messages).toMatchObject([dead]);

    const again = await sender.call("redeliver_messages", { messageIds: [message.id] });
    expect(again).toMatchObject({ messages: [{ id: message.id, status: "ready", changed: true }] });
    const { structured } = await victim.try("get_messages", { waitMs: WAIT_MS });
    expect(structured.messages).toMatchObject([{ id: message.id, deliveries: 1, payload: "poison" }]);
    await victim.try("acknowledge_messages", { messageIds: [message.id] });
    expect((await sender.call<Messages>("list_dead_letters", { sent: true })).messages).toEqual([]);
    await victim.close();
  }, 120_000);

  test.concurrent("a reader that sleeps past its time loses the message to another process of its agent, and does no harm when it wakes", async () => {
    verifies("COMM-06");
    using meeting = await meet();
    await using sender = await start(meeting.store, "sender");
    await using sleeper = await start(meeting.store, "reader");
    await using heir = await start(meeting.store, "reader");
    await heir.call("list_agents"); // both processes are there
    await sleeper.call("list_agents");
    for (const late of ["done", "later", "reject"]) {
      const { message } = await sender.call<{ message: Message }>("send_message", note("reader", late));
      const messageIds = [message.id];
      const taken = await sleeper.call<Messages>("get_messages", { visibilityMs: VISIBILITY_MS });
      expect(taken.messages).toMatchObject([{ id: message.id, deliveries: 1 }]);
      process.kill(sleeper.pid, "SIGSTOP");
      const stale = sleeper.try("acknowledge_messages", { messageIds, outcome: late });
      const inherited = await heir.call<Messages>("get_messages", { waitMs: WAIT_MS });
      expect(inherited.messages).toMatchObject([{ id: message.id, deliveries: 2 }]);
      expect(await heir.call("acknowledge_messages", { messageIds })).toMatchObject({
        messages: [{ status: "done", changed: true }],
      });
      process.kill(sleeper.pid, "SIGCONT");
      expect((await stale).structured).toMatchObject({ messages: [{ id: message.id, status: "done", changed: false }] });
      expect((await sleeper.call<Messages>("get_messages")).messages).toEqual([]);
      expect((await heir.call<Messages>("get_messages")).messages).toEqual([]);
      expect((await heir.call<Messages>("list_dead_letters")).messages).toEqual([]);
    }
    // the one who wakes first may say done: the message is dealt with, and the other's word changes nothing
    const { message } = await sender.call<{ message: Message }>("send_message", note("reader", "twice"));
    const messageIds = [message.id];
    await sleeper.call("get_messages", { visibilityMs: VISIBILITY_MS });
    process.kill(sleeper.pid, "SIGSTOP");
    expect((await heir.call<Messages>("get_messages", { waitMs: WAIT_MS })).messages).toMatchObject([{ deliveries: 2 }]);
    process.kill(sleeper.pid, "SIGCONT");
    expect(await sleeper.call("acknowledge_messages", { messageIds })).toMatchObject({
      messages: [{ status: "done", changed: true }],
    });
    expect(await heir.call("acknowledge_messages", { messageIds })).toMatchObject({
      messages: [{ status: "done", changed: false }],
    });
  }, 120_000);

  test.concurrent("an agent is there while one of its processes is; once all are killed it is offline, and only who may be waited for gets messages", async () => {
    verifies("COMM-01", "COMM-03", "COMM-04");
    using meeting = await meet();
    await using watcher = await start(meeting.store, "watcher");
    const [one, two, stranger] = await Promise.all([
      start(meeting.store, "twin"),
      start(meeting.store, "twin"),
      start(meeting.store, "stranger"),
    ]);
    await one.call("register_agent", { agentType: "tester", capabilities: [] });
    await two.call("list_agents");
    await stranger.call("list_agents"); // it never registers
    const health = async (agentId: string) =>
      await watcher.call<{ agent: { online: boolean }; health: { processes: number } }>("get_agent_status", { agentId });
    await eventually("two processes", async () => (await health("twin")).health.processes === 2);
    const sent = async () =>
      await watcher.call<{ delivered: number }>("broadcast_message", { scope: "all", messageType: "note", payload: "All" });
    expect(await sent()).toMatchObject({ delivered: 2, failed: 0 });

    await one.kill();
    await eventually("one process", async () => (await health("twin")).health.processes === 1);
    expect((await health("twin")).agent.online).toBe(true);
    expect(await watcher.call("send_message", note("twin", "to the other"))).toMatchObject({ message: { status: "ready" } });
    const { messages } = await two.call<Messages>("get_messages", { acknowledge: true });
    expect(messages.map(({ payload }) => payload)).toEqual(["All", "to the other"]);

    await two.kill();
    await stranger.kill();
    await eventually("the twin is offline", async () => !(await health("twin")).agent.online);
    await eventually(
      "the stranger is forgotten",
      async () => (await watcher.try("get_agent_status", { agentId: "stranger" })).isError,
    );
    expect(await sent()).toMatchObject({ delivered: 0, failed: 0 });
    expect(await watcher.call("send_message", note("twin", "for later"))).toMatchObject({
      message: { to: "twin", status: "ready" },
    });
    const refused = await watcher.try("send_message", note("stranger"));
    expect(refused.text).toMatch(
      /^failed_precondition: No agent stranger is there, and none has registered under that name\.\n.*mailbox/,
    );
    await watcher.call("send_message", { ...note("stranger", "kept"), mailbox: true });

    await using back = await start(meeting.store, "twin");
    expect((await back.call<Messages>("get_messages")).messages).toMatchObject([{ payload: "for later", deliveries: 1 }]);
    await using again = await start(meeting.store, "stranger");
    expect((await again.call<Messages>("get_messages")).messages.map(({ payload }) => payload)).toEqual(["All", "kept"]);
  }, 120_000);

  test.concurrent("two agents that answer each other without end are stopped, and may go on in a thread of its own", async () => {
    verifies("COMM-12");
    using meeting = await meet();
    await using ping = await start(meeting.store, "ping");
    await using pong = await start(meeting.store, "pong");
    await pong.call("list_agents");
    /** Answers all it gets until it is refused; what it was told then. */
    const answerAll = async (host: Host): Promise<string | undefined> => {
      for (let turn = 0; turn < HOPS_MAX; turn++) {
        const { messages } = await host.call<Messages>("get_messages", { acknowledge: true, waitMs: 3_000 });
        for (const { id, from } of messages) {
          const answer = await host.try("send_message", { ...note(from, "Thank you!"), replyTo: id });
          if (answer.isError) return answer.text;
        }
        if (messages.length === 0) return undefined; // the other was stopped
      }
      return "It was never stopped.";
    };
    await ping.call("send_message", note("pong", "Thank you!"));
    const told = await Promise.all([answerAll(ping), answerAll(pong)]);
    const [refusal, ...rest] = told.filter((text) => text !== undefined);
    expect(rest).toEqual([]);
    expect(refusal).toMatch(
      /^limit_exceeded: This message would be the end of a chain of more than 64 answers to answers\.\nStop answering here\./,
    );
    expect(refusal).not.toContain("Thank you");
    const threads = await ping.call<Messages>("search_messages", { text: "thank you", limit: 25 });
    expect(Math.max(...threads.messages.map(({ hops }) => hops))).toBe(HOPS_MAX);
    expect(await ping.call("send_message", note("pong", "Something new"))).toMatchObject({ message: { hops: 0 } });
  }, 120_000);

  test.concurrent("a flood is refused with the time to wait, for all processes of its agent, and others send as before", async () => {
    verifies("COMM-12");
    using meeting = await meet();
    await using receiver = await start(meeting.store, "receiver");
    await using one = await start(meeting.store, "flood", SLOW_RATE);
    await using two = await start(meeting.store, "flood", SLOW_RATE);
    await using other = await start(meeting.store, "other", SLOW_RATE);
    await receiver.call("list_agents");
    const answers = await Promise.all(
      Array.from({ length: FLOOD }, (_, n) => (n % 2 === 0 ? one : two).try("send_message", note("receiver", n))),
    );
    const [taken, refused] = [answers.filter(({ isError }) => !isError), answers.filter(({ isError }) => isError)];
    // what the rate gives back while they are sent may be one or two more
    expect(taken.length).toBeGreaterThanOrEqual(BURST);
    expect(taken.length).toBeLessThan(BURST * 2);
    for (const { text } of refused) {
      expect(text).toMatch(/^limit_exceeded: You send more than 10 messages a minute\.\nTry again in \d+ ms, .*/);
      expect(text).not.toMatch(LOCK_WORDS);
    }
    expect(await other.call("send_message", note("receiver", "calm"))).toMatchObject({ message: { from: "other" } });
    const child = await one.try("send_message", { ...note("receiver"), agentId: "child" });
    expect(child.text).toMatch(/^limit_exceeded: /); // a subagent has no rate of its own
    const again = await eventually("the flood may go on", async () => {
      const answer: ToolAnswer = await one.try("send_message", note("receiver", "after a while"));
      return answer.isError ? undefined : answer;
    });
    expect(again.structured).toMatchObject({ message: { to: "receiver" } });
    const { messages } = await receiver.call<Messages>("get_messages", { limit: 25 });
    expect(messages.length).toBe(taken.length + 2);
  }, 120_000);
});
