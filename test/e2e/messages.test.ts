/** Messages between processes: who waits is woken, who asks is answered, and a wait that was given up takes nothing. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost, startServerHttp } from "../support/bin.ts";
import { ERAS, eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

const SERVER = "agent-comm";
/** Longer than any test here may take: a wait that ends was woken. */
const WAIT_MS = 50_000;
const TEST_MS_MAX = 40_000;
/** Cancellations that race with the message that is waited for. */
const RACES = process.env.SWARM_TEST_LONG ? 300 : 15;
/** Agents that wait for one broadcast, in so many processes. */
const WAITERS = 50;
const PROCESSES = 5;

interface Message {
  id: string;
  from: string;
  payload: unknown;
  deliveries: number;
}
interface Messages {
  messages: Message[];
}

const note = (targetAgent: string, payload: unknown = "Hello") => ({ targetAgent, messageType: "note", payload });
const ofMany = (hosts: readonly Host[]): AsyncDisposable => ({
  [Symbol.asyncDispose]: async () => void (await Promise.all(hosts.map((host) => host.close()))),
});
const cancel = (id: number) =>
  `${JSON.stringify({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: id } })}\n`;
const waitingRead = (id: number) =>
  `${JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: { name: "get_messages", arguments: { waitMs: WAIT_MS } } })}\n`;

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  const storeOf = async (folder: { store: string }) =>
    engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
  const start = (store: string, agent: string, more: { era?: (typeof ERAS)[number]; env?: Record<string, string> } = {}) =>
    Host.start({ server: SERVER, store, agent, ...more });

  test("a message wakes its receiver in another process, whatever its client, over stdio and HTTP", {
    timeout: TEST_MS_MAX,
  }, async () => {
    verifies("COMM-11", "CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using sender = await start(store, "sender");
    await using serving = await startServerHttp(SERVER, { SWARM_STORE: store });
    const readers = [
      ...(await Promise.all(ERAS.map((era) => start(store, `stdio-${era}`, { era })))),
      ...(await Promise.all(ERAS.map((era) => Host.http(`${serving.url}/mcp`, { era, agent: `http-${era}` })))),
    ];
    await using _ = ofMany(readers);
    for (const reader of readers) {
      const waiting = reader.call<Messages>("get_messages", { waitMs: WAIT_MS });
      await reader.call("list_agents"); // the waiting call is in the server's hands
      await sender.call("send_message", { ...note(reader.agent ?? "", reader.agent), mailbox: true });
      expect((await waiting).messages).toMatchObject([{ from: "sender", payload: reader.agent, deliveries: 1 }]);
    }
  });

  test(`one broadcast wakes ${WAITERS} agents that wait in ${PROCESSES} processes, and a topic its subscribers`, {
    timeout: TEST_MS_MAX,
  }, async () => {
    verifies("COMM-04", "COMM-07", "COMM-11");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using sender = await start(store, "sender", { env: { SWARM_LEASE_MS: "600000" } });
    const hosts = await Promise.all(
      Array.from({ length: PROCESSES }, (_, n) => start(store, `host-${n}`, { env: { SWARM_LEASE_MS: "600000" } })),
    );
    await using _ = ofMany(hosts);
    const agents = Array.from({ length: WAITERS }, (_, n) => ({
      host: hosts[n % PROCESSES] as Host,
      agentId: `child-${Math.floor(n / PROCESSES)}`,
    }));
    for (const { host, agentId } of agents) {
      await host.call("register_agent", { agentId, agentType: "child", capabilities: [] });
    }
    const wait = async () => {
      const waiting = agents.map(({ host, agentId }) =>
        host.call<Messages>("get_messages", { agentId, waitMs: WAIT_MS, acknowledge: true }),
      );
      await Promise.all(hosts.map((host) => host.call("list_agents")));
      return waiting;
    };
    const forAll = await wait();
    const sent = await sender.call("broadcast_message", { scope: "type", name: "child", messageType: "note", payload: "All" });
    expect(sent).toMatchObject({ delivered: WAITERS, failed: 0 });
    for (const { messages } of await Promise.all(forAll)) expect(messages).toMatchObject([{ payload: "All", deliveries: 1 }]);

    for (const { host, agentId } of agents) await host.call("subscribe", { agentId, topics: ["news"] });
    const forTopic = await wait();
    await sender.call("broadcast_message", { scope: "topic", name: "news", messageType: "note", payload: "News" });
    for (const { messages } of await Promise.all(forTopic)) expect(messages).toMatchObject([{ payload: "News", deliveries: 1 }]);
    const rest = await Promise.all(agents.map(({ host, agentId }) => host.call<Messages>("get_messages", { agentId })));
    expect(rest.flatMap(({ messages }) => messages)).toEqual([]);
  });

  test("two agents in two processes ask each other and are answered; what comes too late is in the inbox", {
    timeout: TEST_MS_MAX,
  }, async () => {
    verifies("COMM-08", "COMM-11");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using ann = await start(store, "ann");
    await using bob = await start(store, "bob");
    for (const host of [ann, bob]) await host.call("list_agents");
    for (const [asker, answerer] of [
      [ann, bob],
      [bob, ann],
    ] as const) {
      const ask = (question: string, waitMs: number) =>
        asker.try("request_reply", { targetAgent: answerer.agent, payload: { question }, waitMs });
      const answer = async (payload: string) => {
        const { messages } = await answerer.call<Messages>("get_messages", { waitMs: WAIT_MS, acknowledge: true });
        for (const { id, from } of messages) {
          await answerer.call("send_message", { targetAgent: from, messageType: "answer", payload, replyTo: id });
        }
        return messages;
      };
      const asked = ask("In time?", WAIT_MS);
      expect(await answer("Yes")).toMatchObject([{ from: asker.agent, payload: { question: "In time?" } }]);
      expect((await asked).structured).toMatchObject({ reply: { from: answerer.agent, payload: "Yes", hops: 1 } });
      expect((await asker.call<Messages>("get_messages")).messages).toEqual([]); // the reply is acknowledged

      const missed = await ask("Too late?", 1);
      expect(missed.text).toMatch(
        /^deadline_exceeded: No reply to \S+ came in time\.\nIt was sent, and a late reply comes to your inbox/,
      );
      const [request] = await answer("Yes, sorry");
      const late = await asker.call<Messages>("get_messages", { waitMs: WAIT_MS, acknowledge: true });
      expect(late.messages).toMatchObject([{ from: answerer.agent, payload: "Yes, sorry", replyTo: request?.id }]);
    }
  });

  test("a wait that was cancelled takes nothing: the message is for the next reader, as if it had never been read", {
    timeout: TEST_MS_MAX,
  }, async () => {
    verifies("CORE-10", "COMM-05");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using sender = await start(store, "sender");
    await using other = await start(store, "reader"); // another process of the same agent
    await other.call("list_agents");
    await using raw = new RawHost(SERVER, { SWARM_STORE: store, SWARM_AGENT: "reader" });
    await raw.initialize();
    raw.write(waitingRead(700));
    await raw.callText("list_agents", "{}");
    raw.write(cancel(700));
    await raw.callText("list_agents", "{}"); // answered after the cancellation was read
    await sender.call("send_message", note("reader", "first"));
    await raw.callText("list_agents", "{}");
    expect((await other.call<Messages>("get_messages", { acknowledge: true })).messages).toMatchObject([
      { payload: "first", deliveries: 1 },
    ]);
    expect(raw.messages.filter(({ id }) => id === 700)).toEqual([]);

    for (let race = 0; race < RACES; race++) {
      const call = 1_000 + race;
      raw.write(waitingRead(call));
      await raw.callText("list_agents", "{}");
      const sending = sender.call<{ message: Message }>("send_message", note("reader", race));
      if (race % 3 === 1) await sending;
      for (let turn = 0; turn < race % 5; turn++) await new Promise(setImmediate);
      raw.write(cancel(call));
      const { message } = await sending;
      await raw.callText("list_agents", "{}");
      const told = () => raw.messages.some(({ id, result }) => id === call && result !== undefined && result.isError !== true);
      // either the call was answered with it, or another reader gets its first delivery
      await eventually(`race ${race}: the message is with whoever was answered, or with the next reader`, async () => {
        if (told()) return true;
        const { messages } = await other.call<Messages>("get_messages", { acknowledge: true });
        if (messages.length === 0) return false;
        expect(messages).toMatchObject([{ id: message.id, deliveries: 1 }]);
        return true;
      });
      if (told()) await raw.callText("acknowledge_messages", JSON.stringify({ messageIds: [message.id] }));
    }
    expect((await other.call<Messages>("get_messages")).messages).toEqual([]);
  });

  test.each(["SIGTERM", "end of stdin"])(
    "%s gives back at once what a process was handed and did not acknowledge",
    async (way) => {
      verifies("CORE-07", "COMM-06");
      using folder = temporaryFolder();
      const store = await storeOf(folder);
      const env = { SWARM_LEASE_MS: "600000" }; // so long that only giving back frees anything
      await using sender = await start(store, "sender", { env });
      await using other = await start(store, "reader", { env });
      await other.call("list_agents");
      const raw = new RawHost(SERVER, { SWARM_STORE: store, SWARM_AGENT: "reader", ...env });
      await raw.initialize();
      for (const payload of ["one", "two"]) await sender.call("send_message", note("reader", payload));
      expect((await raw.callText("get_messages", "{}")).result).toMatchObject({
        structuredContent: { messages: [{ payload: "one" }, { payload: "two" }] },
      });
      expect((await other.call<Messages>("get_messages")).messages).toEqual([]);
      const waiting = other.call<Messages>("get_messages", { waitMs: WAIT_MS });
      if (way === "SIGTERM") raw.child.kill("SIGTERM");
      else raw.child.stdin?.end();
      expect((await waiting).messages).toMatchObject([
        { payload: "one", deliveries: 2 },
        { payload: "two", deliveries: 2 },
      ]);
      await raw.end();
      expect(raw.child.exitCode, raw.stderr).toBe(0);
    },
  );
});

test.concurrent.each(ERAS)(
  "with client %s: progress comes while a reader waits, and aborting it ends the wait on the server",
  async (era) => {
    verifies("CORE-10");
    using folder = temporaryFolder();
    await using host = await Host.start({ server: SERVER, store: folder.store, era, agent: "reader" });
    await using other = await Host.start({ server: SERVER, store: folder.store, agent: "reader" });
    const heard: { progress: number; message?: string | undefined }[] = [];
    const stop = new AbortController();
    const outcome = host
      .try("get_messages", { waitMs: WAIT_MS }, { signal: stop.signal, onprogress: (one) => heard.push(one), timeout: WAIT_MS })
      .then(
        () => "answered",
        () => "aborted",
      );
    await eventually("progress is reported", () => heard.length > 0);
    expect(heard[0]).toMatchObject({ progress: 1, message: expect.stringMatching(/^No message yet after \d+ s$/) });
    stop.abort();
    expect(await outcome).toBe("aborted");
    await host.call("send_message", note("reader", "for the next"));
    await host.call("list_agents");
    expect((await other.call<Messages>("get_messages")).messages).toMatchObject([{ payload: "for the next", deliveries: 1 }]);
  },
);
