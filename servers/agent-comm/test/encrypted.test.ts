/** Payloads that only their receiver reads, with the keys and the cryptography of a secured swarm over a store in memory. */
import { PAYLOAD_BYTES_MAX, SEALED_CHARS_MAX } from "@mcp-swarm/coordination/messages";
import { manualClock } from "@mcp-swarm/core";
import { onceCall } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { agentKeys, Keyring } from "../../../shared/identity/test/keyring.ts";
import { verifies } from "../../../test/requirements.ts";
import { eventually } from "../../../test/support/host.ts";
import { Channels } from "../src/channel.ts";
import { MessageSearch } from "../src/message-search.ts";
import { view } from "../src/tools/message-views.ts";
import { trustSealing } from "../src/trust-sealing.ts";
import { commOn } from "./support/comm.ts";

const SECRET = { text: "the moonstone lies under the oak" };

async function swarm() {
  const clock = manualClock();
  const store: Store = new MemoryStore({ clock });
  const keys = new Map(["ann", "bob", "eve"].map((id) => [id, agentKeys(id)]));
  const keyring = new Keyring([...keys.values()].map((own) => [own]));
  const sealingOf = (agentId: string) => {
    const self = keys.get(agentId);
    const { sign, verify } = keyring.signaturesOf(self);
    return trustSealing({ self, sign, verify, keysOf: (id) => keyring.keysOf(id) }, clock);
  };
  let processes = 0;
  /** `keysOf`: whose keys its process holds. */
  const agent = (agentId: string, keysOf = agentId) =>
    commOn(store, clock, agentId, { process: ++processes, sealing: sealingOf(keysOf) });
  const [ann, bob, eve] = [await agent("ann"), await agent("bob"), await agent("eve")];
  const send = (more: object = {}) =>
    ann.sending.send(ann.call, { targetAgent: "bob", messageType: "note", payload: SECRET, encrypt: true, ...more });
  return { clock, store, keys, ann, bob, eve, agent, send };
}

describe("an encrypted message", () => {
  test("is read by its receiver and its sender, whatever subagent of theirs, and lies in the store as nobody can read it", async () => {
    verifies("SEC-10");
    const { store, ann, bob, eve, send } = await swarm();
    const { id } = await send({ agentId: "helper", targetAgent: "bob/reviewer", mailbox: true });
    const { messages } = await bob.inbox.get(bob.call, { agentId: "reviewer" });
    const [message] = messages.map((one) => one.message);
    if (!message) throw new Error("No message came.");
    expect(message).toMatchObject({ id, from: "ann/helper", encrypted: true, payload: expect.any(String) });
    for (const reader of [bob, ann]) {
      const shown = await reader.envelopes.openOne(reader.caller, message);
      expect(shown.unopened).toBeUndefined();
      expect(shown.payload).toEqual(SECRET);
    }
    expect(await eve.envelopes.openOne(eve.caller, message)).toMatchObject({
      unopened: expect.stringMatching(/not sealed to a key/),
    });
    for (const namespace of ["msg", "text", "inbox", "delivery", "thread", "idem"]) {
      for (const { value } of await store.scan(prefixRange(`${namespace}/`, 100))) {
        expect(JSON.stringify(value)).not.toMatch(/moonstone/);
      }
    }
  });

  test("has no words to be found by, only its type", async () => {
    verifies("SEC-10");
    const { bob, send } = await swarm();
    const { id } = await send();
    const find = async (text: string) =>
      (await new MessageSearch().find(bob.call, { text, limit: 10 })).messages.map((message) => message.id);
    expect(await find("moonstone")).toEqual([]);
    expect(await find("ciphertext")).toEqual([]);
    expect(await find("note")).toEqual([id]);
  });

  test("does not open in another message, of another type, from another sender, or for a caller whose key is elsewhere", async () => {
    verifies("SEC-10");
    const { bob, eve, agent, send } = await swarm();
    await send();
    const [taken] = (await bob.inbox.get(bob.call, {})).messages;
    const message = taken?.message;
    if (!message) throw new Error("No message came.");
    const forged = [
      { ...message, id: "msg-another" },
      { ...message, messageType: "task_assignment" },
      { ...message, from: "eve" },
      { ...message, payload: "in clear" },
      { ...message, payload: { text: "in clear" } },
    ];
    for (const one of [message, ...forged]) {
      const shown = await bob.envelopes.openOne(bob.caller, one);
      expect(shown.unopened === undefined, JSON.stringify(one).slice(0, 200)).toBe(one === message);
      expect(view(shown, {}).payload).toEqual(one === message ? SECRET : null);
    }
    // eve sends on what she could read of it: she cannot, and her process opens nothing for a caller that is not she
    const remote = await agent("bob", "eve");
    const shown = await remote.envelopes.openOne(remote.caller, message);
    expect(view(shown, {})).toMatchObject({
      encrypted: true,
      payload: null,
      unopened: expect.stringMatching(/no key of bob.*stdio/),
    });
    const copy = await eve.sending.send(eve.call, { targetAgent: "bob", messageType: "note", payload: message.payload });
    const [plain] = (await bob.inbox.get(bob.call, { from: "eve" })).messages;
    expect(plain?.message).toMatchObject({ id: copy.id, payload: message.payload });
    expect(await bob.envelopes.open(bob.caller, plain ? [plain.message] : [])).toEqual([plain?.message]);
  });

  test("that does not open leaves the others in an answer as they are", async () => {
    verifies("SEC-10");
    const { store, bob, send } = await swarm();
    const { id: broken } = await send();
    const { id } = await send();
    await store.transact((tx) => {
      const key = `msg/${broken}`;
      const value = tx.get(key)?.value as { payload: string };
      tx.put(key, { ...value, payload: `${value.payload.slice(0, -9)}AAAA${value.payload.slice(-5)}` });
    });
    const { messages } = await bob.inbox.get(bob.call, {});
    const shown = await bob.envelopes.openIn(bob.caller, messages);
    expect(shown.map(({ message }) => [message.id, message.unopened === undefined])).toEqual([
      [broken, false],
      [id, true],
    ]);
  });

  test("may be as large as any", async () => {
    verifies("SEC-10");
    const { bob, send } = await swarm();
    const largest = "\u{1F333}".repeat((PAYLOAD_BYTES_MAX - 2) / 4);
    await send({ payload: largest });
    const [taken] = (await bob.inbox.get(bob.call, {})).messages;
    expect(String(taken?.message.payload).length).toBeLessThanOrEqual(SEALED_CHARS_MAX);
    expect((await bob.envelopes.openIn(bob.caller, taken ? [taken] : []))[0]?.message.payload).toBe(largest);
    await expect(send({ payload: `${largest}123` })).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("still opens after its receiver's keys and its sender's were replaced", async () => {
    verifies("SEC-10");
    const { keys, agent, send } = await swarm();
    await send();
    const before = keys.get("bob");
    if (!before) throw new Error("bob has keys.");
    keys.set("bob", { ...agentKeys("bob"), formerEncrypt: [before.encrypt] });
    const again = await agent("bob");
    const { messages } = await again.inbox.get(again.call, {});
    expect((await again.envelopes.openIn(again.caller, messages))[0]?.message.payload).toEqual(SECRET);
  });

  test("is refused where there are no keys, and to whom has none, and then nothing was sent", async () => {
    verifies("SEC-10");
    const { store, clock, send, ann, agent } = await swarm();
    const open = await commOn(store, clock, "ann", { process: 77 });
    const message = { targetAgent: "bob", messageType: "note", payload: SECRET, encrypt: true };
    await expect(open.sending.send(open.call, message)).rejects.toMatchObject({ code: "failed_precondition", hint: /secure/ });
    await expect(send({ targetAgent: "stranger", mailbox: true })).rejects.toMatchObject({ code: "not_found" });
    const remote = await agent("ann", "eve");
    await expect(remote.sending.send(remote.call, message)).rejects.toMatchObject({ code: "failed_precondition" });
    expect(await store.scan(prefixRange("msg/", 10))).toEqual([]);
    expect(await store.scan(prefixRange("sender/", 10))).toEqual([]);
    expect(ann.caller.agentId).toBe("ann");
  });

  test("is sent once however often the call is repeated, also when its receiver has no key any more", async () => {
    verifies("SEC-10", "CORE-12");
    const { store, keys, ann, bob } = await swarm();
    const message = { targetAgent: "bob", messageType: "note", payload: SECRET, encrypt: true };
    const once = () => onceCall({ store, caller: ann.caller }, { key: "k", fingerprint: "f" });
    const first = await ann.sending.send(once(), message);
    keys.delete("bob");
    expect(await ann.sending.send(once(), message)).toEqual(first);
    expect((await bob.readAll()).map(({ message: { id } }) => id)).toEqual([first.id]);
  });

  test("is asked and answered under encryption, and pushed into its reader's own session opened", async () => {
    verifies("SEC-10");
    const { clock, store, ann, bob } = await swarm();
    const pushed: string[] = [];
    const channels = new Channels({
      store,
      clock,
      inbox: bob.inbox,
      envelopes: bob.envelopes,
      onError: () => pushed.push("failed"),
    });
    using _ = channels.open(bob.caller, async ({ content }) => void pushed.push(content));
    await clock.advance(500);
    const asking = ann.requests.ask(ann.call, { targetAgent: "bob", payload: SECRET, encrypt: true }, { waitMs: 50_000 });
    // cryptography goes on beside the clock that only the test moves
    await eventually("the request is pushed", () => pushed.length > 0);
    expect(pushed).toEqual([expect.stringContaining("moonstone")]);
    const [request] = (await bob.inbox.get(bob.call, {})).messages;
    const answer = { targetAgent: "ann", messageType: "answer", payload: "dug up", encrypt: true };
    await bob.sending.send(bob.call, { ...answer, replyTo: request?.message.id });
    const answered = asking.finally(() => pushed.push("answered"));
    await eventually("the answer arrives", async () => {
      await clock.advance(1);
      return pushed.includes("answered");
    });
    const { reply } = await answered;
    expect(reply.encrypted).toBe(true);
    expect((await ann.envelopes.openOne(ann.caller, reply)).payload).toBe("dug up");
  });
});
