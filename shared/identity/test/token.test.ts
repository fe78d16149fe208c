import { manualClock, seededRandom } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { SignJWT } from "jose";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { API_KEY_TTL_MS_MAX, ApiKeys } from "../src/trust/api-key.ts";
import { ASSERTION_LIFETIME_MS_MAX, useAssertion, verifyAssertion } from "../src/trust/assertion.ts";
import { strictJson } from "../src/trust/jws-strict.ts";
import { type AgentKeys, generateKeyPair, kidOf } from "../src/trust/keys.ts";
import { issueToken, TOKEN_LIFETIME_MS_MAX, verifyToken } from "../src/trust/token.ts";
import { agentKeys, forgeryGround } from "./keyring.ts";

const NOW = 1_790_000_000_500;
const AUDIENCE = "https://swarm.example/mcp";

function swarm() {
  const { ground, keyring } = forgeryGround(NOW);
  const issue = (by: AgentKeys, agentId: string, more: { scope?: string; lifetimeMs?: number } = {}) =>
    issueToken(by, keyring.bundle, { agentId, audience: AUDIENCE, ...more }, { now: NOW, random: seededRandom(1) });
  const verify = (token: string, now = NOW) => verifyToken(token, keyring, { audiences: [AUDIENCE], now });
  return { ...ground, keyring, issue, verify };
}

const refused = { name: "SwarmError", code: "unauthenticated" };

describe("A token", () => {
  test("proves its agent and its scope for a quarter of an hour at most, and for one server", async () => {
    verifies("SEC-02");
    const { agent, issuer, issue, verify } = swarm();
    const { token, jti, expiresAt } = await issue(issuer, agent.agentId, { scope: "task:claim message:*" });
    expect(expiresAt).toBe(Math.floor(NOW / 1000) * 1000 + TOKEN_LIFETIME_MS_MAX);
    await expect(verify(token)).resolves.toEqual({ agentId: "build-7", scope: "task:claim message:*", jti, expiresAt });
    await expect(verify(token, expiresAt + 4_999)).resolves.toMatchObject({ jti });
    await expect(verify(token, expiresAt + 5_000)).rejects.toMatchObject(refused);
    await expect(verify(token, NOW - 6_000)).rejects.toMatchObject(refused);
  });

  test("can be signed by an agent for itself and its subagents, and by an issuer for anyone", async () => {
    const { agent, other, issuer, issue, verify } = swarm();
    for (const [by, agentId] of [
      [agent, "build-7"],
      [agent, "build-7/reviewer"],
      [issuer, "build-7/reviewer"],
      [issuer, "build-8"],
      [other, "build-8"],
    ] as const) {
      await expect(verify((await issue(by, agentId)).token)).resolves.toMatchObject({ agentId });
    }
    await expect(verify((await issue(agent, "build-8")).token)).rejects.toMatchObject(refused);
    await expect(verify((await issue(agent, "gateway")).token)).rejects.toMatchObject(refused);
  });

  test.each([
    ["its agent is revoked", (b: object) => ({ ...b, revokedAt: 5 }), "build-7"],
    ["its agent is in quarantine", (b: object) => ({ ...b, quarantinedAt: 5 }), "build-7"],
    ["its issuer is revoked", (b: object) => ({ ...b, revokedAt: 5 }), "gateway"],
    ["its issuer is in quarantine", (b: object) => ({ ...b, quarantinedAt: 5 }), "gateway"],
    ["its issuer may issue no more", ({ issuer: _, ...b }: { issuer?: true }) => b, "gateway"],
  ])("is worth nothing from the moment that %s", async (_, change, member) => {
    const { agent, issuer, keyring, issue, verify } = swarm();
    const { token } = await issue(issuer, agent.agentId);
    await expect(verify(token)).resolves.toBeDefined();
    const { members } = keyring.bundle;
    keyring.bundle = { ...keyring.bundle, members: { ...members, [member]: change(members[member] ?? {}) as never } };
    await expect(verify(token)).rejects.toMatchObject(refused);
  });

  test("is worth nothing once it is revoked, or its epoch is over, or nothing can be trusted", async () => {
    const { agent, issuer, keyring, issue, verify } = swarm();
    const { token, jti, expiresAt } = await issue(issuer, agent.agentId);
    const { bundle } = keyring;
    keyring.bundle = { ...bundle, revokedTokens: { [jti]: expiresAt } };
    await expect(verify(token)).rejects.toMatchObject(refused);
    keyring.bundle = { ...bundle, epoch: bundle.epoch + 1 };
    await expect(verify(token)).rejects.toMatchObject(refused);
    keyring.bundle = bundle;
    await expect(verify(token)).resolves.toBeDefined();
    keyring.closed = true;
    await expect(verify(token)).rejects.toMatchObject({ code: "unavailable" });
  });

  test.each([
    ["a life over the longest", { lifetimeMs: TOKEN_LIFETIME_MS_MAX + 1 }],
    ["no life", { lifetimeMs: 0 }],
    ["a life that is no number", { lifetimeMs: Number.NaN }],
    ["a scope with two spaces", { scope: "task:read  task:claim" }],
    ["an endless scope", { scope: "x".repeat(2_000) }],
  ])("is not issued with %s", async (_, more) => {
    const { agent, issue } = swarm();
    await expect(issue(agent, agent.agentId, more)).rejects.toMatchObject({ code: "invalid_argument" });
  });
});

describe("JSON that is read strictly", () => {
  test.each([
    '{"a":1,"a":2}',
    '{"a":{"b":1,"\\u0062":2}}',
    '{"__proto__":1}',
    "[".repeat(33) + "]".repeat(33),
    "{",
    '{"a":1}x',
    "",
  ])("refuses %s", (text) => expect(() => strictJson(text)).toThrow(SyntaxError));

  test.each(['{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}', '{":":"{\\"a\\":1,\\"a\\":2}"}', '"a"', "[[],{}]"])(
    "reads %s",
    (text) => expect(strictJson(text)).toEqual(JSON.parse(text)),
  );
});

const ENDPOINT = "https://swarm.example/oauth/token";

function assertion(by: AgentKeys, change: Record<string, unknown> = {}, header: Record<string, unknown> = {}): Promise<string> {
  const iat = Math.floor(NOW / 1000);
  const claims = { iss: by.agentId, sub: by.agentId, aud: ENDPOINT, jti: "one", iat, exp: iat + 300, ...change };
  return new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", typ: "JWT", ...header }).sign(by.sign.privateKey);
}

describe("A client assertion", () => {
  verifies("SEC-13");
  const proven = async (text: string) => {
    const { keyring } = fixed;
    return verifyAssertion(text, keyring, { audiences: [ENDPOINT, "https://swarm.example"], now: NOW });
  };
  const fixed = swarm();

  test("proves its agent, with or without a key id, for the issuer under any of its names", async () => {
    const { agent } = fixed;
    await expect(proven(await assertion(agent))).resolves.toMatchObject({ agentId: "build-7" });
    await expect(proven(await assertion(agent, {}, { kid: agent.sign.kid }))).resolves.toMatchObject({ agentId: "build-7" });
    await expect(proven(await assertion(agent, { aud: "https://swarm.example" }))).resolves.toMatchObject({ agentId: "build-7" });
    const child = { iss: "build-7/reviewer", sub: "build-7/reviewer" };
    await expect(proven(await assertion(agent, child))).resolves.toMatchObject({ agentId: "build-7/reviewer" });
  });

  test.each<[string, (a: typeof fixed) => Promise<string>]>([
    ["that is another agent's", ({ agent, other }) => assertion(agent, { iss: other.agentId, sub: other.agentId })],
    ["whose issuer is not its subject", ({ agent, other }) => assertion(agent, { sub: other.agentId })],
    ["under another agent's key id", ({ agent, other }) => assertion(agent, {}, { kid: other.sign.kid })],
    ["under nobody's key id", ({ agent }) => assertion(agent, {}, { kid: kidOf(generateKeyPair("Ed25519").publicKey) })],
    ["by a stranger's key", ({ agent }) => assertion({ ...agentKeys("x"), agentId: agent.agentId })],
    ["of a revoked agent", ({ revoked }) => assertion(revoked)],
    ["of an agent in quarantine", ({ quarantined }) => assertion(quarantined)],
    ["of nobody", () => assertion(agentKeys("nobody"))],
    ["for another issuer", ({ agent }) => assertion(agent, { aud: "https://elsewhere.example" })],
    ["for several issuers", ({ agent }) => assertion(agent, { aud: [ENDPOINT, "https://elsewhere.example"] })],
    ["without an id", ({ agent }) => assertion(agent, { jti: undefined })],
    ["that never ends", ({ agent }) => assertion(agent, { exp: undefined })],
    ["that has ended", ({ agent }) => assertion(agent, { iat: Math.floor(NOW / 1000) - 300, exp: Math.floor(NOW / 1000) - 6 })],
    [
      "that lives too long",
      ({ agent }) => assertion(agent, { exp: Math.floor(NOW / 1000) + ASSERTION_LIFETIME_MS_MAX / 1000 + 1 }),
    ],
    ["of the future", ({ agent }) => assertion(agent, { nbf: Math.floor(NOW / 1000) + 10 })],
    ["that is a token", async ({ agent, issue }) => (await issue(agent, agent.agentId)).token],
    [
      "with a key in its header",
      ({ agent }) => assertion(agent, {}, { jwk: { kty: "OKP", crv: "Ed25519", x: agent.sign.publicKey } }),
    ],
  ])("%s is refused", async (_, make) => {
    await expect(proven(await make(fixed))).rejects.toMatchObject(refused);
  });

  test("counts once, also when it comes twice at the same moment, and for as long as it is valid", async () => {
    const clock = manualClock(NOW);
    const store = new MemoryStore({ clock });
    const one = await proven(await assertion(fixed.agent));
    const use = () => store.transact((tx) => useAssertion(tx, one));
    const both = await Promise.allSettled([use(), use()]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    await clock.advance(ASSERTION_LIFETIME_MS_MAX + 4_000);
    await expect(use()).rejects.toMatchObject(refused);
    // the id is the agent's own: another's is another
    const others = await proven(await assertion(fixed.other));
    await store.transact((tx) => useAssertion(tx, others));
    await store.close();
  });
});

describe("An API key", () => {
  verifies("SEC-01");

  async function issuerWithKey() {
    const { issuer, other, keyring } = swarm();
    const clock = manualClock(NOW);
    const store = new MemoryStore({ clock });
    const keys = new ApiKeys(issuer);
    const made = keys.create({ agentId: "build-7", ttlMs: 60_000 });
    const listed = await store.transact((tx) => made.put(tx));
    const verify = (text: string, by = keys) => by.verify(text, { store, membership: keyring, now: clock.now() });
    return { keys, store, clock, keyring, other, issuer, made, listed, verify };
  }

  test("speaks for its agent at the issuer that made it, until it ends", async () => {
    const { made, listed, verify, clock, other, issuer } = await issuerWithKey();
    await expect(verify(made.text)).resolves.toEqual({ agentId: "build-7", id: made.id });
    expect(listed).toEqual({ id: made.id, agentId: "build-7", createdAt: NOW, expiresAt: NOW + 60_000 });
    await expect(verify(made.text, new ApiKeys(other))).rejects.toMatchObject(refused);
    await expect(verify(made.text, new ApiKeys({ ...issuer, sign: generateKeyPair("Ed25519") }))).rejects.toMatchObject(refused);
    await clock.advance(60_000);
    await expect(verify(made.text)).rejects.toMatchObject(refused);
  });

  test("is not in the store, and nothing in the store makes one", async () => {
    const { made, store, keys, verify } = await issuerWithKey();
    const [row] = await store.scan({ from: "api-key/", before: "api-key0", limit: 10 });
    const secret = made.text.split("_").at(-1) ?? "";
    expect(JSON.stringify(row)).not.toContain(secret);
    // whoever can write rows points it at another agent, or lets it last
    for (const change of [{ agentId: "gateway" }, { expiresAt: NOW + 10 ** 9 }, { createdAt: 0 }, { mac: "" }, { id: "key-0" }]) {
      await store.transact((tx) => tx.put(row?.key ?? "", { ...(row?.value as object), ...change }));
      await expect(verify(made.text), JSON.stringify(change)).rejects.toMatchObject(refused);
    }
    await store.transact((tx) => tx.put(row?.key ?? "", row?.value ?? null));
    await expect(verify(made.text)).resolves.toBeDefined();
    expect(await keys.list(store, { limit: 10 })).toHaveLength(1);
  });

  test("ends when it is revoked, and with its agent", async () => {
    const { keys, made, store, keyring, verify } = await issuerWithKey();
    const members = keyring.bundle.members;
    for (const mark of ["revokedAt", "quarantinedAt"]) {
      keyring.bundle = { ...keyring.bundle, members: { ...members, "build-7": { roles: [], generation: 1, [mark]: 1 } } };
      await expect(verify(made.text)).rejects.toMatchObject(refused);
    }
    keyring.bundle = { ...keyring.bundle, members };
    await expect(verify(made.text)).resolves.toBeDefined();
    expect(await store.transact((tx) => keys.revoke(tx, made.id))).toBe(true);
    expect(await store.transact((tx) => keys.revoke(tx, made.id))).toBe(false);
    await expect(verify(made.text)).rejects.toMatchObject(refused);
  });

  test("is refused with any character changed, and in any other form", async () => {
    const { made, verify } = await issuerWithKey();
    for (let i = 0; i < made.text.length; i++) {
      for (const other of ["0", "b", "B", "_"]) {
        if (made.text[i] === other) continue;
        await expect(verify(made.text.slice(0, i) + other + made.text.slice(i + 1))).rejects.toMatchObject(refused);
      }
    }
    for (const text of ["", `${made.text}=`, ` ${made.text}`, `${made.text}\n`, made.text.toUpperCase(), `swarm_${made.id}_`]) {
      await expect(verify(text)).rejects.toMatchObject(refused);
    }
  });

  test("lives for a bounded time", async () => {
    const keys = new ApiKeys(agentKeys("gateway"));
    for (const ttlMs of [0, -1, 1.5, Number.NaN, API_KEY_TTL_MS_MAX + 1]) {
      expect(() => keys.create({ agentId: "build-7", ttlMs })).toThrow(expect.objectContaining({ code: "invalid_argument" }));
    }
  });
});
