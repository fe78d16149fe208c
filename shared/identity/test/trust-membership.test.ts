import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { afterEach, beforeEach, describe, expect, inject, test, vi } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { freshDatabase } from "../../../test/support/postgres.ts";
import { fingerprintOf, onceCall } from "../src/index.ts";
import { BUNDLE_LENGTH_MAX, signedLength } from "../src/trust/bundle.ts";
import { CERTIFICATES_MAX, kidKey, memberKey, signCertificate } from "../src/trust/certificate.ts";
import {
  Administrator,
  type AgentKeys,
  BUNDLE_KEY,
  ENROLMENT_MS,
  findKeys,
  generateKeyPair,
  kidOf,
  parseEnrolmentToken,
  readKeyFile,
  redeem,
  rotateOwn,
  signJws,
  TRUST_ROUND_MS,
  Trust,
} from "../src/trust/index.ts";
import { EVERYTHING, TrustSwarm, versionMemory } from "./trust-swarm.ts";

let swarm: TrustSwarm;
beforeEach(async () => {
  swarm = await TrustSwarm.secured();
});
afterEach(() => swarm[Symbol.asyncDispose]());

const take = (token: string, name: string, store: Store = swarm.store) => redeem({ store, token, keyFile: swarm.keyFile(name) });
const rotate = (trust: Trust, name: string, store: Store = swarm.store) =>
  rotateOwn({ store, trust, keyFile: swarm.keyFile(name) });
const soon = (expectation: () => unknown) => vi.waitFor(expectation, { timeout: 10_000, interval: 5 });
const refused = (code: string) => expect.objectContaining({ code });

/** A store whose commits may end in an answer that never arrives. */
function losesAnswers(store: Store): Store & { losing: boolean } {
  const state = { losing: false };
  return new Proxy(store, {
    get(target, name) {
      if (name === "losing") return state.losing;
      const member: unknown = Reflect.get(target, name);
      if (name === "transact" && state.losing) {
        return async (plan: Parameters<Store["transact"]>[0]) => {
          await target.transact(plan);
          throw new SwarmError("unavailable", "The answer was lost.");
        };
      }
      return typeof member === "function" ? member.bind(target) : member;
    },
    set(_, name, value: boolean) {
      if (name === "losing") state.losing = value;
      return true;
    },
  }) as Store & { losing: boolean };
}

describe("securing a swarm", () => {
  test("happens once, and leaves no secret in the store", async () => {
    verifies("SEC-01");
    await expect(new Administrator({ store: swarm.store, root: generateKeyPair("Ed25519") }).init([])).rejects.toEqual(
      refused("already_exists"),
    );
    const { token } = await swarm.administrator.enroll("ann");
    const secret = Buffer.from(token.slice("swarm_enrol_".length), "base64url").subarray(0, 32);
    expect(secret).toHaveLength(32);
    const keys = await take(token, "ann");
    const rows = await swarm.store.snapshot(async (view) => {
      const spaces = await view.namespaces();
      return Promise.all(spaces.map((space) => view.scan(prefixRange(`${space}/`, 1_000))));
    });
    const text = JSON.stringify(rows.flat()).concat(...rows.flat().map((row) => decoded(row.value)));
    expect(text).toContain(keys.sign.publicKey);
    for (const bytes of [
      secret,
      ...[keys.sign, keys.encrypt, swarm.root].map((pair) =>
        pair.privateKey.export({ format: "der", type: "pkcs8" }).subarray(-32),
      ),
    ]) {
      for (const form of ["base64url", "base64", "hex"] as const) expect(text).not.toContain(bytes.toString(form));
    }
  });

  /** The parts of every JWS in a row, those inside others too. */
  function decoded(value: unknown): string {
    const parts = JSON.stringify(value).match(/[A-Za-z0-9_-]{40,}/g) ?? [];
    return (
      parts.map((part) => Buffer.from(part, "base64url").toString()).join(" ") +
      parts.flatMap((part) => (part.length > 600 ? decoded(Buffer.from(part, "base64url").toString()) : [])).join(" ")
    );
  }

  test("by another root key over the same store is refused by every step", async () => {
    const foreign = new Administrator({ store: swarm.store, root: generateKeyPair("Ed25519") });
    await expect(foreign.enroll("ann")).rejects.toEqual(refused("failed_precondition"));
    await expect(foreign.renew({ afterRestore: true })).rejects.toEqual(refused("failed_precondition"));
    await swarm.write(BUNDLE_KEY, undefined);
    await expect(swarm.administrator.revoke("ann")).rejects.toEqual(refused("failed_precondition"));
  });
});

describe("a one-time token", () => {
  test("makes the agent a member whose keys any process believes, and the next bundle vouches for them", async () => {
    verifies("SEC-01");
    const watching = await swarm.process();
    const { token } = await swarm.administrator.enroll("ann", { roles: ["worker", "worker"], attributes: { team: "red" } });
    await watching.refresh();
    expect(await watching.keysOf("ann")).toBeUndefined();
    const keys = await take(token, "ann");
    expect(keys).toMatchObject({ agentId: "ann", generation: 1, rootKey: swarm.root.publicKey });
    expect((await watching.signerOf(keys.sign.kid))?.inForce).toBe(true); // the key names the way to its holder
    const ann = await swarm.process("ann");
    expect(ann.selfStatus()).toBe("ok");
    expect(ann.principal("ann")).toMatchObject({ roles: ["worker"], attributes: { team: "red" } });
    await swarm.administrator.renew();
    await ann.refresh();
    expect(ann.bundle.members.ann).toMatchObject({ keys: { sign: keys.sign.publicKey, encrypt: keys.encrypt.publicKey } });
    expect(ann.bundle.members.ann?.enrolment).toBeUndefined();
    await swarm.write(memberKey("ann"), undefined); // no longer needed
    await swarm.write(kidKey(keys.sign.kid), undefined);
    expect((await swarm.process("ann")).selfStatus()).toBe("ok");
  });

  test("is good once: with the key file of the first time it answers that, and else it is refused", async () => {
    verifies("SEC-01");
    const { token } = await swarm.administrator.enroll("ann");
    const keys = await take(`  ${token}\n`, "ann");
    expect((await take(token, "ann")).sign.kid).toBe(keys.sign.kid);
    await expect(take(token, "thief")).rejects.toEqual(refused("failed_precondition"));
    expect(existsSync(swarm.keyFile("thief"))).toBe(false);
    await swarm.administrator.renew();
    await expect(take(token, "thief")).rejects.toEqual(refused("failed_precondition"));
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual(["ann.json"]);
  });

  test("is good for ten minutes and no longer, and then leaves the bundle", async () => {
    verifies("SEC-01");
    const [early, late] = [await swarm.administrator.enroll("early"), await swarm.administrator.enroll("late")];
    await swarm.clock.advance(ENROLMENT_MS);
    await take(early.token, "early");
    await swarm.clock.advance(1);
    await expect(take(late.token, "late")).rejects.toEqual(refused("failed_precondition"));
    expect(existsSync(swarm.keyFile("late"))).toBe(false);
    await swarm.clock.advance(60_000);
    await swarm.administrator.renew();
    const { bundle } = await swarm.administrator.read();
    expect(bundle.members.early?.keys).toBeDefined();
    expect(bundle.members.late).toEqual({ roles: [], generation: 1 });
    const again = await swarm.administrator.enroll("late");
    await expect(take(late.token, "late")).rejects.toEqual(refused("failed_precondition"));
    expect((await take(again.token, "late")).generation).toBe(2);
  });

  test("that ends while its redemption waits for the store is refused by the commit", async () => {
    verifies("SEC-01");
    const { token } = await swarm.administrator.enroll("ann");
    const slow: Store = new Proxy(swarm.store, {
      get(target, name) {
        if (name === "transact") {
          return async (plan: Parameters<Store["transact"]>[0]) => {
            await swarm.clock.advance(ENROLMENT_MS + 1);
            return target.transact(plan);
          };
        }
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    await expect(take(token, "ann", slow)).rejects.toEqual(refused("failed_precondition"));
    expect(await swarm.read(memberKey("ann"))).toBeUndefined();
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual([]);
  });

  test("that is withdrawn while its redemption waits for the store is refused by the commit", async () => {
    verifies("SEC-01");
    const { token } = await swarm.administrator.enroll("ann");
    let withdrawn = false;
    const slow: Store = new Proxy(swarm.store, {
      get(target, name) {
        if (name === "transact") {
          return async (plan: Parameters<Store["transact"]>[0]) => {
            if (!withdrawn) await swarm.administrator.revoke("ann");
            withdrawn = true;
            return target.transact(plan);
          };
        }
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    await expect(take(token, "ann", slow)).rejects.toEqual(refused("failed_precondition"));
    expect(await swarm.read(memberKey("ann"))).toBeUndefined();
    expect(existsSync(swarm.keyFile("ann"))).toBe(false);
  });

  test("is good for its own swarm alone, and only whole", async () => {
    verifies("SEC-01");
    const { token } = await swarm.administrator.enroll("ann");
    await using other = await TrustSwarm.secured();
    await expect(take(token, "ann", other.store)).rejects.toEqual(refused("failed_precondition"));
    for (const text of [
      "",
      "swarm_enrol_",
      token.slice(0, -1),
      `${token}A`,
      token.slice(3),
      `${token}=`,
      token.replace("swarm", "Swarm"),
    ]) {
      expect(() => parseEnrolmentToken(text), text).toThrow(refused("invalid_argument"));
    }
    const wrapped = ` ${token.slice(0, 40)}\n${token.slice(40, 70)}\r\n  ${token.slice(70)}\n`; // as mail does
    expect(parseEnrolmentToken(wrapped).key.publicKey).toBe(parseEnrolmentToken(token).key.publicKey);
    const bytes = Buffer.from(token.slice("swarm_enrol_".length), "base64url");
    for (const at of [0, 31, 32, 63]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(take(`swarm_enrol_${changed.toString("base64url")}`, "x")).rejects.toBeInstanceOf(SwarmError);
    }
    expect(await swarm.read(memberKey("ann"))).toBeUndefined();
  });

  test("writes over no key file but the agent's own of dead keys", async () => {
    await swarm.join("ann");
    const { token } = await swarm.administrator.enroll("ben");
    const before = readFileSync(swarm.keyFile("ann"), "utf8");
    await expect(take(token, "ann")).rejects.toEqual(refused("already_exists"));
    expect(readFileSync(swarm.keyFile("ann"), "utf8")).toBe(before);
    const old = await readKeyFile(swarm.keyFile("ann"));
    const second = await swarm.administrator.enroll("cid");
    await take(second.token, "cid");
    await swarm.write(memberKey("cid"), undefined); // as in a store of before, brought back from a backup
    await expect(take(second.token, "cid")).rejects.toEqual(refused("already_exists"));
    const replaced = await take((await swarm.administrator.replaceKeys("ann")).token, "ann");
    expect(replaced.generation).toBe(2);
    expect(replaced.formerEncrypt.map(({ kid }) => kid)).toEqual([old.encrypt.kid]);
  });

  test("whose commit was not answered is found redeemed when it is tried again", async () => {
    verifies("SEC-01");
    const { token } = await swarm.administrator.enroll("ann");
    const store = losesAnswers(swarm.store);
    store.losing = true;
    await expect(take(token, "ann", store)).rejects.toEqual(refused("unavailable"));
    expect(existsSync(swarm.keyFile("ann"))).toBe(false);
    store.losing = false;
    const keys = await take(token, "ann", store);
    expect((await swarm.process("ann")).self?.sign.kid).toBe(keys.sign.kid);
    expect((await swarm.process("ann")).selfStatus()).toBe("ok");
  });

  test.each(["memory", "SQLite", "PostgreSQL"])(
    "redeemed by several at once on %s makes one of them the agent",
    async (engine) => {
      verifies("SEC-01");
      const urls: Record<string, () => Promise<string> | string> = {
        SQLite: () => `sqlite:${join(swarm.folder, "swarm.db")}`,
        PostgreSQL: () => freshDatabase(inject("postgresUrl")),
      };
      const url = await urls[engine]?.();
      const stores = url === undefined ? [swarm.store] : [await openStore(url), await openStore(url)];
      const first = stores[0] ?? expect.fail("a store");
      const administrator = engine === "memory" ? swarm.administrator : new Administrator({ store: first, root: swarm.root });
      try {
        if (engine !== "memory") await administrator.init([EVERYTHING]);
        for (let round = 0; round < 5; round++) {
          const { token } = await administrator.enroll(`agent-${round}`);
          const tries = Array.from({ length: 4 }, (_, n) => take(token, `a-${round}-${n}`, stores[n % stores.length] ?? first));
          const results = await Promise.allSettled(tries);
          const won = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
          expect(won).toHaveLength(1);
          for (const result of results)
            if (result.status === "rejected") expect(result.reason).toEqual(refused("failed_precondition"));
          await administrator.renew();
          const { bundle } = await administrator.read();
          expect(bundle.members[`agent-${round}`]?.keys?.sign).toBe(won[0]?.sign.publicKey);
        }
        expect(readdirSync(dirname(swarm.keyFile("x")))).toHaveLength(5);
      } finally {
        if (engine !== "memory") for (const store of stores) await store.close();
      }
    },
  );
});

describe("what a member's row holds", () => {
  const chain = (row: unknown) => (row as { certificates: string[] }).certificates;
  const status = async (agentId: string) => (await swarm.process(agentId)).selfStatus();

  test("proves nothing when it is another member's, of another generation, or signed by anyone else", async () => {
    verifies("SEC-05");
    const ben = await swarm.join("ben");
    const { token } = await swarm.administrator.enroll("ann");
    const ann = await take(token, "ann"); // no bundle has taken her keys in
    const [annRow, benRow] = [await swarm.read(memberKey("ann")), await swarm.read(memberKey("ben"))];
    const thief = { ...ann, sign: generateKeyPair("Ed25519"), encrypt: generateKeyPair("X25519") };
    const now = await swarm.store.now();
    const of = { agentId: "ann", generation: 1, issuedAt: now };
    const key = parseEnrolmentToken(token).key;
    const stolen = (keys: AgentKeys, claim: string) =>
      signJws(key, "mcp-swarm-key+jws", { claim }).then((jws) => ({ certificates: [jws], keys }));
    const claimOf = (by: AgentKeys, keys: AgentKeys) =>
      signJws(by.sign, "mcp-swarm-key-claim+jws", {
        ...of,
        keys: { sign: keys.sign.publicKey, encrypt: keys.encrypt.publicKey },
      });
    const rows: Record<string, unknown> = {
      "another member's": benRow,
      "signed by another member": { certificates: [await signCertificate(thief, of, ben.sign)] },
      "signed by itself": { certificates: [await signCertificate(thief, of, thief.sign)] },
      "of another name": { certificates: [await signCertificate(thief, { ...of, agentId: "ben" }, key)] },
      "of a generation to come": { certificates: [await signCertificate(thief, { ...of, generation: 2 }, key)] },
      "made after the token ended": {
        certificates: [await signCertificate(thief, { ...of, issuedAt: now + ENROLMENT_MS + 1 }, key)],
      },
      "of a key that is not held": await stolen(ben, await claimOf(thief, ben)),
      "of a key whose name is another's": await stolen(
        ben,
        await signJws({ ...thief.sign, kid: ben.sign.kid }, "mcp-swarm-key-claim+jws", {
          ...of,
          keys: { sign: ben.sign.publicKey, encrypt: ben.encrypt.publicKey },
        }),
      ),
      "a chain without its beginning": { certificates: [await signCertificate(thief, of, ann.sign)] },
      "no list": { certificates: "x" },
      "too many": { certificates: Array.from({ length: CERTIFICATES_MAX + 1 }, () => chain(annRow)[0]) },
      "something else": ["x"],
      "not there": undefined,
    };
    for (const [what, row] of Object.entries(rows)) {
      await swarm.write(memberKey("ann"), row);
      expect(await (await swarm.process()).keysOf("ann"), what).toBeUndefined();
      expect(await status("ann"), what).toBe("unknown");
    }
    await swarm.write(memberKey("ann"), { certificates: [...chain(annRow), "x", ...chain(benRow)] });
    expect((await (await swarm.process()).keysOf("ann"))?.sign).toBe(ann.sign.publicKey); // what follows from the bundle stands
    expect((await (await swarm.process()).keysOf("ben"))?.sign).toBe(ben.sign.publicKey);
  });

  test("is not believed again when it goes back to what it was, or to something else by an old key", async () => {
    verifies("SEC-05", "SEC-08");
    const old = await swarm.join("ann");
    const before = await swarm.read(memberKey("ann"));
    const [ann, watching] = [await swarm.process("ann"), await swarm.process()];
    await rotate(ann, "ann");
    await watching.keysOf("ann");
    const inForce = ann.self?.sign.publicKey;
    const thief = { ...old, sign: generateKeyPair("Ed25519") };
    const fork = await signCertificate(thief, { agentId: "ann", generation: 1, issuedAt: await swarm.store.now() }, old.sign);
    for (const row of [before, undefined, { certificates: [...chain(before), fork] }]) {
      await swarm.write(memberKey("ann"), row);
      await watching.refresh();
      expect((await watching.keysOf("ann"))?.sign).toBe(inForce);
      expect(await watching.signerOf(old.sign.kid)).toMatchObject({ inForce: false });
      expect(await watching.signerOf(thief.sign.kid)).toBeUndefined();
    }
    expect(swarm.faults).toHaveLength(3);
    await watching.refresh();
    expect(swarm.faults).toHaveLength(3);
  });

  test("of an older generation is dead, whatever it holds", async () => {
    verifies("SEC-08");
    const old = await swarm.join("ann");
    const watching = await swarm.process("ann");
    const before = await swarm.read(memberKey("ann"));
    const { token } = await swarm.administrator.replaceKeys("ann");
    await watching.refresh();
    expect(watching.selfStatus()).toBe("replaced");
    await swarm.write(memberKey("ann"), before);
    await watching.refresh();
    expect(await watching.keysOf("ann")).toBeUndefined();
    expect(await watching.signerOf(old.sign.kid)).toMatchObject({ agentId: "ann", inForce: false });
    const fresh = await take(token, "ann");
    await watching.refresh();
    expect((await watching.keysOf("ann"))?.sign).toBe(fresh.sign.publicKey);
  });

  test("may not go back to a key that was replaced", async () => {
    verifies("SEC-08");
    const old = await swarm.join("ann");
    const trust = await swarm.process("ann");
    await rotate(trust, "ann");
    const now = trust.self ?? expect.fail("ann has keys");
    for (const vouched of [false, true]) {
      if (vouched) await swarm.administrator.renew();
      const back = await signCertificate(old, { agentId: "ann", generation: 1, issuedAt: await swarm.store.now() }, now.sign);
      await swarm.write(memberKey("ann"), { certificates: [...chain(await swarm.read(memberKey("ann"))), back] });
      expect((await (await swarm.process()).keysOf("ann"))?.sign).toBe(now.sign.publicKey);
    }
    await swarm.administrator.renew();
    expect((await swarm.administrator.read()).bundle.members.ann?.keys?.sign).toBe(now.sign.publicKey);
  });

  test("a hint that leads to somebody else proves nothing", async () => {
    await swarm.join("ben");
    const ann = await swarm.join("ann");
    await swarm.write(kidKey(ann.sign.kid), { agentId: "ben" });
    expect(await (await swarm.process()).signerOf(ann.sign.kid)).toBeUndefined();
    for (const hint of [undefined, "ann", { agentId: 7 }, { agentId: "constructor" }]) {
      await swarm.write(kidKey(ann.sign.kid), hint);
      expect(await (await swarm.process()).signerOf(ann.sign.kid)).toBeUndefined();
    }
    await swarm.administrator.renew();
    expect(await (await swarm.process()).signerOf(ann.sign.kid)).toMatchObject({ agentId: "ann", inForce: true });
  });

  test("is looked for again in the next round when a key was nobody's before", async () => {
    const watching = await swarm.process();
    const { token } = await swarm.administrator.enroll("ann");
    await watching.refresh();
    const keys = await take(token, "ann");
    const [row, hint] = [await swarm.read(memberKey("ann")), await swarm.read(kidKey(keys.sign.kid))];
    await swarm.write(memberKey("ann"), undefined);
    await swarm.write(kidKey(keys.sign.kid), undefined);
    expect(await watching.signerOf(keys.sign.kid)).toBeUndefined();
    await swarm.write(memberKey("ann"), row);
    await swarm.write(kidKey(keys.sign.kid), hint);
    expect(await watching.signerOf(keys.sign.kid)).toBeUndefined(); // a flood of unknown keys costs one read each, and round
    await watching.refresh();
    expect(await watching.signerOf(keys.sign.kid)).toMatchObject({ agentId: "ann", inForce: true });
  });

  test("counts on while a new bundle is being read that has not taken it in", async () => {
    await swarm.join("ann");
    const [ann, jws] = [await swarm.process("ann"), await swarm.read(BUNDLE_KEY)];
    const gate = { closed: false, open: () => {} };
    const gated: Store = new Proxy(swarm.store, {
      get(target, name) {
        if (name === "getMany" && gate.closed) {
          return async (keys: readonly string[]) => {
            await new Promise<void>((open) => {
              gate.open = open;
            });
            return target.getMany(keys);
          };
        }
        const member: unknown = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    const watching = await swarm.process(undefined, { store: gated });
    const said = (await ann.sign("ann", "note", { n: 1 })) ?? "";
    await watching.verify("note", said);
    const row = await swarm.read(memberKey("ann"));
    await swarm.write(memberKey("ann"), undefined); // so that the next bundle does not vouch for her
    await swarm.administrator.setPolicy({ ...EVERYTHING, id: "more" });
    await swarm.write(memberKey("ann"), row);
    expect(await swarm.read(BUNDLE_KEY)).not.toEqual(jws);
    gate.closed = true;
    const reading = watching.refresh();
    await soon(() => expect(watching.bundle.version).toBe(3));
    expect(await watching.verify("note", said)).toMatchObject({ agentId: "ann" });
    gate.closed = false;
    gate.open();
    await reading;
  });

  test("with the same key as another member's does not keep the root key from signing", async () => {
    const ann = await swarm.join("ann");
    await swarm.administrator.renew();
    const { token } = await swarm.administrator.enroll("twin");
    const certificate = await signCertificate(
      ann,
      { agentId: "twin", generation: 1, issuedAt: await swarm.store.now() },
      parseEnrolmentToken(token).key,
    );
    await swarm.write(memberKey("twin"), { certificates: [certificate] });
    await swarm.administrator.renew();
    const trust = await swarm.process("ann");
    await trust.keysOf("twin");
    expect(trust.bundle.members.twin?.keys).toBeUndefined();
    expect(await trust.signerOf(ann.sign.kid)).toMatchObject({ agentId: "ann", inForce: true });
  });
});

describe("rotation by the agent itself", () => {
  test("is in force everywhere one round later, in the agent's other processes too", async () => {
    verifies("SEC-08");
    const old = await swarm.join("ann");
    const [here, elsewhere, other] = [await swarm.process("ann"), await swarm.process("ann"), await swarm.process()];
    await other.keysOf("ann");
    const kid = await rotate(here, "ann");
    expect(here.self?.sign.kid).toBe(kid);
    expect(here.selfStatus()).toBe("ok");
    expect((await readKeyFile(swarm.keyFile("ann"))).sign.kid).toBe(kid);
    expect(here.self?.formerEncrypt.map((pair) => pair.kid)).toEqual([old.encrypt.kid]);
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual(["ann.json"]);
    await swarm.clock.advance(TRUST_ROUND_MS);
    await soon(async () => {
      expect(await other.signerOf(old.sign.kid)).toMatchObject({ inForce: false });
      expect(kidOf((await other.keysOf("ann"))?.sign ?? "")).toBe(kid);
      expect(elsewhere.self?.sign.kid).toBe(kid);
      expect(elsewhere.selfStatus()).toBe("ok");
    });
    expect(swarm.faults).toEqual([]);
  });

  test("goes on ten times, and again after the root key took the new keys in", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const [trust, watching] = [await swarm.process("ann"), await swarm.process()];
    const kids = [trust.self?.sign.kid];
    for (let n = 1; n < CERTIFICATES_MAX; n++) kids.push(await rotate(trust, "ann"));
    await expect(rotate(trust, "ann")).rejects.toEqual(refused("limit_exceeded"));
    await watching.keysOf("ann");
    await swarm.administrator.renew();
    await trust.refresh();
    kids.push(await rotate(trust, "ann"));
    await watching.refresh();
    for (const trusting of [watching, await swarm.process()]) {
      expect(kidOf((await trusting.keysOf("ann"))?.sign ?? "")).toBe(kids.at(-1));
      for (const kid of kids.slice(1, -1))
        expect(await trusting.signerOf(kid ?? "")).toMatchObject({ agentId: "ann", inForce: false });
    }
    expect((await readKeyFile(swarm.keyFile("ann"))).formerEncrypt).toHaveLength(10);
    expect(swarm.faults).toEqual([]);
  });

  test("whose commit was not answered leaves the agent with the keys in force", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const trust = await swarm.process("ann");
    const store = losesAnswers(swarm.store);
    store.losing = true;
    const before = trust.self?.sign.kid;
    await expect(rotate(trust, "ann", store)).rejects.toEqual(refused("unavailable"));
    expect((await readKeyFile(swarm.keyFile("ann"))).sign.kid).toBe(before);
    const fresh = await swarm.process("ann"); // a new process starts from the old file
    expect(fresh.self?.sign.kid).not.toBe(before);
    expect(fresh.selfStatus()).toBe("ok");
    expect((await readKeyFile(swarm.keyFile("ann"))).sign.kid).toBe(fresh.self?.sign.kid);
    await trust.refresh();
    expect(trust.selfStatus()).toBe("ok");
  });

  test("that could not be committed leaves everything as it was", async () => {
    const old = await swarm.join("ann");
    const trust = await swarm.process("ann");
    const failing = async () => Promise.reject(new SwarmError("limit_exceeded", "The disk is full."));
    await expect(rotateOwn({ store: swarm.store, trust, keyFile: swarm.keyFile("ann") }, failing)).rejects.toEqual(
      refused("limit_exceeded"),
    );
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual(["ann.json"]);
    expect((await readKeyFile(swarm.keyFile("ann"))).sign.kid).toBe(old.sign.kid);
    await trust.refresh();
    expect(trust.selfStatus()).toBe("ok");
  });

  test("by several processes of one agent at once ends with one key that all of them have", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const processes = [await swarm.process("ann"), await swarm.process("ann"), await swarm.process("ann")];
    const made = await Promise.all(processes.map((trust) => rotate(trust, "ann")));
    for (const trust of processes) await trust.refresh();
    const [kid] = [...new Set(processes.map((trust) => trust.self?.sign.kid))];
    expect(processes.map((trust) => [trust.selfStatus(), trust.self?.sign.kid])).toEqual(processes.map(() => ["ok", kid]));
    expect((await readKeyFile(swarm.keyFile("ann"))).sign.kid).toBe(kid);
    expect(await findKeys(swarm.keyFile("ann"), kid ?? "")).toBeDefined();
    const fresh = await swarm.process();
    await fresh.keysOf("ann");
    for (const one of made) expect(await fresh.signerOf(one)).toMatchObject({ agentId: "ann", inForce: one === kid });
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual(["ann.json"]);
  });

  test("refuses nothing of the agent's other processes while they take the new keys up", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const rotating = await swarm.process("ann");
    const looks: { found(): void }[] = [];
    const other = await Trust.open({
      store: swarm.store,
      clock: swarm.clock,
      rootKey: swarm.root.publicKey,
      self: await readKeyFile(swarm.keyFile("ann")),
      reloadSelf: async (kid) => {
        await new Promise<void>((found) => void looks.push({ found }));
        return await findKeys(swarm.keyFile("ann"), kid);
      },
      onError: (error) => void swarm.faults.push(error),
    });
    try {
      const before = other.self?.sign.kid;
      const first = await rotate(rotating, "ann");
      await other.signerOf(first); // it meets the new key before a round does
      expect([other.self?.sign.kid, other.selfStatus()]).toEqual([before, "ok"]);
      const round = other.refresh();
      await soon(() => expect(looks).toHaveLength(1));
      expect([other.self?.sign.kid, other.selfStatus()]).toEqual([before, "ok"]);
      const second = await rotate(rotating, "ann"); // and another is faster than its look
      looks[0]?.found();
      await soon(() => expect(looks).toHaveLength(2));
      expect(other.selfStatus()).toBe("ok");
      looks[1]?.found();
      await round;
      expect([other.self?.sign.kid, other.selfStatus()]).toEqual([second, "ok"]);
    } finally {
      await other.close();
    }
    expect(swarm.faults).toEqual([]);
  });

  test("ends a copy of the old keys in the next round, also when that cannot look for the new ones", async () => {
    verifies("SEC-08");
    await swarm.join("ann");
    const rotating = await swarm.process("ann");
    for (const reloadSelf of [async () => undefined, async () => Promise.reject(new Error("No such disk"))]) {
      const self = rotating.self ?? expect.fail("ann has keys");
      const { store, clock, faults } = swarm;
      const onError = (error: unknown) => void faults.push(error);
      const copy = await Trust.open({ store, clock, rootKey: swarm.root.publicKey, self, reloadSelf, onError });
      try {
        await rotate(rotating, "ann");
        expect(copy.selfStatus()).toBe("ok");
        await copy.refresh();
        expect(copy.selfStatus()).toBe("replaced");
      } finally {
        await copy.close();
      }
    }
    expect(swarm.faults).toHaveLength(1);
  });

  test("is for who has a key in force, and a repetition of the call changes nothing more", async () => {
    verifies("CORE-12", "SEC-08");
    await swarm.join("ann");
    const trust = await swarm.process("ann");
    const call = () =>
      onceCall(
        { store: swarm.store, caller: { agentId: "ann", verified: true, processId: "p" } },
        { key: "k", fingerprint: fingerprintOf("rotate_keys", {}) },
      );
    const first = await rotateOwn({ store: swarm.store, trust, keyFile: swarm.keyFile("ann") }, call().transact);
    expect(await rotateOwn({ store: swarm.store, trust, keyFile: swarm.keyFile("ann") }, call().transact)).toBe(first);
    expect([trust.self?.sign.kid, trust.selfStatus()]).toEqual([first, "ok"]);
    expect(readdirSync(dirname(swarm.keyFile("ann")))).toEqual(["ann.json"]);
    await swarm.administrator.revoke("ann");
    await trust.refresh();
    await expect(rotate(trust, "ann")).rejects.toEqual(refused("failed_precondition"));
    await expect(rotate(await swarm.process(), "ann")).rejects.toEqual(refused("failed_precondition"));
  });
});

describe("the keeper of the root key", () => {
  test("takes an agent out, into quarantine and back, in force in eight processes one round later", async () => {
    verifies("SEC-08");
    await swarm.join("ann", { roles: ["worker"] });
    const processes: Trust[] = [];
    for (let n = 0; n < 8; n++) processes.push(await swarm.process("ann"));
    const all = async (expected: string, quarantined: boolean) => {
      await swarm.clock.advance(TRUST_ROUND_MS);
      await soon(() => {
        expect(processes.map((trust) => trust.selfStatus())).toEqual(processes.map(() => expected));
        expect(processes.every((trust) => trust.quarantined("ann/sub") === quarantined)).toBe(true);
      });
    };
    await swarm.administrator.quarantine("ann", true);
    await all("quarantined", true);
    await swarm.administrator.quarantine("ann", false);
    await all("ok", false);
    await swarm.administrator.revoke("ann");
    await all("revoked", false);
    await expect(swarm.administrator.replaceKeys("ann")).rejects.toEqual(refused("failed_precondition"));
    const { token } = await swarm.administrator.enroll("ann");
    await all("replaced", false);
    await take(token, "ann");
    await all("ok", false);
    expect(processes[0]?.principal("ann")).toMatchObject({ roles: ["worker"], generation: 2 });
  });

  test("takes no bundle for an older one because somebody signs another while it is read", async () => {
    const { store, root } = swarm;
    const remember = versionMemory();
    const other = new Administrator({ store, root, remember });
    let read = 0;
    const meanwhile = new Proxy(store, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (name !== "get") return typeof member === "function" ? member.bind(target) : member;
        return async (key: string) => {
          const entry = await target.get(key);
          if (key === BUNDLE_KEY && read++ === 0) await other.bumpEpoch();
          return entry;
        };
      },
    });
    const version = await new Administrator({ store: meanwhile, root, remember }).bumpEpoch();
    expect(read).toBe(2);
    expect((await other.read()).bundle).toMatchObject({ version, epoch: 2 });
  });

  test("loses no change when several work at once", async () => {
    const url = `sqlite:${join(swarm.folder, "swarm.db")}`;
    const stores = [await openStore(url), await openStore(url)];
    try {
      const administrators = stores.map((store) => new Administrator({ store, root: swarm.root }));
      await administrators[0]?.init([EVERYTHING]);
      const versions: number[] = [];
      const work = administrators.map(async (administrator, who) => {
        for (let n = 0; n < 10; n++) {
          versions.push((await administrator.enroll(`agent-${who}-${n}`)).version);
          versions.push(await administrator.setPolicy({ ...EVERYTHING, id: `p-${who}-${n}` }));
        }
      });
      await Promise.all(work);
      expect(versions.sort((a, b) => a - b)).toEqual(Array.from({ length: 40 }, (_, n) => n + 2));
      const { bundle } = (await administrators[1]?.read()) ?? expect.fail("an administrator");
      expect(Object.keys(bundle.members)).toHaveLength(20);
      expect(bundle.policies).toHaveLength(21);
    } finally {
      for (const store of stores) await store.close();
    }
  });

  test("keeps policies, terms, epochs and single tokens, and forgets tokens that have ended", async () => {
    const { administrator, clock } = swarm;
    await swarm.join("ann", { roles: ["a"], attributes: { team: "red" }, issuer: true });
    await administrator.setPolicy({ ...EVERYTHING, effect: "forbid" });
    await administrator.setPolicy({ ...EVERYTHING, id: "more" });
    await administrator.deletePolicy("all");
    await expect(administrator.deletePolicy("all")).rejects.toEqual(refused("not_found"));
    await administrator.setTerms("ann", { roles: ["b"] });
    const { bundle } = await administrator.read();
    expect(bundle.policies).toEqual([{ ...EVERYTHING, id: "more" }]);
    expect(bundle.members.ann).toMatchObject({ roles: ["b"], attributes: { team: "red" }, issuer: true });
    await administrator.setTerms("ann", { attributes: {}, issuer: false });
    await administrator.bumpEpoch();
    await administrator.revokeToken("token-1", clock.now() + 60_000);
    const after = (await administrator.read()).bundle;
    expect(after).toMatchObject({ epoch: 1, revokedTokens: { "token-1": clock.now() + 60_000 } });
    expect(after.members.ann).toEqual({ roles: ["b"], attributes: {}, generation: 1, keys: bundle.members.ann?.keys });
    await clock.advance(60_000);
    await administrator.renew();
    expect((await administrator.read()).bundle.revokedTokens).toEqual({});
  });

  test("is refused what is no member, no agent, there already, or unreadable for every process", async () => {
    const { administrator } = swarm;
    await swarm.join("ann");
    const { bundle } = await administrator.read();
    await expect(administrator.enroll("ann")).rejects.toEqual(refused("already_exists"));
    for (const name of ["ann/sub", "a b", "", "../x"])
      await expect(administrator.enroll(name)).rejects.toEqual(refused("invalid_argument"));
    for (const nobody of ["ben", "constructor", "ann/sub"]) {
      await expect(administrator.revoke(nobody)).rejects.toEqual(refused("not_found"));
      await expect(administrator.setTerms(nobody, {})).rejects.toEqual(refused("not_found"));
    }
    const bad = JSON.parse('{"id":"x","effect":"forbid","operations":["*"],"when":{"__proto__":{"a":1}}}') as typeof EVERYTHING;
    await expect(administrator.setPolicy(bad)).rejects.toBeInstanceOf(SwarmError);
    await expect(administrator.setTerms("ann", { roles: Array.from({ length: 17 }, (_, n) => `r${n}`) })).rejects.toEqual(
      refused("invalid_argument"),
    );
    expect((await administrator.read()).bundle).toEqual(bundle);
  });

  test("gets the first outcome when a call is repeated, though the change could not be made twice", async () => {
    verifies("CORE-12");
    const { administrator, store } = swarm;
    const call = () =>
      onceCall(
        { store, caller: { agentId: "ann", verified: true, processId: "p" } },
        { key: "k", fingerprint: fingerprintOf("delete_policy", {}) },
      );
    expect(await administrator.deletePolicy("all", call().transact)).toBe(2);
    expect(await administrator.deletePolicy("all", call().transact)).toBe(2);
    expect((await administrator.read()).bundle.version).toBe(2);
  });

  test("can revoke when the bundle is full: former keys make place", async () => {
    const { administrator, root, store } = swarm;
    const { signBundle } = await import("../src/trust/index.ts");
    const member = () => ({
      roles: ["worker"],
      generation: 1,
      keys: { sign: generateKeyPair("Ed25519").publicKey, encrypt: generateKeyPair("X25519").publicKey },
      retired: Array.from({ length: 10 }, () => generateKeyPair("Ed25519").publicKey),
    });
    const members = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`agent-${n}`, member()]));
    const content = { version: 2, issuedAt: 1, epoch: 0, members, policies: [EVERYTHING], revokedTokens: {} };
    const padded = (length: number) => ({ ...content, policies: [{ ...EVERYTHING, description: "x".repeat(length) }] });
    const room = Math.floor(((BUNDLE_LENGTH_MAX - signedLength(padded(0))) * 3) / 4) - 3;
    const jws = await signBundle(padded(room), root); // a few characters are left
    await store.transact((tx) => tx.put(BUNDLE_KEY, { jws }));
    for (const agentId of ["agent-1", "agent-2"]) {
      await administrator.revoke(agentId);
      const { bundle } = await administrator.read();
      expect(bundle.members[agentId]).toMatchObject({
        revokedAt: expect.any(Number),
        retired: members[agentId]?.retired.slice(0, bundle.members[agentId]?.retired?.length),
      });
    }
    await administrator.setPolicy({ ...EVERYTHING, id: "small" });

    const wide = { version: 6, policies: [{ ...EVERYTHING, description: "x".repeat(600_000) }], members: { ann: member() } };
    await swarm.write(BUNDLE_KEY, { jws: await signBundle({ ...content, ...wide }, root) });
    const growing = [
      () => administrator.setPolicy({ ...EVERYTHING, id: "small" }),
      () => administrator.enroll("ben"),
      () => administrator.setTerms("ann", {}),
    ];
    for (const grow of growing) await expect(grow()).rejects.toEqual(refused("limit_exceeded")); // what room there is, is for revoking
    expect(await administrator.revoke("ann")).toBe(7);
  });
});
