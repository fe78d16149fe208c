import type { Json } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { CompactSign } from "jose";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  Administrator,
  BUNDLE_KEY,
  type Bundle,
  generateKeyPair,
  kidOf,
  rotateOwn,
  signBundle,
  signJws,
  TRUST_AGE_MS_MAX,
  TRUST_ROUND_MS,
  Trust,
  verifyBundle,
} from "../src/trust/index.ts";
import { EVERYTHING, TrustSwarm, versionMemory } from "./trust-swarm.ts";

let swarm: TrustSwarm;
beforeEach(async () => {
  swarm = await TrustSwarm.secured();
});
afterEach(() => swarm[Symbol.asyncDispose]());

const bundle = (change: Partial<Bundle> = {}): Bundle => ({
  version: 1,
  issuedAt: 1,
  epoch: 0,
  members: {},
  policies: [EVERYTHING],
  revokedTokens: {},
  ...change,
});
const keys = () => ({ sign: generateKeyPair("Ed25519").publicKey, encrypt: generateKeyPair("X25519").publicKey });
const check = (trust: Trust) => () => trust.check();
const CLOSED = expect.objectContaining({ code: "unavailable" });

/** A round that a timer started ends in its own time: on the thread pool that checks signatures. */
const soon = (expectation: () => void) => vi.waitFor(expectation, { timeout: 10_000, interval: 5 });

describe("a trust bundle", () => {
  test("is read as it was signed, with names that objects have by themselves", async () => {
    const { root } = swarm;
    const content = bundle({
      members: {
        constructor: { roles: ["worker"], attributes: { toString: "x" }, generation: 3, keys: keys(), retired: [keys().sign] },
        "build.7@x": { roles: [], generation: 1, enrolment: { key: keys().sign, expiresAt: 5 }, revokedAt: 4, issuer: true },
      },
      policies: [EVERYTHING, { ...EVERYTHING, id: "newer", when: { moon: "full" } as object }],
      revokedTokens: { valueOf: 9 },
    });
    expect(await verifyBundle(await signBundle(content, root), root.publicKey)).toEqual(content);
  });

  const one = { roles: [], generation: 1 };
  const shared = keys();
  const breaking: Record<string, unknown> = {
    "has no version": { ...bundle(), version: undefined },
    "has version 0": bundle({ version: 0 }),
    "has a version that is no whole number": bundle({ version: 1.5 }),
    "has a member more": { ...bundle(), root: "x" },
    "names a subagent as member": bundle({ members: { "a/b": one } }),
    "names a member with a space": bundle({ members: { "a b": one } }),
    "has a member of an unknown kind": bundle({ members: { a: { ...one, admin: true } as never } }),
    "has a key that is none": bundle({ members: { a: { ...one, keys: { ...keys(), sign: "x" } } } }),
    "has a key that anyone signs for": bundle({ members: { a: { ...one, keys: { ...keys(), sign: "A".repeat(43) } } } }),
    "has keys beside an enrolment": bundle({
      members: { a: { ...one, keys: keys(), enrolment: { key: keys().sign, expiresAt: 1 } } },
    }),
    "has two members with one key": bundle({ members: { a: { ...one, keys: shared }, b: { ...one, keys: shared } } }),
    "has a member with the former key of another": bundle({
      members: { a: { ...one, keys: shared }, b: { ...one, retired: [shared.sign] } },
    }),
    "has two policies with one id": bundle({ policies: [EVERYTHING, EVERYTHING] }),
    "has a policy of an unknown effect": bundle({ policies: [{ ...EVERYTHING, effect: "maybe" as never }] }),
    "has a policy whose operations are no list": bundle({ policies: [{ ...EVERYTHING, operations: "*" as never }] }),
    "has too many roles": bundle({ members: { a: { ...one, roles: Array.from({ length: 17 }, (_, n) => `r${n}`) } } }),
    "has too many members": bundle({ members: Object.fromEntries(Array.from({ length: 2_001 }, (_, n) => [`a${n}`, one])) }),
  };
  test.each(Object.keys(breaking))("that %s is neither signed nor read", async (what) => {
    verifies("SEC-05");
    const { root } = swarm;
    const content = breaking[what] as Bundle;
    await expect(signBundle(content, root)).rejects.toMatchObject({ code: "invalid_argument" });
    const signed = await signJws(root, "mcp-swarm-bundle+jws", content as never);
    await expect(verifyBundle(signed, root.publicKey)).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test("of 2,000 members fits its row, and one that does not is refused", async () => {
    const { root, store } = swarm;
    const member = { roles: ["worker"], generation: 1 };
    const members = Object.fromEntries(
      Array.from({ length: 2_000 }, (_, n) => [`agent-${n}`, { ...member, keys: keys(), retired: [keys().sign] }]),
    );
    const jws = await signBundle(bundle({ version: 2, members }), root);
    await store.transact((tx) => tx.put(BUNDLE_KEY, { jws }));
    expect(Object.keys((await verifyBundle(jws, root.publicKey)).members)).toHaveLength(2_000);
    const policies = Array.from({ length: 900 }, (_, n) => ({ ...EVERYTHING, id: `p${n}`, description: "x".repeat(1_000) }));
    await expect(signBundle(bundle({ policies }), root)).rejects.toMatchObject({ code: "limit_exceeded" });
  });
});

/** What somebody with access to the store, and without the root key, puts in the bundle's place. */
const replaced: Record<string, (jws: string, swarm: TrustSwarm) => Promise<Json | undefined>> = {
  "was taken away": async () => undefined,
  "is not signed": async () => ({ ...bundle({ version: 9 }) }) as unknown as Json,
  "is a list": async () => [1],
  "is no text": async () => ({ jws: 7 }),
  "is empty": async () => ({ jws: "" }),
  "is signed by another root key": async () => ({ jws: await signBundle(bundle({ version: 9 }), generateKeyPair("Ed25519")) }),
  "is signed by another root key under the name of ours": async (_, { root }) => ({
    jws: await signJws({ ...generateKeyPair("Ed25519"), kid: root.kid }, "mcp-swarm-bundle+jws", bundle({ version: 9 }) as never),
  }),
  "is something else that the root key signed": async (_, { root }) => ({
    jws: await signJws(root, "mcp-swarm-other+jws", bundle({ version: 9 }) as never),
  }),
  "is of a kind that this version does not know": async (_, { root }) => ({
    jws: await signJws(root, "mcp-swarm-bundle+jws", { ...bundle({ version: 9 }), more: 1 } as never),
  }),
  "was edited": async (jws) => {
    const [head, , signature] = jws.split(".");
    return { jws: [head, Buffer.from(JSON.stringify(bundle({ version: 9 }))).toString("base64url"), signature].join(".") };
  },
  "has no signature": async (jws) => ({ jws: `${jws.split(".").slice(0, 2).join(".")}.` }),
  "says that it needs none": async () => ({
    jws: `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from(JSON.stringify(bundle())).toString("base64url")}.`,
  }),
  "brings its key along": async () => {
    const { privateKey, publicKey } = generateKeyPair("Ed25519");
    const jwk = { kty: "OKP", crv: "Ed25519", x: publicKey };
    const signing = new CompactSign(Buffer.from(JSON.stringify(bundle({ version: 9 }))));
    return {
      jws: await signing
        .setProtectedHeader({ alg: "EdDSA", typ: "mcp-swarm-bundle+jws", kid: kidOf(publicKey), jwk })
        .sign(privateKey),
    };
  },
  "is older": async (_, { root }) => ({ jws: await signBundle(bundle({ version: 1 }), root) }),
  "is another of the same version": async (_, { root }) => ({ jws: await signBundle(bundle({ version: 3, epoch: 7 }), root) }),
};

describe("a process of a secured swarm", () => {
  test.each(Object.keys(replaced))(
    "goes on with the last good bundle when the one in the store %s, and closes ten minutes later",
    async (how) => {
      verifies("SEC-05");
      await swarm.join("ann", { roles: ["worker"] });
      await swarm.administrator.quarantine("ann", true); // version 3 is in force
      const trust = await swarm.process("ann");
      const before = trust.bundle;
      expect(before.version).toBe(3);
      const jws = (await swarm.read(BUNDLE_KEY)) as { jws: string };
      await swarm.write(BUNDLE_KEY, await replaced[how]?.(jws.jws, swarm));
      await trust.refresh();
      expect(trust.bundle).toBe(before);
      expect(trust.principal("ann")?.quarantined).toBe(true);
      expect(swarm.faults).toHaveLength(1);

      for (let passed = 0; passed < TRUST_AGE_MS_MAX - TRUST_ROUND_MS; passed += TRUST_ROUND_MS)
        await swarm.clock.advance(TRUST_ROUND_MS);
      expect(check(trust)).not.toThrow();
      await swarm.clock.advance(TRUST_ROUND_MS);
      expect(check(trust)).toThrow(CLOSED);
      expect(() => trust.bundle).toThrow(CLOSED);
      expect(swarm.faults).toHaveLength(1); // said once

      await swarm.write(BUNDLE_KEY, { ...jws });
      await trust.refresh();
      expect(check(trust)).not.toThrow();
    },
  );

  test.each(Object.keys(replaced).filter((how) => how !== "is another of the same version"))(
    "is closed from the start when its bundle %s",
    async (how) => {
      verifies("SEC-05");
      await swarm.join("ann");
      const remember = versionMemory();
      await (await swarm.process("ann", { remember })).close();
      const { jws } = (await swarm.read(BUNDLE_KEY)) as { jws: string };
      await swarm.write(BUNDLE_KEY, await replaced[how]?.(jws, swarm));
      const trust = await swarm.process("ann", { remember });
      expect(check(trust)).toThrow(CLOSED);
      expect(trust.principal("ann")).toBeUndefined();
      expect(trust.selfStatus()).toBe("unknown");
      await expect(trust.verify("note", (await trust.sign("ann", "note", {})) ?? "")).rejects.toMatchObject({
        code: "unavailable",
      });
    },
  );

  test("refuses an older bundle though the process that saw the newer one is gone, until a newer one is signed after a restore", async () => {
    verifies("SEC-05");
    const remember = versionMemory();
    const administrator = new Administrator({ store: swarm.store, root: swarm.root, remember });
    const old = await swarm.read(BUNDLE_KEY);
    await administrator.enroll("ann");
    await (await swarm.process(undefined, { remember })).close();
    await swarm.write(BUNDLE_KEY, old);
    const trust = await swarm.process(undefined, { remember });
    expect(check(trust)).toThrow(CLOSED);
    await expect(administrator.enroll("ben")).rejects.toMatchObject({
      code: "failed_precondition",
      hint: expect.stringContaining("--after-restore"),
    });
    expect(await administrator.renew({ afterRestore: true })).toBe(3);
    await trust.refresh();
    expect(trust.bundle.version).toBe(3);
  });

  test("goes on through minutes without a store, and closes after ten", async () => {
    verifies("SEC-05");
    let down = false;
    const store: Store = new Proxy(swarm.store, {
      get(target, name) {
        if (down && (name === "get" || name === "getMany")) return async () => Promise.reject(new Error("no store"));
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    const trust = await swarm.process(undefined, { store });
    down = true;
    await swarm.clock.advance(TRUST_AGE_MS_MAX - 1);
    expect(check(trust)).not.toThrow();
    await swarm.clock.advance(1);
    expect(check(trust)).toThrow(CLOSED);
    down = false;
    await swarm.clock.advance(TRUST_ROUND_MS);
    await soon(() => trust.check());
  });

  test("counts ten minutes anew, and no more, when its clock was set back", async () => {
    verifies("SEC-05");
    let offset = 0;
    const { clock } = swarm;
    const trust = await Trust.open({
      store: swarm.store,
      clock: { now: () => clock.now() - offset, timer: (ms, fire) => clock.timer(ms, fire) },
      rootKey: swarm.root.publicKey,
      onError: () => {},
    });
    await swarm.write(BUNDLE_KEY, undefined);
    await trust.refresh();
    offset = 24 * 60 * 60_000;
    expect(check(trust)).not.toThrow();
    await clock.advance(TRUST_AGE_MS_MAX);
    expect(check(trust)).toThrow(CLOSED);
    await trust.close();
  });

  test("learns of a new bundle in its next round, and tells who listens once", async () => {
    verifies("SEC-05", "SEC-08");
    await swarm.join("ann");
    const trust = await swarm.process();
    let told = 0;
    trust.onChange(() => {
      told += 1;
    });
    await swarm.administrator.revoke("ann");
    await swarm.clock.advance(TRUST_ROUND_MS - 1);
    expect(trust.principal("ann")?.revoked).toBe(false);
    await swarm.clock.advance(1);
    await soon(() => expect(trust.principal("ann")?.revoked).toBe(true));
    await trust.refresh();
    expect(told).toBe(1);
  });

  test("outlives a listener that fails", async () => {
    const trust = await swarm.process();
    trust.onChange(() => {
      throw new Error("not mine");
    });
    let told = 0;
    const listening = trust.onChange(() => {
      told += 1;
    });
    await swarm.administrator.renew();
    await trust.refresh();
    expect([told, swarm.faults.length]).toEqual([1, 1]);
    listening[Symbol.dispose]();
    await swarm.administrator.renew();
    await trust.refresh();
    expect([told, trust.bundle.version]).toEqual([1, 3]);
  });

  test("does not start with a root key that is none, or that is not its agent's", async () => {
    await swarm.join("ann");
    await expect(swarm.process(undefined, { rootKey: "x" })).rejects.toMatchObject({ code: "invalid_argument" });
    const other = generateKeyPair("Ed25519").publicKey;
    await expect(swarm.process("ann", { rootKey: other })).rejects.toMatchObject({ code: "invalid_argument" });
    expect(check(await swarm.process(undefined, { rootKey: other }))).toThrow(CLOSED);
  });

  test("knows agents by the names they were enrolled under and no others, subagents as their agents", async () => {
    await swarm.join("ann", { roles: ["worker"], attributes: { team: "red" }, issuer: true });
    const trust = await swarm.process();
    const ann = {
      agentId: "ann",
      roles: ["worker"],
      attributes: { team: "red" },
      issuer: true,
      generation: 1,
      quarantined: false,
      revoked: false,
    };
    expect(trust.principal("ann")).toEqual(ann);
    expect(trust.principal("ann/reviewer")).toEqual(ann);
    for (const nobody of ["Ann", "an", "ann2", "constructor", "toString", "hasOwnProperty"]) {
      expect(trust.principal(nobody)).toBeUndefined();
      expect(await trust.keysOf(nobody)).toBeUndefined();
    }
  });
});

describe("what an agent signs", () => {
  test("is its own and its subagents', of one type, and not another's", async () => {
    verifies("SEC-05");
    await swarm.join("ann");
    await swarm.join("ben");
    const [ann, ben] = [await swarm.process("ann"), await swarm.process("ben")];
    const jws = (await ann.sign("ann/reviewer", "note", { text: "é", list: [1, { a: null }] })) ?? "";
    const { sign } = (await ben.keysOf("ann")) ?? { sign: "" };
    expect(await ben.verify("note", jws)).toEqual({
      agentId: "ann/reviewer",
      kid: kidOf(sign),
      payload: { text: "é", list: [1, { a: null }] },
    });
    await expect(ben.verify("vote", jws)).rejects.toMatchObject({ code: "unauthenticated" });
    expect(await ann.sign("ben", "note", {})).toBeUndefined();
    expect(await ann.sign("annabel", "note", {})).toBeUndefined();
    expect(await (await swarm.process()).sign("ann", "note", {})).toBeUndefined();

    const self = ann.self ?? expect.fail("ann has keys");
    for (const said of [
      { agentId: "ben", payload: {} },
      { agentId: "annabel", payload: {} },
      { payload: {} },
      { agentId: "ann" },
    ]) {
      const forged = await signJws(self.sign, "mcp-swarm-note+jws", said);
      await expect(ben.verify("note", forged, { whenever: true }), JSON.stringify(said)).rejects.toMatchObject({
        code: "unauthenticated",
      });
    }
    const named = await signJws({ ...self.sign, kid: ben.self?.sign.kid ?? "" }, "mcp-swarm-note+jws", {
      agentId: "ben",
      payload: {},
    });
    await expect(ben.verify("note", named)).rejects.toMatchObject({ code: "unauthenticated" });
    const stranger = await signJws(generateKeyPair("Ed25519"), "mcp-swarm-note+jws", { agentId: "ann", payload: {} });
    await expect(ben.verify("note", stranger)).rejects.toMatchObject({ code: "unauthenticated" });
    await expect(ann.sign("ann", "note", { text: "x".repeat(1_200_000) })).rejects.toMatchObject({ code: "limit_exceeded" });
  });

  test("is good as long as its key is, and stays checkable when the key was rotated, replaced or revoked", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const [ann, ben] = [await swarm.process("ann"), await swarm.process()];
    const said: string[] = [];
    const say = async () => void said.push((await ann.sign("ann", "note", { n: said.length })) ?? "");
    const inForce = async () => {
      const results = await Promise.all(
        said.map((jws) =>
          ben.verify("note", jws).then(
            () => true,
            () => false,
          ),
        ),
      );
      return results.flatMap((good, n) => (good ? [n] : []));
    };
    await say();
    await rotateOwn({ store: swarm.store, trust: ann, keyFile: swarm.keyFile("ann") });
    await say();
    await ben.refresh();
    expect(await inForce()).toEqual([1]);
    await swarm.administrator.renew();
    await rotateOwn({ store: swarm.store, trust: ann, keyFile: swarm.keyFile("ann") });
    await say();
    await ben.refresh();
    expect(await inForce()).toEqual([2]);
    const { token } = await swarm.administrator.replaceKeys("ann");
    await ben.refresh();
    expect(await inForce()).toEqual([]);
    const { redeem } = await import("../src/trust/index.ts");
    await redeem({ store: swarm.store, token, keyFile: swarm.keyFile("ann") });
    await ann.refresh();
    expect(ann.selfStatus()).toBe("ok"); // the key file was taken up again
    await say();
    expect(await inForce()).toEqual([3]);
    await swarm.administrator.revoke("ann");
    await ben.refresh();
    expect(await inForce()).toEqual([]);
    const fresh = await swarm.process();
    for (const [n, jws] of said.entries())
      expect(await fresh.verify("note", jws, { whenever: true })).toMatchObject({ payload: { n } });
  });
});
