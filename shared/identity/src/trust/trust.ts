import { type Clock, type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { checkAgentId, rootAgent } from "../caller.ts";
import type { Signatures, Signed } from "../signatures.ts";
import { BUNDLE_KEY, type Bundle, jwsOfRow, type Member, type PublicKeys, verifyBundle } from "./bundle.ts";
import { proveJws, readJws } from "./jws-strict.ts";
import { type AgentKeys, isSigningKey, kidOf, signJws } from "./keys.ts";
import { KnownKeys } from "./known-keys.ts";
import type { VersionMemory } from "./version-memory.ts";

/**
 * How often the bundle is read. With the time of a read, what it says is in force everywhere within 6 s. It is not watched: a watch
 * wakes for every commit of anybody, which cost each call of a secured swarm 6% and would read a large bundle all the time.
 */
export const TRUST_ROUND_MS = 5_000;
/** A process that looked at the bundle longer ago (it was stopped, or is too busy) looks again before it lets anything in. */
export const LOOK_AGE_MS_MAX = TRUST_ROUND_MS + 1_000;
/** How long a process goes on without a bundle it may trust. */
export const TRUST_AGE_MS_MAX = 10 * 60_000;
/** Largest text that an agent signs, in characters: a value of the greatest size fits, as base64url. */
export const SIGNED_LENGTH_MAX = 1_500_000;
/** How often in a round the agent's newest keys are looked for, while its other processes replace them. */
const SEARCHES_MAX = 3;
const SIGNED_TYPE = /^[a-z][a-z-]{0,31}$/;

/** What the swarm knows of an agent; a subagent is its agent in this. */
export interface Principal {
  /** The agent that was enrolled. */
  readonly agentId: string;
  readonly roles: readonly string[];
  readonly attributes: Readonly<Record<string, string>>;
  readonly issuer: boolean;
  readonly generation: number;
  readonly quarantined: boolean;
  readonly revoked: boolean;
}

/**
 * How the swarm sees the key of this process. `unknown`: no such member, or the key was never redeemed. `replaced`: the member has
 * other keys now, and they are not in this process's key file.
 */
export type SelfStatus = "ok" | "revoked" | "unknown" | "replaced" | "quarantined";

export interface TrustOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** The pinned Ed25519 public key, base64url of 32 bytes. */
  readonly rootKey: string;
  /** The keys of this process's agent. */
  readonly self?: AgentKeys;
  /** Finds this agent's keys again when another process replaced them: those whose signing key has this id. */
  readonly reloadSelf?: (kid: string) => Promise<AgentKeys | undefined>;
  readonly remember?: VersionMemory;
  /** Told of each new fault once: a bundle that is kept out, a store that cannot be read. */
  readonly onError: (error: unknown) => void;
}

/**
 * What this process believes of its swarm: the newest bundle that the pinned root key signed, and the keys that follow from it. Read
 * from the store every `TRUST_ROUND_MS`, so that every decision is made in memory. A bundle that is missing, not signed by the root
 * key, or older than one seen before is kept out: the last good one stays in force for `TRUST_AGE_MS_MAX`, and then nothing is
 * believed until there is a good one.
 */
export class Trust implements Signatures {
  readonly #options: TrustOptions;
  readonly #keys: KnownKeys;
  readonly #listeners = new Set<() => void>();
  #timer: Disposable | undefined;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #closed = false;

  #self: AgentKeys | undefined;
  /** The signing key of this agent that the last round found to be in force, and looked for in the key file if it was not held. */
  #sought: string | undefined;
  #bundle: Bundle | undefined;
  #jws: string | undefined;
  #principals: ReadonlyMap<string, Principal> = new Map();
  /** Of the last round that found a good bundle. */
  #goodAt = 0;
  /** When the last round that is over began, whatever it found. */
  #lookedAt = 0;
  #highestVersion: number;
  /** Why the last round found none. */
  #fault: Fault | undefined = UNREAD;

  private constructor(options: TrustOptions, highestVersion: number) {
    this.#options = options;
    this.#self = options.self;
    this.#highestVersion = highestVersion;
    this.#keys = new KnownKeys(options.store, (agentId) =>
      options.onError(
        new SwarmError("unauthenticated", `The keys of ${agentId} in the store were taken back or exchanged; they are ignored.`),
      ),
    );
  }

  /**
   * Reads the bundle once and goes on reading it. A store without a good bundle opens too: `check` then says why.
   * @throws SwarmError invalid_argument when the root key is none, or another than the agent's key file names; failed_precondition
   *   when the memory of versions cannot be read
   */
  static async open(options: TrustOptions): Promise<Trust> {
    const { rootKey, self } = options;
    if (!isSigningKey(rootKey)) {
      throw new SwarmError("invalid_argument", "The pinned root key is not an Ed25519 public key.", {
        hint: "Set SWARM_ROOT_KEY to the 43 characters that `mcp-swarm-security init` printed.",
      });
    }
    if (self && self.rootKey !== rootKey) {
      throw new SwarmError("invalid_argument", "The agent's key file belongs to a swarm with another root key.", {
        hint: "Leave SWARM_ROOT_KEY out, or set SWARM_KEY_FILE to the key file of an agent of this swarm.",
      });
    }
    const trust = new Trust(options, (await options.remember?.read()) ?? 0);
    await trust.refresh();
    trust.#arm();
    return trust;
  }

  /** @throws SwarmError unavailable when nothing that can be trusted says who is a member and what is permitted */
  check(): void {
    if (this.#isGood()) return;
    const fault = this.#fault ?? TOO_OLD;
    throw new SwarmError("unavailable", `This swarm is secured, and its trust bundle cannot be relied on: ${fault.what}.`, {
      hint: fault.hint,
      retryable: fault.passes ?? false,
    });
  }

  #isGood(): boolean {
    if (this.#closed || !this.#bundle) return false;
    const now = this.#options.clock.now();
    if (now < this.#goodAt) this.#goodAt = now; // a clock that was set back does not prolong trust
    return now - this.#goodAt < TRUST_AGE_MS_MAX;
  }

  /** The last good bundle. @throws SwarmError unavailable as `check` does */
  get bundle(): Bundle {
    this.check();
    return this.#bundle as Bundle;
  }

  /** When the last round that is over began, by this process's clock, whatever it found. */
  get lookedAt(): number {
    return this.#lookedAt;
  }

  get rootKey(): string {
    return this.#options.rootKey;
  }

  /** The keys of this process's agent. */
  get self(): AgentKeys | undefined {
    return this.#self;
  }

  /** What the last good bundle says of the agent, or of the agent that this is a subagent of; undefined for who is no member. */
  principal(agentId: string): Principal | undefined {
    return this.#principals.get(rootAgent(agentId));
  }

  quarantined(agentId: string): boolean {
    return this.principal(agentId)?.quarantined ?? false;
  }

  selfStatus(): SelfStatus {
    const self = this.#self;
    const principal = self && this.principal(self.agentId);
    if (!principal) return "unknown";
    if (principal.revoked) return "revoked";
    const ofThisTime = principal.generation === self.generation;
    const keys = this.#keys.current(self.agentId);
    if (!keys) return ofThisTime ? "unknown" : "replaced";
    const held = ofThisTime && keys.sign === self.sign.publicKey && keys.encrypt === self.encrypt.publicKey;
    // another process of this agent may have replaced them a moment ago: refused is only who has not found the new ones
    const lookedFor = keys.sign === self.sign.publicKey || keys.sign === this.#sought;
    if (!held && lookedFor) return "replaced";
    return principal.quarantined ? "quarantined" : "ok";
  }

  /** The agent's keys in force; undefined when it is no member, is revoked, or has redeemed none yet. */
  keysOf(agentId: string): Promise<PublicKeys | undefined> {
    return this.#keys.currentOf(rootAgent(agentId));
  }

  /** The Ed25519 keys that the agent has signed with, now or once, as far as they are remembered: for records of the past. */
  signingKeysOf(agentId: string): Promise<readonly string[]> {
    return this.#keys.signingKeysOf(rootAgent(agentId));
  }

  /** Whose key this is or was; undefined when it is no member's. A revoked member's is not in force, one in quarantine's is. */
  async signerOf(kid: string): Promise<{ agentId: string; sign: string; issuer: boolean; inForce: boolean } | undefined> {
    const holder = await this.#keys.holderOf(kid);
    return holder && { ...holder, issuer: this.principal(holder.agentId)?.issuer ?? false };
  }

  /** @throws SwarmError limit_exceeded when the payload is too large to be signed */
  async sign(agentId: string, type: string, payload: JsonObject): Promise<string | undefined> {
    if (!this.#self || rootAgent(checkAgentId(agentId)) !== this.#self.agentId) return undefined;
    const jws = await signJws(this.#self.sign, signedType(type), { agentId, payload });
    if (jws.length > SIGNED_LENGTH_MAX) {
      throw new SwarmError("limit_exceeded", "This is too large to be signed.", {
        hint: `At most ${SIGNED_LENGTH_MAX} characters.`,
      });
    }
    return jws;
  }

  async verify(type: string, jws: string, { whenever = false }: { whenever?: boolean } = {}): Promise<Signed> {
    this.check();
    const unproven = readJws(jws, { types: [signedType(type)], lengthMax: SIGNED_LENGTH_MAX });
    const kid = unproven.kid ?? "";
    const holder = await this.#keys.holderOf(kid);
    if (!holder) throw new SwarmError("unauthenticated", "No member of this swarm has the key that this is signed with.");
    if (!holder.inForce && !whenever) {
      throw new SwarmError("unauthenticated", `The key of ${holder.agentId} that this is signed with is no longer in force.`);
    }
    await proveJws(unproven, holder.sign);
    const { agentId, payload } = unproven.payload;
    if (typeof agentId !== "string" || rootAgent(agentId) !== holder.agentId || !isObject(payload)) {
      throw new SwarmError(
        "unauthenticated",
        `${holder.agentId} signed this, and it does not speak for itself or a subagent of it.`,
      );
    }
    return { agentId: checkAgentId(agentId), kid, payload };
  }

  /** Calls `changed` after a round in which the bundle, a key in force or the faults changed. */
  onChange(changed: () => void): Disposable {
    this.#listeners.add(changed);
    return { [Symbol.dispose]: () => void this.#listeners.delete(changed) };
  }

  /** Reads the store now, after whatever is being read. Never rejects: see `check`. */
  refresh(): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      this.#running = this.#round();
      return this.#running;
    });
    return this.#next;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#fault = CLOSED;
    this.#timer?.[Symbol.dispose]();
    this.#listeners.clear();
    await (this.#next ?? this.#running);
  }

  #arm(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.timer(TRUST_ROUND_MS, () => {
      void this.refresh().then(() => this.#arm());
    });
  }

  /** Never rejects. */
  async #round(): Promise<void> {
    if (this.#closed) return;
    const before = { fault: this.#fault, self: this.#self, status: this.selfStatus() };
    let changed = false;
    const startedAt = this.#options.clock.now();
    try {
      changed = await this.#readBundle(startedAt);
      changed = (await this.#keys.readAgain(this.#self ? [this.#self.agentId] : [])) || changed;
    } catch (error) {
      this.#keepOut(STORE_UNREADABLE, error);
    }
    try {
      await this.#findSelf();
    } catch (error) {
      this.#options.onError(error);
    }
    this.#sought = this.#self && this.#keys.current(this.#self.agentId)?.sign;
    this.#lookedAt = startedAt; // only now: a process that was stopped must not go by what this round has yet to find
    changed ||= before.fault !== this.#fault || before.self !== this.#self || before.status !== this.selfStatus();
    if (changed && !this.#closed) this.#tell();
  }

  /** Answers whether there is a new bundle. */
  async #readBundle(startedAt: number): Promise<boolean> {
    const jws = jwsOfRow((await this.#options.store.get(BUNDLE_KEY))?.value);
    if (jws === undefined) return this.#keepOut(MISSING);
    const isNew = jws !== this.#jws; // the text itself is compared: who can write the store can write a row's revision
    if (isNew) {
      let bundle: Bundle;
      try {
        bundle = await verifyBundle(jws, this.rootKey);
      } catch (error) {
        return this.#keepOut(FOREIGN, error);
      }
      if (bundle.version < this.#highestVersion) return this.#keepOut(OLDER);
      if (bundle.version === this.#bundle?.version) return this.#keepOut(TWICE);
      await this.#adopt(bundle, jws);
    }
    this.#goodAt = startedAt;
    this.#fault = undefined;
    return isNew;
  }

  async #adopt(bundle: Bundle, jws: string): Promise<void> {
    this.#highestVersion = bundle.version;
    this.#bundle = bundle;
    this.#jws = jws;
    this.#principals = new Map(
      Object.entries(bundle.members).map(([agentId, member]) => [agentId, principalOf(agentId, member)]),
    );
    this.#keys.adopt(bundle);
    try {
      await this.#options.remember?.write(bundle.version);
    } catch (error) {
      this.#options.onError(error); // this process knows it; only the next one would not
    }
  }

  /** The last good bundle stays in force until it is too old. Answers that there is no new one. */
  #keepOut(fault: Fault, cause?: unknown): false {
    if (this.#fault !== fault && !this.#closed) {
      this.#fault = fault;
      this.#options.onError(new SwarmError("unavailable", `A trust bundle is kept out: ${fault.what}.`, { cause }));
    }
    return false;
  }

  /** Another process of this agent may have replaced its keys: those in force are then in the key file. */
  async #findSelf(): Promise<void> {
    for (let n = 0; n < SEARCHES_MAX; n++) {
      const self = this.#self;
      const inForce = self && this.#keys.current(self.agentId);
      if (!inForce || inForce.sign === self.sign.publicKey) return;
      const found = await this.#options.reloadSelf?.(kidOf(inForce.sign));
      if (found?.agentId === self.agentId && found.rootKey === self.rootKey && found.sign.publicKey === inForce.sign) {
        this.#self = found;
        return;
      }
      if (!(await this.#keys.readAgain([self.agentId]))) return; // and not replaced once more meanwhile
    }
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener();
      } catch (error) {
        this.#options.onError(error); // the next one, and the next round, must not suffer for it
      }
    }
  }
}

/** Why there is no bundle to be relied on. */
interface Fault {
  readonly what: string;
  /** What to do about it: first what whoever started the server may have set wrong, as that is the likelier cause. */
  readonly hint: string;
  /** Whether it may be over a moment later. */
  readonly passes?: true;
}

const ASK = "ask the person who keeps the swarm's root key";
const TOO_OLD: Fault = { what: "it is too old", hint: `Try again; if it stays so, ${ASK}.`, passes: true };
const UNREAD: Fault = { what: "none was read yet", hint: "Try again.", passes: true };
const CLOSED: Fault = { what: "the server is shutting down", hint: "Let the host start it anew." };
const STORE_UNREADABLE: Fault = {
  what: "the store could not be read",
  hint: "Calls work again as soon as the store can be reached.",
  passes: true,
};
const MISSING: Fault = {
  what: "the store holds none",
  hint: `Check that this server uses the store of the swarm that its SWARM_KEY_FILE is for (--where prints it); if it does, somebody took the bundle away: ${ASK}.`,
};
const FOREIGN: Fault = {
  what: "the one in the store is not signed by the pinned root key",
  hint: `Check that SWARM_KEY_FILE, or SWARM_ROOT_KEY, is of the swarm whose store this server uses (--where prints it); if it is, somebody exchanged the bundle: ${ASK}.`,
};
const OLDER: Fault = {
  what: "the one in the store is older than one seen before",
  hint: "If the store was restored from a backup, the person who keeps the root key runs `mcp-swarm-security renew --after-restore`; otherwise somebody put an old one back.",
};
const TWICE: Fault = {
  what: "the store holds two of the same version",
  hint: `Somebody else has the root key, or signed at the same time on a copy of the store: ${ASK}.`,
};

function principalOf(agentId: string, member: Member): Principal {
  return {
    agentId,
    roles: member.roles,
    attributes: member.attributes ?? {},
    issuer: member.issuer ?? false,
    generation: member.generation,
    quarantined: member.quarantinedAt !== undefined,
    revoked: member.revokedAt !== undefined,
  };
}

function signedType(type: string): string {
  if (SIGNED_TYPE.test(type)) return `mcp-swarm-${type}+jws`;
  throw new SwarmError("internal", "Broken invariant: the type of what is signed is a short word");
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
