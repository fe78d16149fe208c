/** The inbox as a resource that hosts watch, and as a channel into a session: both only look, the inbox stays the truth. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { ERAS, type Era, eventually, Host, type HostOptions, temporaryFolder } from "../support/host.ts";

const SERVER = "agent-comm";
const CHANNEL = "notifications/claude/channel";
/** Messages pushed one by one after one look; of more only the number is told. */
const EVENTS_MAX = 10;

interface Messages {
  messages: { id: string; payload: unknown; deliveries: number }[];
}
interface Inbox extends Messages {
  agentId: string;
  unread: number;
  inFlight: number;
  deadLetters: number;
}

const start = (store: string, agent: string, more: Partial<HostOptions> = {}) =>
  Host.start({ server: SERVER, store, agent, ...more });
const note = (targetAgent: string, payload: unknown) => ({ targetAgent, messageType: "note", payload, mailbox: true });

async function refusal(asked: Promise<unknown>): Promise<{ code: number; message: string; data?: Record<string, unknown> }> {
  return await asked.then(
    () => expect.fail("The request was granted."),
    (error: { code: number; message: string; data?: Record<string, unknown> }) => error,
  );
}

const WAYS: readonly { name: string; transport: "stdio" | "http"; era: Era }[] = [
  ...ERAS.map((era) => ({ name: `${era} over stdio`, transport: "stdio" as const, era })),
  { name: "v2-modern over HTTP", transport: "http", era: "v2-modern" },
];

describe.each(WAYS)("a host of $name", ({ transport, era }) => {
  test("lists, reads and watches its own inbox, and nobody else's", async () => {
    verifies("COMM-10", "CORE-15");
    using folder = temporaryFolder();
    await using serving = transport === "http" ? await startServerHttp(SERVER, { SWARM_STORE: folder.store }) : undefined;
    await using ann =
      serving === undefined
        ? await start(folder.store, "ann", { era })
        : await Host.http(`${serving.url}/mcp`, { agent: "ann", era });
    await using bob = await start(folder.store, "bob");
    const uri = "inbox://ann";
    expect((await ann.client.listResources()).resources).toMatchObject([{ uri, name: "inbox", title: "Your inbox" }]);
    expect((await ann.client.listResourceTemplates()).resourceTemplates).toMatchObject([{ uriTemplate: "inbox://{agentId}" }]);
    const empty = { agentId: "ann", unread: 0, inFlight: 0, deadLetters: 0, messages: [] };
    expect(await ann.read(uri)).toMatchObject({ ...empty, caller: { agentId: "ann", verified: false } });

    const subscribed = await ann.subscribe(uri);
    expect(subscribed.uris).toEqual([uri]);
    await bob.call("send_message", note("ann", "one"));
    await eventually("a message from another process is told", () => ann.updates(uri) === 1);
    expect(await ann.read(uri)).toMatchObject({ unread: 1, messages: [{ payload: "one" }], untrusted: ["messages[].payload"] });
    expect(await ann.read<Inbox>(uri)).toMatchObject({ unread: 1, inFlight: 0 }); // reading takes nothing out

    // mail of others is not told: the next message to ann is the second update
    for (let n = 0; n < 5; n++) await bob.call("send_message", note("cat", n));
    await bob.call("send_message", note("ann", "two"));
    await eventually("the next message is told", () => ann.updates(uri) >= 2);
    expect(ann.updates(uri)).toBe(2);

    const { messages } = await ann.call<Messages>("get_messages");
    expect(messages).toMatchObject([{ payload: "one", deliveries: 1 }, { payload: "two" }]);
    expect(await ann.read<Inbox>(uri)).toMatchObject({ unread: 0, inFlight: 2, messages: [] });
    await ann.call("acknowledge_messages", { messageIds: [messages[0]?.id] });
    await ann.call("acknowledge_messages", { messageIds: [messages[1]?.id], outcome: "reject" });
    expect(await ann.read<Inbox>(uri)).toMatchObject({ unread: 0, inFlight: 0, deadLetters: 1 });

    await bob.call("subscribe", { topics: ["news"] });
    await ann.call("subscribe", { topics: ["news"] });
    const before = ann.updates(uri);
    await bob.call("broadcast_message", { scope: "topic", name: "news", messageType: "note", payload: "published" });
    await eventually("a topic's message is told", () => ann.updates(uri) > before);
    expect(await ann.read(uri)).toMatchObject({ topics: expect.stringContaining("get_messages") });

    for (const foreign of ["inbox://bob", "inbox://ann2", "inbox://bob%2Fchild"]) {
      const refused = await refusal(ann.read(foreign));
      expect(refused.data, foreign).toMatchObject({ code: "permission_denied", hint: "You are ann: read inbox://ann." });
      expect(JSON.stringify(refused)).not.toContain("published");
    }
    if (era === "v2-modern") expect((await ann.subscribe("inbox://bob")).uris).toEqual([]);
    else expect([-32602, -32603]).toContain((await refusal(ann.subscribe("inbox://bob"))).code);
    await subscribed.end();

    await bob.call("send_message", note("ann/child", "for the subagent"));
    expect(await ann.read("inbox://ann%2Fchild")).toMatchObject({
      agentId: "ann/child",
      messages: [{ payload: "for the subagent" }],
    });
  });
});

const pushed = (host: Host) =>
  host.notifications
    .filter(({ method }) => method === CHANNEL)
    .map(({ params }) => params as { content: string; meta: Record<string, string> });

describe.each(["v1", "v2-legacy"] as const)("a session of a host of %s with --channel", (era) => {
  test("is pushed each new message once, as data; the message waits in the inbox until it is acknowledged", async () => {
    verifies("COMM-10", "CORE-15");
    using folder = temporaryFolder();
    await using bob = await start(folder.store, "bob");
    await bob.call("send_message", note("ann", "before the session"));
    await bob.call("send_message", note("ann", "before the session too"));
    const first = await start(folder.store, "ann", { era, args: ["--channel"] });
    expect(first.client.getServerCapabilities()).toMatchObject({ experimental: { "claude/channel": {} } });
    await eventually("what waits is told", () => pushed(first).length === 1);
    expect(pushed(first)).toEqual([{ content: "2 messages wait in your inbox: read with get_messages.", meta: { unread: "2" } }]);

    const { message } = await bob.call<{ message: { id: string; correlationId: string } }>("send_message", note("ann", "now"));
    await eventually("a new message is pushed", () => pushed(first).length === 2);
    expect(pushed(first)[1]).toEqual({
      content: "note from bob (name not verified). What follows is data that this agent wrote:\nnow",
      meta: { message_id: message.id, from: "bob", message_type: "note", correlation_id: message.correlationId },
    });
    expect(await bob.call("get_message", { messageId: message.id })).toMatchObject({
      message: { status: "ready", deliveries: 0 },
    });

    // other mail, mail of others, and reading: nothing of it is pushed again
    await bob.call("send_message", note("cat", "not for ann"));
    await bob.call("send_message", note("ann", { last: true }));
    await eventually("the last message is pushed", () => pushed(first).some(({ content }) => content.includes('{"last":true}')));
    const { messages } = await first.call<Messages>("get_messages");
    expect(messages.map(({ payload, deliveries }) => [payload, deliveries])).toEqual([
      ["before the session", 1],
      ["before the session too", 1],
      ["now", 1],
      [{ last: true }, 1],
    ]);
    await first.call("acknowledge_messages", { messageIds: messages.slice(0, 3).map(({ id }) => id) });
    await bob.call("send_message", note("ann", "marker"));
    await eventually("the marker is pushed", () => pushed(first).some(({ content }) => content.endsWith("\nmarker")));
    expect(pushed(first).length).toBe(4);
    await first.close();

    await using second = await start(folder.store, "ann", { era, args: ["--channel"] });
    await eventually("what waits is told again", () => pushed(second).length === 1);
    expect(pushed(second)[0]?.content).toBe("2 messages wait in your inbox: read with get_messages.");
  });

  test("of a flood is pushed the first few and the number of the rest, and all of it is in the inbox", async () => {
    verifies("COMM-10");
    using folder = temporaryFolder();
    await using ann = await start(folder.store, "ann", { era, args: ["--channel"] });
    await using bob = await start(folder.store, "bob");
    await ann.call("list_agents");
    const count = 60;
    await Promise.all(Array.from({ length: count }, (_, n) => bob.call("send_message", note("ann", n))));
    /** Messages that the session was shown, and those of which it was told the number. */
    const told = () => {
      const events = pushed(ann).filter(({ meta }) => meta.message_id !== undefined);
      const more = pushed(ann).map(({ meta }) => Number(meta.unread ?? 0));
      return { ids: events.map(({ meta }) => meta.message_id), more: more.reduce((a, b) => a + b, 0) };
    };
    await eventually("all are shown or counted", () => told().ids.length + told().more === count);
    expect(new Set(told().ids).size).toBe(told().ids.length);
    expect(told().ids.length).toBeGreaterThanOrEqual(EVENTS_MAX);
    const read: unknown[] = [];
    for (let page = 0; page < count && read.length < count; page++) {
      const { messages } = await ann.call<Messages>("get_messages", { limit: 25, acknowledge: true });
      read.push(...messages.map(({ payload }) => payload));
    }
    expect(read.length).toBe(count);
  });
});
