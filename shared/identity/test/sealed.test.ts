import { type Json, manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { GeneralEncrypt, importJWK } from "jose";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type AgentKeys, generateKeyPair, kidOfEncryption, publicJwk } from "../src/trust/keys.ts";
import {
  type Expected,
  open,
  openSecret,
  RECIPIENTS_MAX,
  SEALED_AGE_MS_MAX,
  type Sealed,
  seal,
  sealSecret,
  useSealed,
} from "../src/trust/sealed.ts";
import { agentKeys, Keyring } from "./keyring.ts";

const NOW = 1_790_000_000_500;
const refused = { name: "SwarmError", code: "unauthenticated" };

const [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(agentKeys) as [
  AgentKeys,
  AgentKeys,
  AgentKeys,
  AgentKeys,
];
const keyring = new Keyring([[alice], [bob], [carol], [dave]]);
const letter: Sealed = { type: "message", to: ["bob", "carol"], jti: "message-1", iat: NOW, payload: { text: "the plan" } };

const sealer = (self: AgentKeys) => ({
  signatures: keyring.signaturesOf(self),
  keysOf: (agentId: string) => keyring.keysOf(agentId),
});
const opener = (self: AgentKeys, agentId = self.agentId) => ({
  agentId,
  decryptionKeys: [self.encrypt, ...self.formerEncrypt],
  signatures: keyring.signaturesOf(self),
});
const sealBy = (self: AgentKeys, change: Partial<Sealed> = {}, from = self.agentId) =>
  seal({ ...letter, ...change }, from, sealer(self));
const openBy = (self: AgentKeys, text: string, change: Partial<Expected> = {}) =>
  open(text, opener(self), { type: "message", jti: "message-1", from: "alice", ...change });

/** What an envelope holds once its reader has opened the outer part: the signed text, to do mischief with. */
async function jwsWithin(self: AgentKeys, text: string): Promise<string> {
  let seen = "";
  const signatures = {
    verify: async (type: string, jws: string) => {
      seen = jws;
      return await keyring.signaturesOf(self).verify(type, jws);
    },
  };
  await open(text, { ...opener(self), signatures }, { type: "message" });
  return seen;
}

/** Encrypts any text as an envelope, in the form that envelopes have. */
async function encrypt(text: string, to: readonly AgentKeys[], header: Record<string, string> = {}): Promise<string> {
  const jwe = new GeneralEncrypt(Buffer.from(text)).setProtectedHeader({
    enc: "A256GCM",
    typ: "mcp-swarm-sealed+jwe",
    ...header,
  });
  for (const { encrypt: pair } of to) {
    const key = await importJWK(publicJwk("X25519", pair.publicKey), "ECDH-ES+A256KW");
    jwe.addRecipient(key).setUnprotectedHeader({ alg: "ECDH-ES+A256KW", kid: pair.kid });
  }
  return JSON.stringify(await jwe.encrypt());
}

describe("A sealed message", () => {
  verifies("SEC-10");

  test("opens for each of its receivers, and for nobody else", async () => {
    const text = await sealBy(alice);
    for (const reader of [bob, carol]) {
      await expect(openBy(reader, text)).resolves.toEqual({
        from: "alice",
        to: ["bob", "carol"],
        jti: "message-1",
        iat: NOW,
        payload: { text: "the plan" },
      });
    }
    for (const reader of [dave, alice]) {
      await expect(openBy(reader, text)).rejects.toMatchObject({ code: "failed_precondition" });
    }
    expect(text).not.toContain("the plan");
    expect(text).not.toContain(Buffer.from("the plan").toString("base64url").slice(0, 8));
  });

  test("is sealed by and to subagents with the keys of their agents", async () => {
    const text = await sealBy(alice, { to: ["bob/reviewer", "bob/tester"] }, "alice/planner");
    expect(JSON.parse(text).recipients).toHaveLength(1);
    const opened = await open(text, opener(bob, "bob/reviewer"), { type: "message", from: "alice/planner" });
    expect(opened.to).toEqual(["bob/reviewer", "bob/tester"]);
  });

  test("holds anything that is JSON, but for the one name that no call may hold", async () => {
    const payloads = fc.jsonValue({ maxDepth: 6 }).filter((value) => !JSON.stringify(value).includes('"__proto__":'));
    await fc.assert(
      fc.asyncProperty(payloads, async (payload) => {
        const plain = JSON.parse(JSON.stringify(payload)) as Json;
        const { payload: opened } = await openBy(bob, await sealBy(alice, { payload: plain }));
        expect(opened).toEqual(plain);
      }),
      { numRuns: 40, examples: [["\ud83d\ude00 \u0000"], [null], [{}]] },
    );
  });

  test("goes to a hundred receivers, and to no more", async () => {
    const many = Array.from({ length: RECIPIENTS_MAX + 1 }, (_, i) => agentKeys(`reader-${i}`));
    const crowd = new Keyring([[alice], ...many.map((keys): [AgentKeys] => [keys])]);
    const by = { signatures: crowd.signaturesOf(alice), keysOf: (agentId: string) => crowd.keysOf(agentId) };
    const names = many.map(({ agentId }) => agentId);
    const text = await seal({ ...letter, to: names.slice(0, RECIPIENTS_MAX) }, "alice", by);
    for (const reader of [many[0], many[RECIPIENTS_MAX - 1]]) {
      const own = { ...opener(reader as AgentKeys), signatures: crowd.signaturesOf(reader) };
      await expect(open(text, own, { type: "message" })).resolves.toMatchObject({ from: "alice" });
    }
    await expect(seal({ ...letter, to: names }, "alice", by)).rejects.toMatchObject({ code: "invalid_argument" });
    await expect(seal({ ...letter, to: [] }, "alice", by)).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("is not sealed to whom no key is known of, nor by a process without the sender's key", async () => {
    await expect(sealBy(alice, { to: ["bob", "nobody"] })).rejects.toMatchObject({ code: "not_found" });
    await expect(sealBy(alice, {}, "bob")).rejects.toMatchObject({ code: "failed_precondition" });
    const without = { ...sealer(alice), signatures: keyring.signaturesOf(undefined) };
    await expect(seal(letter, "alice", without)).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("opens with a key that its reader had before", async () => {
    const text = await sealBy(alice);
    const rotated: AgentKeys = { ...bob, encrypt: generateKeyPair("X25519"), formerEncrypt: [bob.encrypt] };
    await expect(openBy(rotated, text)).resolves.toMatchObject({ from: "alice" });
    await expect(openBy({ ...rotated, formerEncrypt: [] }, text)).rejects.toMatchObject({ code: "failed_precondition" });
  });
});

describe("A sealed message that was tampered with is refused:", () => {
  test.each<[string, (text: string) => Promise<string> | string, Partial<Expected>?]>([
    ["what it says it is from", (text) => text, { from: "carol" }],
    ["put into another message", (text) => text, { jti: "message-2" }],
    ["opened as something else", (text) => text, { type: "secret" }],
    ["bound to something", (text) => text, { boundTo: ["name", 1] }],
    ["bound to something it does not say", (text) => JSON.stringify({ ...JSON.parse(text), aad: "bmFtZQ" })],
    // B takes what A said to B, and encrypts it on to D as if A had said it to D
    ["forwarded to one it was not said to", async (text) => encrypt(await jwsWithin(bob, text), [dave]), {}],
    [
      "signed by another in its sender's name",
      async () => {
        const { signatures } = sealer(carol);
        const claim = { from: "alice", to: ["dave"], jti: "message-1", iat: NOW, payload: "mine" };
        return encrypt((await signatures.sign("carol", "sealed-message", claim)) ?? "", [dave]);
      },
    ],
    [
      "signed as something else",
      async () => {
        const claim = { from: "alice", to: ["dave"], jti: "message-1", iat: NOW, payload: "mine" };
        return encrypt((await keyring.signaturesOf(alice).sign("alice", "ballot", claim)) ?? "", [dave]);
      },
    ],
    [
      "not signed at all",
      () => encrypt(JSON.stringify({ from: "alice", to: ["dave"], jti: "message-1", iat: NOW, payload: 1 }), [dave]),
    ],
    [
      "signed with more than envelopes say",
      async () => {
        const claim = { from: "alice", to: ["dave"], jti: "message-1", iat: NOW, payload: 1, admin: true };
        return encrypt((await keyring.signaturesOf(alice).sign("alice", "sealed-message", claim)) ?? "", [dave]);
      },
    ],
    ["sealed in another form of encryption", async (text) => encrypt(await jwsWithin(bob, text), [dave], { typ: "other" })],
    ["nothing", () => ""],
    ["no JSON", () => "sealed"],
    ["JSON of something else", () => "[]"],
    ["a member twice", (text) => text.replace("{", '{"ciphertext":"AAAA",')],
  ])("%s", async (_, change, expected = {}) => {
    const text = await change(await sealBy(alice, { to: ["bob", "carol"] }));
    for (const reader of [bob, dave]) {
      const outcome = openBy(reader, text, expected);
      await expect(outcome).rejects.toMatchObject({ name: "SwarmError" });
      if (reader === dave) continue;
      // only what was encrypted to Dave alone does not even open for Bob
      await expect(outcome).rejects.toMatchObject({ code: expect.stringMatching(/^(unauthenticated|failed_precondition)$/) });
    }
  });

  test("forwarded, in so many words", async () => {
    const text = await encrypt(await jwsWithin(bob, await sealBy(alice)), [dave]);
    await expect(openBy(dave, text)).rejects.toMatchObject({ ...refused, message: expect.stringContaining("not said to you") });
  });

  test.each([1, 2])(
    "any bit of it, with %i receivers",
    async (receivers) => {
      const to = ["bob", "carol"].slice(0, receivers);
      const text = await sealBy(alice, { to, payload: "x" });
      const jwe = JSON.parse(text) as Record<string, unknown> & { recipients: Record<string, unknown>[] };
      const own = jwe.recipients.findIndex(
        ({ header }) => (header as { kid: string }).kid === kidOfEncryption(bob.encrypt.publicKey),
      );
      const parts: [string, string, (changed: string) => unknown][] = ["protected", "iv", "ciphertext", "tag"].map((name) => [
        name,
        jwe[name] as string,
        (changed) => ({ ...jwe, [name]: changed }),
      ]);
      const entry = jwe.recipients[own] as { encrypted_key: string; header: { epk?: { x: string } } };
      const withEntry = (changed: object) => ({ ...jwe, recipients: jwe.recipients.with(own, { ...entry, ...changed }) });
      parts.push(["encrypted_key", entry.encrypted_key, (encrypted_key) => withEntry({ encrypted_key })]);
      const { epk } = entry.header;
      expect(epk === undefined).toBe(receivers === 1);
      if (epk) parts.push(["epk", epk.x, (x) => withEntry({ header: { ...entry.header, epk: { ...epk, x } } })]);
      let tried = 0;
      for (const [name, part, changed] of parts) {
        const bytes = Buffer.from(part, "base64url");
        for (let bit = 0; bit < bytes.length * 8; bit++) {
          const flipped = Buffer.from(bytes);
          flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          await expect(
            openBy(bob, JSON.stringify(changed(flipped.toString("base64url")))),
            `${name}, bit ${bit}`,
          ).rejects.toMatchObject(refused);
          tried += 1;
        }
      }
      expect(tried).toBeGreaterThan(3_000);
      await expect(openBy(bob, text)).resolves.toBeDefined();
    },
    120_000,
  );

  test("receivers exchanged, doubled, or taken over from another message", async () => {
    const one = JSON.parse(await sealBy(alice));
    const two = JSON.parse(await sealBy(alice, { jti: "message-2" }));
    const [first, second] = one.recipients;
    for (const recipients of [
      [{ ...first, header: { ...second.header, kid: first.header.kid } }, second],
      [{ ...first, encrypted_key: second.encrypted_key }, second],
      [first, first],
      [],
      [first],
      two.recipients,
      [...Array(RECIPIENTS_MAX + 1)].map(() => first),
    ]) {
      await expect(openBy(bob, JSON.stringify({ ...one, recipients }))).rejects.toMatchObject(refused);
    }
    for (const change of [
      { unprotected: { alg: "dir" } },
      { header: {} },
      { iv: two.iv },
      { tag: two.tag },
      { ciphertext: two.ciphertext },
    ]) {
      await expect(openBy(bob, JSON.stringify({ ...one, ...change }))).rejects.toMatchObject(refused);
    }
  });

  test("its sender's key is no longer in force", async () => {
    const text = await sealBy(alice);
    const { bundle } = keyring;
    keyring.bundle = { ...bundle, members: { ...bundle.members, alice: { roles: [], generation: 1, revokedAt: 1 } } };
    await expect(openBy(bob, text)).rejects.toMatchObject(refused);
    keyring.bundle = bundle;
    await expect(openBy(bob, text)).resolves.toBeDefined();
  });
});

describe("A sealed message that was opened", () => {
  test("is a replay from then on, for as long as it is not too old anyway", async () => {
    verifies("SEC-10");
    const clock = manualClock(NOW);
    const store = new MemoryStore({ clock });
    const opened = await openBy(bob, await sealBy(alice));
    const use = (agentId: string) => store.transact((tx) => useSealed(tx, agentId, opened));
    const twice = await Promise.allSettled([use("bob"), use("bob")]);
    expect(twice.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await expect(use("bob/reviewer")).rejects.toMatchObject(refused);
    await expect(use("carol")).resolves.toBeUndefined();
    // sealed anew under the same id it is the same message
    const again = await openBy(bob, await sealBy(alice, { payload: "other words" }));
    await expect(store.transact((tx) => useSealed(tx, "bob", again))).rejects.toMatchObject(refused);
    await clock.advance(SEALED_AGE_MS_MAX - 1);
    await expect(use("bob")).rejects.toMatchObject({ ...refused, message: expect.stringContaining("before") });
    await clock.advance(1);
    await expect(use("bob")).rejects.toMatchObject({ ...refused, message: expect.stringContaining("too old") });
    await store.sweep(100);
    await clock.advance(60_000);
    await expect(use("bob")).rejects.toMatchObject(refused);
    await store.close();
  });

  test("from the future is refused", async () => {
    const store = new MemoryStore({ clock: manualClock(NOW) });
    const opened = await openBy(bob, await sealBy(alice, { iat: NOW + 6_000 }));
    await expect(store.transact((tx) => useSealed(tx, "bob", opened))).rejects.toMatchObject(refused);
    await store.close();
  });
});

describe("A secret", () => {
  const secret = { name: "deploy-key", version: 3, value: "s3cr3t", readers: ["bob", "carol"], iat: NOW };

  test("is read by its readers under its own name and version alone", async () => {
    verifies("SEC-11");
    const text = await sealSecret(secret, "alice", sealer(alice));
    await expect(openSecret(text, secret, opener(bob))).resolves.toEqual({ value: "s3cr3t", from: "alice" });
    await expect(openSecret(text, secret, opener(dave))).rejects.toMatchObject({ code: "failed_precondition" });
    for (const of of [
      { name: "other-key", version: 3 },
      { name: "deploy-key", version: 2 },
      { name: "deploy-key", version: 4 },
    ]) {
      await expect(openSecret(text, of, opener(bob))).rejects.toMatchObject(refused);
    }
  });

  test("whose bound name is rewritten does not open", async () => {
    const jwe = JSON.parse(await sealSecret(secret, "alice", sealer(alice)));
    const of = { name: "other-key", version: 3 };
    const aad = Buffer.from(JSON.stringify([of.name, of.version])).toString("base64url");
    await expect(openSecret(JSON.stringify({ ...jwe, aad }), of, opener(bob))).rejects.toMatchObject(refused);
    const { aad: _, ...unbound } = jwe;
    await expect(openSecret(JSON.stringify(unbound), secret, opener(bob))).rejects.toMatchObject(refused);
  });

  test("says who put it, and is none that an outsider can put", async () => {
    const outsider = agentKeys("mallory");
    const by = { signatures: keyring.signaturesOf(outsider), keysOf: (agentId: string) => keyring.keysOf(agentId) };
    const text = await sealSecret(secret, "mallory", by);
    await expect(openSecret(text, secret, opener(bob))).rejects.toMatchObject(refused);
  });
});
