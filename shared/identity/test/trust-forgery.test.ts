/** Whoever writes the store, but holds neither the root key nor a one-time token, speaks for nobody but itself. */
import { type Json, SwarmError } from "@mcp-swarm/core";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { kidKey, memberKey, signCertificate } from "../src/trust/certificate.ts";
import {
  type AgentKeys,
  BUNDLE_KEY,
  type Bundle,
  generateKeyPair,
  type KeyPair,
  kidOf,
  readKeyFile,
  redeem,
  rotateOwn,
  signBundle,
  signJws,
  type Trust,
} from "../src/trust/index.ts";
import { TrustSwarm, versionMemory } from "./trust-swarm.ts";

const LONG = process.env.SWARM_TEST_LONG === "1";
const RUNS = LONG ? 5_000 : 100;
const STEPS_MAX = LONG ? 60 : 30;

const HONEST = ["ann", "ben"] as const;
/** A member that does all it can: it may have what keys it likes, as itself. */
const EVE = "eve";
const AGENTS = [...HONEST, EVE, "nobody", "constructor"];

const agent = fc.constantFrom(...AGENTS);
const honest = fc.constantFrom(...HONEST);
const some = fc.nat({ max: 1_000_000 });

/** What happens. `some` numbers choose among whatever there is at that moment. */
const step = fc.oneof(
  fc.record({ does: fc.constantFrom("rotate", "replace keys", "redeem"), who: honest }),
  fc.record({ does: fc.constantFrom("renew", "revoke eve", "quarantine eve", "enroll eve") }),
  fc.record({ does: fc.constant("put back"), at: some, from: some }),
  fc.record({ does: fc.constant("take away"), at: some }),
  fc.record({ does: fc.constant("change a character"), at: some, where: some, to: some }),
  fc.record({ does: fc.constant("splice certificates"), who: agent, from: fc.array(some, { maxLength: 6 }) }),
  fc.record({ does: fc.constant("certify"), who: agent, by: some, name: some, append: fc.boolean() }),
  fc.record({ does: fc.constant("sign a bundle"), by: some, name: some, version: fc.nat({ max: 40 }) }),
  fc.record({ does: fc.constant("point"), who: agent, to: some }),
  fc.record({ does: fc.constant("read") }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Processes that believed a bundle when they were looked at, and those that believed none. */
let believed = 0;
let closed = 0;

class Story implements AsyncDisposable {
  readonly swarm: TrustSwarm;
  readonly memory = versionMemory();
  /** All that any row ever held. */
  readonly #history: { key: string; value: Json }[] = [];
  /** The keys that each honest agent made, oldest first. */
  readonly made = new Map<string, string[]>(HONEST.map((who) => [who, []]));
  /** What Eve signs with: her own keys and some that nobody enrolled. */
  readonly #thieves: AgentKeys[];
  readonly #processes = new Map<string, Trust>();
  readonly #tokens = new Map<string, string>();
  /** How far along its keys each honest agent was last seen by the process that watches. */
  readonly #seen = new Map<string, number>();
  #highest = 0;

  private constructor(swarm: TrustSwarm, eve: AgentKeys) {
    this.swarm = swarm;
    this.#thieves = [
      eve,
      ...[1, 2].map(() => ({ ...eve, sign: generateKeyPair("Ed25519"), encrypt: generateKeyPair("X25519") })),
    ];
  }

  static async begin(): Promise<Story> {
    const swarm = await TrustSwarm.secured();
    const story = new Story(swarm, await swarm.join(EVE, { roles: ["guest"] }));
    for (const who of HONEST) story.#made(who, await swarm.join(who, { roles: ["worker"] }));
    for (const who of HONEST) story.#processes.set(who, await swarm.process(who));
    story.#processes.set("watching", await swarm.process(undefined, { remember: story.memory }));
    await story.#remember();
    return story;
  }

  #made(who: string, keys: Pick<AgentKeys, "sign">): void {
    const made = this.made.get(who);
    if (made && !made.includes(keys.sign.publicKey)) made.push(keys.sign.publicKey);
  }

  async #remember(): Promise<void> {
    for (const namespace of ["trust", "member", "kid"]) {
      for (const { key, value } of await this.swarm.store.scan({
        from: `${namespace}/`,
        before: `${namespace}0`,
        limit: 1_000,
      })) {
        if (!this.#history.some((known) => known.key === key && JSON.stringify(known.value) === JSON.stringify(value)))
          this.#history.push({ key, value });
      }
    }
  }

  async run(does: Step): Promise<void> {
    try {
      await this.#run(does);
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code === "internal") throw error; // who writes the store can stop work, and no more
    }
    await this.#remember();
  }

  async #run(one: Step): Promise<void> {
    const { swarm } = this;
    const of = <T>(list: readonly T[], number: number): T => list[number % list.length] ?? expect.fail("nothing to choose from");
    switch (one.does) {
      case "rotate": {
        const { who } = one as { who: string };
        const trust = this.#processes.get(who) ?? expect.fail("a process");
        try {
          await rotateOwn({ store: swarm.store, trust, keyFile: swarm.keyFile(who) });
        } finally {
          this.#made(who, await readKeyFile(swarm.keyFile(who)));
        }
        return;
      }
      case "replace keys": {
        const { who } = one as { who: string };
        this.#tokens.set(who, (await swarm.administrator.replaceKeys(who)).token);
        return;
      }
      case "redeem": {
        const { who } = one as { who: string };
        const token = this.#tokens.get(who);
        if (token !== undefined) this.#made(who, await redeem({ store: swarm.store, token, keyFile: swarm.keyFile(who) }));
        return;
      }
      case "renew":
        return void (await swarm.administrator.renew());
      case "revoke eve":
        return void (await swarm.administrator.revoke(EVE));
      case "quarantine eve":
        return void (await swarm.administrator.quarantine(EVE, true));
      case "enroll eve":
        return void (await swarm.administrator.enroll(EVE, { roles: ["guest"] }));
      case "put back": {
        const { at, from } = one as { at: number; from: number };
        return swarm.write(of(this.#history, at).key, of(this.#history, from).value);
      }
      case "take away":
        return swarm.write(of(this.#history, (one as { at: number }).at).key, undefined);
      case "change a character": {
        const { at, where, to } = one as { at: number; where: number; to: number };
        const { key, value } = of(this.#history, at);
        const text = JSON.stringify(value);
        const place = where % text.length;
        try {
          await swarm.write(
            key,
            JSON.parse(`${text.slice(0, place)}${String.fromCharCode(32 + (to % 95))}${text.slice(place + 1)}`),
          );
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error; // no JSON, so no row
        }
        return;
      }
      case "splice certificates": {
        const { who, from } = one as { who: string; from: number[] };
        const all = this.#certificates();
        return swarm.write(memberKey(who), { certificates: from.map((number) => of(all, number)) });
      }
      case "certify": {
        const { who, by, name, append } = one as { who: string; by: number; name: number; append: boolean };
        const keys = of(this.#thieves, by);
        const certificate = await signCertificate(
          keys,
          { agentId: who, generation: 1 + (name % 3), issuedAt: await swarm.store.now() },
          this.#named(of(this.#thieves, name).sign, by + name),
        );
        const row = (await swarm.read(memberKey(who))) as { certificates?: string[] } | undefined;
        const before = append && Array.isArray(row?.certificates) ? row.certificates : [];
        await swarm.write(kidKey(keys.sign.kid), { agentId: who });
        return swarm.write(memberKey(who), { certificates: [...before, certificate] });
      }
      case "sign a bundle": {
        const { by, name, version } = one as { by: number; name: number; version: number };
        const keys = of(this.#thieves, by);
        const members: Bundle["members"] = Object.fromEntries(
          HONEST.map((who, n) => {
            const { sign, encrypt } = of(this.#thieves, by + n);
            return [who, { roles: ["admin"], generation: 1, keys: { sign: sign.publicKey, encrypt: encrypt.publicKey } }];
          }),
        );
        const content: Bundle = { version: version + 1, issuedAt: 1, epoch: 0, members, policies: [], revokedTokens: {} };
        const named = this.#named(keys.sign, name);
        const jws =
          named === keys.sign ? await signBundle(content, named) : await signJws(named, "mcp-swarm-bundle+jws", content as never);
        return swarm.write(BUNDLE_KEY, { jws });
      }
      case "point": {
        const { who, to } = one as { who: string; to: number };
        const kids = [...this.#thieves.map(({ sign }) => sign.kid), ...[...this.made.values()].flat().map(kidOf)];
        return swarm.write(kidKey(of(kids, to)), { agentId: who });
      }
      default:
        return this.check();
    }
  }

  /** The thief's key under its own name, under the root key's, or under an honest agent's. */
  #named(pair: KeyPair, number: number): KeyPair {
    const names = [pair.kid, this.swarm.root.kid, ...HONEST.map((who) => kidOf(this.made.get(who)?.at(-1) ?? ""))];
    const kid = names[number % names.length] ?? pair.kid;
    return kid === pair.kid ? pair : { ...pair, kid };
  }

  #certificates(): string[] {
    return this.#history.flatMap(({ value }) => {
      const certificates = (value as { certificates?: unknown }).certificates;
      return Array.isArray(certificates) ? certificates.filter((one) => typeof one === "string") : ["x"];
    });
  }

  /** In the processes that go on, and in one that starts now. */
  async check(): Promise<void> {
    const started = await this.swarm.process(undefined, { remember: this.memory });
    for (const [name, trust] of [...this.#processes, ["started", started] as const]) {
      await trust.refresh();
      if (this.#isClosed(trust)) closed += 1;
      else await this.#checkProcess(trust, name);
    }
    await started.close();
  }

  #isClosed(trust: Trust): boolean {
    try {
      trust.check();
      return false;
    } catch {
      return true; // it believes nobody
    }
  }

  async #checkProcess(trust: Trust, name: string): Promise<void> {
    believed += 1;
    for (const who of HONEST) {
      expect(trust.principal(who)?.roles, name).toEqual(["worker"]);
      const keys = await trust.keysOf(who);
      if (keys) expect(this.made.get(who), `${name}: the key of ${who}`).toContain(keys.sign);
      if (keys && name === "watching") {
        const at = this.made.get(who)?.indexOf(keys.sign) ?? -1;
        expect(at, `an older key of ${who} came back`).toBeGreaterThanOrEqual(this.#seen.get(who) ?? 0);
        this.#seen.set(who, at);
      }
    }
    if (name === "watching") {
      expect(trust.bundle.version).toBeGreaterThanOrEqual(this.#highest);
      this.#highest = trust.bundle.version;
    }
    expect(trust.principal(EVE)?.roles).toEqual(["guest"]);
    for (const nobody of ["nobody", "constructor"]) {
      expect(trust.principal(nobody)).toBeUndefined();
      expect(await trust.keysOf(nobody)).toBeUndefined();
    }
    for (const { sign } of this.#thieves) expect([undefined, EVE]).toContain((await trust.signerOf(sign.kid))?.agentId);
    for (const [who, made] of this.made) {
      for (const sign of made) expect([undefined, who]).toContain((await trust.signerOf(kidOf(sign)))?.agentId);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.swarm[Symbol.asyncDispose]();
  }
}

test("whatever is written into the store by who has no key for it, nobody gets another's name", async () => {
  verifies("SEC-05", "SEC-08");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: STEPS_MAX, size: "max" }), async (steps) => {
      await using story = await Story.begin();
      for (const one of steps) await story.run(one);
      await story.check();
    }),
    { numRuns: RUNS },
  );
  expect(believed).toBeGreaterThan(closed); // or it would prove little
}, 600_000);
