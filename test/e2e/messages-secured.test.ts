/** Messages between real processes of a secured swarm: proven senders, payloads that only their receiver reads, and senders in quarantine. */
import { DatabaseSync } from "node:sqlite";
import { issueToken, readKeyFile } from "@mcp-swarm/identity/trust";
import { prefixRange, SCAN_LIMIT_MAX } from "@mcp-swarm/store";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { eventually, Host } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

const SERVER = "agent-comm";
const SECRET = { text: "the moonstone lies under the oak", at: [3, 4] };
const WAIT_MS = 50_000;

type Message = { id: string; payload: unknown; from: string; verified: boolean; deliveries?: number; encrypted?: boolean };
type Part = { part: { text: string; nextOffset?: number } };
type Messages = { messages: (Message & { unopened?: string })[]; damaged?: string[] };

const note = (targetAgent: string, payload: unknown, more: object = {}) => ({
  ...{ targetAgent, messageType: "note", payload, mailbox: true },
  ...more,
});

const payloadsOf = ({ messages }: Messages) => messages.map(({ payload }) => payload);

/** All that lies in the store, as whoever has the file or the database sees it. */
async function everything({ store }: SecuredSwarm): Promise<string> {
  const rows = await store.snapshot(async (view) => {
    const texts: string[] = [];
    for (const namespace of await view.namespaces()) {
      texts.push(JSON.stringify(await view.scan(prefixRange(`${namespace}/`, SCAN_LIMIT_MAX))));
    }
    return texts;
  });
  return rows.join("\n");
}

/** Changes a row's bytes behind the store's back. */
async function damage(url: string, namespace: string, key: string): Promise<void> {
  const sql = `UPDATE keyv SET value = replace(value, 'hurt', 'hirt'), rev = rev - 1 WHERE namespace = '${namespace}' AND key = '${key}'`;
  if (url.startsWith("sqlite:")) {
    const db = new DatabaseSync(url.slice("sqlite:".length), { timeout: 10_000 });
    db.exec(sql);
    db.close();
    return;
  }
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(sql);
  await client.end();
}

describe.each(ENGINES)("messages of a secured swarm on $name", ({ meet }) => {
  test("say that their sender is proven, and what is encrypted is read by its receiver alone", async () => {
    verifies("SEC-10", "COMM-12", "CORE-15");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "bob", "eve"]) await swarm.enroll(agent);
    await using ann = await swarm.host("ann", { server: SERVER });
    await using bob = await swarm.host("bob", { server: SERVER, era: "v1" });
    const send = (more: object) => ann.call<{ message: { id: string } }>("send_message", note("bob", SECRET, more));
    const { message: sealed } = await send({ encrypt: true, correlationId: "job" });
    const { messages } = await bob.call<Messages>("get_messages", { waitMs: 5_000 });
    expect(messages).toMatchObject([{ id: sealed.id, from: "ann", verified: true, encrypted: true, payload: SECRET }]);
    const whole = { message: { payload: SECRET, encrypted: true, verified: true } };
    for (const reader of [ann, bob]) {
      expect(await reader.call("get_message", { messageId: sealed.id })).toMatchObject(whole);
      expect(payloadsOf(await reader.call("get_thread", { correlationId: "job" }))).toEqual([SECRET]);
    }
    expect(await bob.call("search_messages", { text: "moonstone" })).toMatchObject({ messages: [] });
    expect(payloadsOf(await bob.call("search_messages", { text: "note" }))).toEqual([SECRET]);
    expect((await ann.try("broadcast_message", { scope: "all", messageType: "note", payload: 1, encrypt: true })).text).toMatch(
      /^invalid_argument:.*encrypt/s,
    );
    expect((await ann.try("send_message", note("stranger", SECRET, { encrypt: true }))).text).toMatch(
      /^not_found: No key of stranger/,
    );

    const long = { lines: Array.from({ length: 4_000 }, (_, at) => `line ${at} of the moonstone`) };
    const { message: big } = await ann.call<{ message: { id: string } }>("send_message", note("bob", long, { encrypt: true }));
    let read = "";
    for (let offset: number | undefined = 0, turn = 0; offset !== undefined && turn < 50; turn++) {
      const { part }: Part = await bob.call<Part>("get_message", { messageId: big.id, offset });
      read += part.text;
      offset = part.nextOffset;
    }
    expect(JSON.parse(read)).toEqual(long);

    const asking = ann.call<{ reply: Message }>("request_reply", {
      ...{ targetAgent: "bob", payload: SECRET, encrypt: true, waitMs: WAIT_MS },
    });
    const asked = await eventually("the request arrives", async () =>
      (await bob.call<Messages>("get_messages", { types: ["coordination_request"] })).messages.at(0),
    );
    expect(asked.payload).toEqual(SECRET);
    await bob.call("send_message", note("ann", { ...SECRET, dug: true }, { replyTo: asked.id, encrypt: true }));
    expect((await asking).reply).toMatchObject({
      from: "bob",
      verified: true,
      encrypted: true,
      payload: { ...SECRET, dug: true },
    });

    expect(await everything(swarm)).not.toMatch(/moonstone/);
  });

  test("are handed to nobody while their sender is in quarantine, and in order afterwards, also to who waited", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "eve", "bob"]) await swarm.enroll(agent);
    await using ann = await swarm.host("ann", { server: SERVER });
    await using eve = await swarm.host("eve", { server: SERVER });
    await using bob = await swarm.host("bob", { server: SERVER });
    await bob.call("subscribe", { topics: ["news"] });
    await eve.call("send_message", note("bob", "eve 1", { correlationId: "job" }));
    const all = { scope: "all", messageType: "note", payload: "eve 2" };
    expect(await eve.call("broadcast_message", all)).toMatchObject({ delivered: 2 });
    await eve.call("broadcast_message", { scope: "topic", name: "news", messageType: "note", payload: "eve 3" });
    await eve.call("send_message", note("bob", "eve 4", { encrypt: true, correlationId: "job" }));
    await swarm.admin.quarantine("eve", true);
    await eventually("the quarantine is in force at the reader", async () => {
      const { messages } = await bob.call<Messages>("get_thread", { correlationId: "job" });
      return messages.length === 0;
    });
    expect((await eve.try("send_message", note("bob", "eve 5"))).isError).toBe(true);
    await ann.call("send_message", note("bob", "ann 1"));
    expect(payloadsOf(await bob.call("get_messages", { acknowledge: true }))).toEqual(["ann 1"]);
    expect(await bob.call("get_messages", {})).toMatchObject({ messages: [] });
    expect(await bob.read("inbox://bob")).toMatchObject({ unread: 0, messages: [] });

    const waiting = bob.call<Messages>("get_messages", { waitMs: WAIT_MS });
    await swarm.admin.quarantine("eve", false);
    const { messages } = await waiting;
    expect(messages.map(({ payload, deliveries }) => [payload, deliveries])).toEqual([
      ["eve 1", 1],
      ["eve 2", 1],
      ["eve 3", 1],
      ["eve 4", 1],
    ]);
    await eventually("its calls are let in again", async () => !(await eve.try("send_message", note("bob", "eve 5"))).isError);
  });

  test("that are encrypted are only named in a context, and a quarantined sender's are not in it", async () => {
    verifies("SEC-10", "SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "eve", "bob"]) await swarm.enroll(agent);
    await using ann = await swarm.host("ann", { server: SERVER });
    await using eve = await swarm.host("eve", { server: SERVER });
    await using bob = await swarm.host("bob", { server: "shared-state" });
    await ann.call("send_message", note("bob", SECRET, { encrypt: true, correlationId: "job" }));
    await ann.call("send_message", note("bob", "in clear", { correlationId: "job" }));
    await eve.call("send_message", note("bob", "eve 1", { correlationId: "job" }));
    const context = async (reader: Host) => (await reader.try("get_context", { correlationId: "job" })).text;
    const text = await context(bob);
    expect(text).toContain("eve 1");
    expect(text).toContain("in clear");
    expect(text).toContain('"encrypted":true');
    expect(text).not.toMatch(/moonstone|ciphertext/);
    await swarm.admin.quarantine("eve", true);
    await eventually("the context is without it", async () => !(await context(bob)).includes("eve 1"));
    expect(await context(bob)).toContain("in clear");
  });

  test("that are encrypted stay sealed over HTTP, where the server holds no key of their reader, and leave the others readable", async () => {
    verifies("SEC-10");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "bob"]) await swarm.enroll(agent);
    await swarm.enroll("post", { roles: ["worker"], issuer: true });
    await using serving = await startServerHttp(SERVER, { SWARM_STORE: swarm.url, SWARM_KEY_FILE: swarm.keyFile("post") });
    const { bundle } = await swarm.admin.read();
    const own = await readKeyFile(swarm.keyFile("bob"));
    const asked = { agentId: "bob", audience: `${serving.url}/mcp` };
    const { token } = await issueToken(own, bundle, asked, { now: Date.now() });
    await using bob = await Host.http(`${serving.url}/mcp`, { token });
    await using ann = await swarm.host("ann", { server: SERVER });
    const { message: sealed } = await ann.call<{ message: { id: string } }>(
      "send_message",
      note("bob", SECRET, { encrypt: true }),
    );
    await ann.call("send_message", note("bob", "in clear"));
    const { messages } = await bob.call<Messages>("get_messages", {});
    expect(messages).toMatchObject([
      {
        id: sealed.id,
        verified: true,
        encrypted: true,
        payload: null,
        unopened: expect.stringMatching(/no key of bob.*SWARM_KEY_FILE/),
      },
      { payload: "in clear" },
    ]);
    expect(messages[1]).not.toHaveProperty("encrypted");
    const { part } = await bob.call<Part>("get_message", { messageId: sealed.id, offset: 0 });
    expect(JSON.parse(part.text)).toHaveProperty("ciphertext");
    const refused = await bob.try("send_message", note("ann", SECRET, { encrypt: true }));
    expect(refused.text).toMatch(/^failed_precondition: This server holds no key of yours/);
    await using atHome = await swarm.host("bob", { server: SERVER });
    expect(await atHome.call("get_message", { messageId: sealed.id })).toMatchObject({ message: { payload: SECRET } });
    expect(serving.output()).not.toMatch(/moonstone/);
  });

  test("of which one is damaged in the store reach their reader all the same, and it is told which is missing", async () => {
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "bob"]) await swarm.enroll(agent);
    await using ann = await swarm.host("ann", { server: SERVER });
    await using bob = await swarm.host("bob", { server: SERVER });
    const ids: string[] = [];
    for (const payload of ["one", "it hurts", "three"]) {
      const { message } = await ann.call<{ message: { id: string } }>("send_message", note("bob", payload));
      ids.push(message.id);
    }
    await damage(meeting.store, "msg", ids[1] ?? "");
    const got = await bob.call<Messages>("get_messages", {});
    expect(payloadsOf(got)).toEqual(["one", "three"]);
    expect(got.damaged).toEqual([ids[1]]);
    expect(await bob.call("acknowledge_messages", { messageIds: ids })).toMatchObject({
      messages: ids.map((id) => ({ id, status: "done", changed: true })),
    });
  });
});

test.each(["send_message", "request_reply"])("in an open swarm %s refuses to encrypt, and says what it takes", async (tool) => {
  verifies("SEC-10");
  using meeting = await (ENGINES[0]?.meet() ?? expect.fail("There is no engine."));
  await using ann = await Host.start({ server: SERVER, store: meeting.store, agent: "ann" });
  const { messageType: _, ...asked } = note("ann/helper", SECRET, { encrypt: true });
  const refused = await ann.try(tool, tool === "send_message" ? note("ann/helper", SECRET, { encrypt: true }) : asked);
  expect(refused.text).toMatch(/^failed_precondition: .*open.*\n.*mcp-swarm-security init/);
});
