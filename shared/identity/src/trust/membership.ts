/** What the keeper of the root key does: who is a member, with which roles, and under which policies. Each step is a newly signed bundle. */
import { setTimeout } from "node:timers/promises";
import { type Random, SwarmError, systemRandom } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import type { Call } from "../call.ts";
import { checkAgentId } from "../caller.ts";
import { parsePolicies } from "../policy/parse.ts";
import { POLICIES_MAX, type Policy } from "../policy/policy.ts";
import {
  BUNDLE_KEY,
  BUNDLE_LENGTH_GROWN_MAX,
  BUNDLE_LENGTH_MAX,
  type Bundle,
  bundleTooLarge,
  jwsOfRow,
  MEMBERS_MAX,
  type Member,
  RETIRED_KEYS_MAX,
  REVOKED_TOKENS_MAX,
  signBundle,
  signedLength,
  verifyBundle,
} from "./bundle.ts";
import { CERTIFICATES_MAX, certificatesOf, memberKey, proveKeys, signCertificate } from "./certificate.ts";
import { ENROLMENT_MS, formerOf, newEnrolmentToken, putCertificates, withStagedKeys } from "./enrolment.ts";
import { type AgentKeys, generateKeyPair, type KeyPair } from "./keys.ts";
import { ROOT_SIGNER } from "./root-key.ts";
import type { Trust } from "./trust.ts";
import type { VersionMemory } from "./version-memory.ts";

/** The deciding transaction of a call, so that what the call needs (its audit entry) is in the same commit. */
export type Transact = Call["transact"];

/** Tries against others who sign or write at the same time, and the longest pause before the next one, which is a random one. */
const TRIES_MAX = 20;
const PAUSE_MS_MAX = 100;
/** Rows read at once. */
const ROWS_MAX = 200;
/** How long after its end an enrolment stays in the bundle: longer than a redemption that was begun in time can take to commit. */
const ENROLMENT_GRACE_MS = 5_000;

/** What the root key says of a member; absent: as before, and for a new member none. */
export interface MemberTerms {
  readonly roles?: readonly string[];
  readonly attributes?: Readonly<Record<string, string>>;
  readonly issuer?: boolean;
}

/** A token to hand over. Its text is a secret that nobody can show again. */
export interface Enrolment {
  readonly token: string;
  readonly expiresAt: number;
  /** Of the bundle that knows of it. */
  readonly version: number;
}

interface Draft {
  epoch: number;
  readonly members: Map<string, Member>;
  policies: Policy[];
  readonly revokedTokens: Map<string, number>;
}

export interface AdministratorOptions {
  readonly store: Store;
  readonly root: KeyPair;
  readonly remember?: VersionMemory;
  readonly random?: Random;
}

/**
 * Signs bundles. Each method reads the bundle, changes it, takes in the keys that members have proven since, and writes it with the
 * next version if nobody else was faster; otherwise it begins again. Methods answer the version that they made.
 *
 * `transact`: that of a call, when a tool asks for the change. All methods throw SwarmError `failed_precondition` when the swarm is
 * not secured, or its bundle is not by this root key or older than one seen before; `conflict` when others were always faster.
 */
export class Administrator {
  readonly #store: Store;
  readonly #root: KeyPair;
  readonly #remember: VersionMemory | undefined;
  readonly #random: Random;

  constructor({ store, root, remember, random = systemRandom }: AdministratorOptions) {
    this.#store = store;
    this.#root = root;
    this.#remember = remember;
    this.#random = random;
  }

  /** The public key to be pinned. */
  get rootKey(): string {
    return this.#root.publicKey;
  }

  /**
   * Secures the swarm of this store: its first bundle, with these policies and no members.
   * @throws SwarmError already_exists
   */
  async init(policies: readonly Policy[]): Promise<number> {
    const version = ((await this.#remember?.read()) ?? 0) + 1; // a store that was lost and made anew goes on behind the old one
    const issuedAt = await this.#store.now();
    const jws = await signBundle({ version, issuedAt, epoch: 0, members: {}, policies, revokedTokens: {} }, this.#root);
    await this.#store.transact((tx) => {
      if (tx.get(BUNDLE_KEY)) {
        throw new SwarmError("already_exists", "This swarm is secured already.", {
          hint: "Use the root key that it was secured with; `mcp-swarm-security enroll <agent>` adds an agent.",
        });
      }
      tx.put(BUNDLE_KEY, { jws });
    });
    await this.#remember?.write(version);
    return version;
  }

  /**
   * Makes an agent a member that may redeem the token, or lets one back that was revoked. A member whose token was never redeemed
   * gets another one, and the first is good no more.
   * @throws SwarmError already_exists when the member has keys in force; limit_exceeded
   */
  async enroll(agentId: string, terms: MemberTerms = {}, transact?: Transact): Promise<Enrolment> {
    checkMemberId(agentId);
    const { text, key } = newEnrolmentToken(this.rootKey);
    let expiresAt = 0;
    const version = await this.#change(
      ({ members }, now) => {
        const before = members.get(agentId);
        if (before?.keys && before.revokedAt === undefined) {
          throw new SwarmError("already_exists", `${agentId} is enrolled already.`, {
            hint: `New keys, when its own are lost or known to others: \`mcp-swarm-security enroll ${agentId} --replace\`. Other roles: \`mcp-swarm-security roles ${agentId} --role <role>\`.`,
          });
        }
        if (!before && members.size >= MEMBERS_MAX) {
          throw new SwarmError("limit_exceeded", `A swarm has at most ${MEMBERS_MAX} members.`, {
            hint: "Let a member that is no longer used do the work, or use subagents, which need no enrolment.",
          });
        }
        expiresAt = now + ENROLMENT_MS;
        const { revokedAt: _, ...kept } = before ? withoutKeys(before) : { roles: [], generation: 0 };
        members.set(
          agentId,
          withTerms({ ...kept, generation: kept.generation + 1, enrolment: { key: key.publicKey, expiresAt } }, terms),
        );
      },
      transact,
      { grows: true },
    );
    return { token: text, expiresAt, version };
  }

  /**
   * The member's keys are dead, and a new token stands for its next ones.
   * @throws SwarmError not_found; failed_precondition when the member is revoked
   */
  async replaceKeys(agentId: string, transact?: Transact): Promise<Enrolment> {
    const { text, key } = newEnrolmentToken(this.rootKey);
    let expiresAt = 0;
    const version = await this.#change(({ members }, now) => {
      const before = memberOf(members, agentId);
      if (before.revokedAt !== undefined) {
        throw new SwarmError("failed_precondition", `${agentId} is revoked.`, { hint: "Enroll it again to let it back." });
      }
      expiresAt = now + ENROLMENT_MS;
      const enrolment = { key: key.publicKey, expiresAt };
      members.set(agentId, { ...withoutKeys(before), generation: before.generation + 1, enrolment });
    }, transact);
    return { token: text, expiresAt, version };
  }

  /** The member is refused everywhere from now on; what it signed before can still be checked. @throws SwarmError not_found */
  revoke(agentId: string, transact?: Transact): Promise<number> {
    return this.#change(({ members }, now) => {
      const { enrolment: _, ...before } = memberOf(members, agentId);
      members.set(agentId, { ...before, revokedAt: before.revokedAt ?? now });
    }, transact);
  }

  /** The member's calls are refused and what it sent is held, until the quarantine ends. @throws SwarmError not_found */
  quarantine(agentId: string, on: boolean, transact?: Transact): Promise<number> {
    return this.#change(({ members }, now) => {
      const { quarantinedAt, ...before } = memberOf(members, agentId);
      members.set(agentId, on ? { ...before, quarantinedAt: quarantinedAt ?? now } : before);
    }, transact);
  }

  /** @throws SwarmError not_found, invalid_argument */
  setTerms(agentId: string, terms: MemberTerms, transact?: Transact): Promise<number> {
    return this.#change(({ members }) => void members.set(agentId, withTerms(memberOf(members, agentId), terms)), transact, {
      grows: true,
    });
  }

  /** Adds a policy, or replaces the one with its id. @throws SwarmError invalid_argument, limit_exceeded */
  setPolicy(policy: Policy, transact?: Transact): Promise<number> {
    return this.setPolicies([policy], transact);
  }

  /** The same with several, all or none. @throws SwarmError invalid_argument, limit_exceeded */
  async setPolicies(policies: readonly Policy[], transact?: Transact): Promise<number> {
    const parsed = parsePolicies(policies);
    return await this.#change(
      (draft) => {
        const set = new Map(draft.policies.map((policy) => [policy.id, policy]));
        for (const policy of parsed) set.set(policy.id, policy);
        if (set.size > POLICIES_MAX && set.size > draft.policies.length) {
          throw new SwarmError("limit_exceeded", `A swarm has at most ${POLICIES_MAX} policies.`, { hint: "Delete one first." });
        }
        draft.policies = [...set.values()];
      },
      transact,
      { grows: true },
    );
  }

  /** @throws SwarmError not_found */
  deletePolicy(policyId: string, transact?: Transact): Promise<number> {
    return this.#change((draft) => {
      const kept = draft.policies.filter(({ id }) => id !== policyId);
      if (kept.length === draft.policies.length) {
        throw new SwarmError("not_found", "There is no policy with this id.", { hint: "List the policies for their ids." });
      }
      draft.policies = kept;
    }, transact);
  }

  /** Every token that was issued is refused from now on. */
  bumpEpoch(transact?: Transact): Promise<number> {
    return this.#change((draft) => {
      draft.epoch += 1;
    }, transact);
  }

  /** Refuses one token, which would end at `endsAt`. @throws SwarmError limit_exceeded */
  revokeToken(jti: string, endsAt: number, transact?: Transact): Promise<number> {
    return this.#change(({ revokedTokens }) => {
      if (revokedTokens.size >= REVOKED_TOKENS_MAX) {
        throw new SwarmError("limit_exceeded", `At most ${REVOKED_TOKENS_MAX} tokens are refused one by one.`, {
          hint: "Begin a new epoch, which refuses all of them, or revoke the agent.",
        });
      }
      revokedTokens.set(jti, endsAt);
    }, transact);
  }

  /**
   * Signs the bundle anew, which takes in the keys that members have redeemed or rotated since. `afterRestore`: also one that is older
   * than what was seen, because the store was restored from a backup; what was revoked since then must be revoked again.
   */
  renew({ afterRestore = false, transact }: { afterRestore?: boolean; transact?: Transact } = {}): Promise<number> {
    return this.#change(() => {}, transact, { afterRestore });
  }

  /** The bundle as it stands in the store, proven. */
  async read(afterRestore = false): Promise<{ bundle: Bundle; jws: string }> {
    // before the row: whoever signs meanwhile makes the row newer, and what was seen of it too
    const seen = (await this.#remember?.read()) ?? 0;
    const jws = jwsOfRow((await this.#store.get(BUNDLE_KEY))?.value);
    if (jws === undefined) {
      throw new SwarmError("failed_precondition", "This swarm is not secured, or its trust bundle was taken away.", {
        hint: "Run `mcp-swarm-security init`, or restore the store from a backup.",
      });
    }
    const bundle = await verifyBundle(jws, this.rootKey).catch((cause: unknown) => {
      throw new SwarmError("failed_precondition", "The trust bundle in this store is not signed by this root key.", {
        hint: "Use the root key file of this swarm; if it is that, somebody exchanged the bundle: restore the store from a backup.",
        cause,
      });
    });
    if (!afterRestore && bundle.version < seen) {
      throw new SwarmError("failed_precondition", "The trust bundle in this store is older than one seen before.", {
        hint: "If the store was restored from a backup, sign it anew with `mcp-swarm-security renew --after-restore`; otherwise find out who changed it.",
      });
    }
    return { bundle, jws };
  }

  async #change(
    edit: (draft: Draft, now: number) => void,
    transact?: Transact,
    { grows = false, afterRestore = false }: { grows?: boolean; afterRestore?: boolean } = {},
  ): Promise<number> {
    const run: Transact = transact ?? ((plan, options) => this.#store.transact(plan, options));
    for (let n = 0; n < TRIES_MAX; n++) {
      const { bundle, jws } = await this.read(afterRestore);
      const issuedAt = await this.#store.now();
      const draft = draftOf(bundle, issuedAt);
      await this.#takeKeysIn(draft.members, issuedAt);
      let signed: string | undefined;
      let refusal: unknown;
      const version = Math.max(bundle.version, (await this.#remember?.read()) ?? 0) + 1;
      try {
        edit(draft, issuedAt);
        signed = await signBundle(fitting(bundleOf(draft, version, issuedAt), grows), this.#root);
      } catch (error) {
        refusal = error; // thrown by the plan: a repetition of a call that was done gets its first outcome instead
      }
      const done = await run(
        (tx) => {
          if (jwsOfRow(tx.get(BUNDLE_KEY)?.value) !== jws) return 0;
          if (signed === undefined) throw refusal;
          tx.put(BUNDLE_KEY, { jws: signed });
          return version;
        },
        { prefetch: { keys: [BUNDLE_KEY] } },
      );
      if (done === 0) {
        await setTimeout(this.#random.integer(Math.min(PAUSE_MS_MAX, 2 ** (n + 1)) + 1)); // or two who take turns would keep one of them out
        continue;
      }
      if (done === version) await this.#remember?.write(version);
      return done;
    }
    throw new SwarmError("conflict", "Others changed the trust bundle each time this was tried.", { hint: "Try again." });
  }

  /** The bundle vouches from now on for what members have proven, and forgets tokens that nobody redeemed in time. */
  async #takeKeysIn(members: Map<string, Member>, now: number): Promise<void> {
    const taken = new Set([...members.values()].flatMap(({ keys, retired = [] }) => (keys ? [keys.sign, ...retired] : retired)));
    const agents = [...members.keys()];
    for (let from = 0; from < agents.length; from += ROWS_MAX) {
      const page = agents.slice(from, from + ROWS_MAX);
      const rows = await this.#store.getMany(page.map(memberKey));
      for (const [at, agentId] of page.entries()) {
        const member = memberOf(members, agentId);
        const { chain } = await proveKeys(agentId, member, certificatesOf(rows[at]?.value));
        const fresh = member.keys ? chain.slice(1) : chain;
        const { enrolment, ...rest } = member;
        const keys = fresh.at(-1);
        if (keys === undefined) {
          if (enrolment && enrolment.expiresAt + ENROLMENT_GRACE_MS < now) members.set(agentId, rest);
        } else if (!fresh.some(({ sign }) => taken.has(sign))) {
          const former = chain.slice(0, -1).map(({ sign }) => sign);
          members.set(agentId, withRetired({ ...rest, keys }, former.reverse()));
          for (const { sign } of fresh) taken.add(sign);
        }
      }
    }
  }
}

/**
 * Replaces the keys of this process's own agent: the new ones are signed by the old, and the key file is rewritten. The old key is
 * dead everywhere one round later. Answers the id of the new signing key.
 * @throws SwarmError failed_precondition when this process holds no key in force; limit_exceeded when the root key has to take
 *   earlier replacements in first; conflict
 */
export async function rotateOwn(
  { store, trust, keyFile }: { store: Store; trust: Trust; keyFile: string },
  transact: Transact = (plan, options) => store.transact(plan, options),
): Promise<string> {
  for (let n = 0; n < TRIES_MAX; n++) {
    const { self, member } = ownMember(trust);
    const { agentId, generation } = self;
    const row = await store.get(memberKey(agentId));
    const { chain, certificates } = await proveKeys(agentId, member, certificatesOf(row?.value));
    if (chain.at(-1)?.sign === self.sign.publicKey) {
      if (certificates.length >= CERTIFICATES_MAX) {
        throw new SwarmError(
          "limit_exceeded",
          `${agentId} replaced its keys ${certificates.length} times since the trust bundle was signed.`,
          {
            hint: "Ask the person who keeps the root key to run `mcp-swarm-security renew`, then try again.",
          },
        );
      }
      const keys: AgentKeys = {
        ...self,
        sign: generateKeyPair("Ed25519"),
        encrypt: generateKeyPair("X25519"),
        formerEncrypt: formerOf(self),
      };
      const certificate = await signCertificate(keys, { agentId, generation, issuedAt: await store.now() }, self.sign);
      let kid = "";
      await withStagedKeys(keyFile, keys, async () => {
        kid = await transact((tx) => {
          if (tx.get(memberKey(agentId))?.rev !== row?.rev) return "";
          putCertificates(tx, keys, [...certificates, certificate]);
          return keys.sign.kid;
        });
        return kid;
      });
      await trust.refresh();
      if (kid !== "") return kid; // of an earlier try, when this was a repetition
    } else await trust.refresh();
  }
  throw new SwarmError("conflict", "Another process of this agent replaced its keys each time this was tried.", {
    hint: "Try again.",
  });
}

function ownMember(trust: Trust): { self: AgentKeys; member: Member } {
  const { self } = trust;
  const member = self && trust.bundle.members[self.agentId];
  if (member && trust.selfStatus() === "ok") return { self, member };
  throw new SwarmError("failed_precondition", "This process holds no key in force, so there is none to replace.", {
    hint: "Ask the person who keeps the root key for a one-time token.",
  });
}

/** Names that mean somebody else: in resources (`key/self`), over HTTP, in the audit log. */
const RESERVED = new Set(["self", "anonymous", "nobody", ROOT_SIGNER]);

/** @throws SwarmError invalid_argument */
function checkMemberId(agentId: string): void {
  if (RESERVED.has(agentId)) {
    throw new SwarmError("invalid_argument", `No agent can be enrolled as ${agentId}: the name has a meaning of its own.`, {
      hint: "Give the agent another name.",
    });
  }
  if (!checkAgentId(agentId).includes("/")) return;
  throw new SwarmError("invalid_argument", "A subagent is not enrolled: it acts under its agent's key.", {
    hint: "Enroll the part of the id before the slash.",
  });
}

function memberOf(members: ReadonlyMap<string, Member>, agentId: string): Member {
  const member = members.get(agentId);
  if (member) return member;
  throw new SwarmError("not_found", "There is no member with this id.", { hint: "List the members for their ids." });
}

function withTerms(member: Member, { roles, attributes, issuer }: MemberTerms): Member {
  const { issuer: before, ...rest } = member;
  return {
    ...rest,
    ...(roles === undefined ? {} : { roles: [...new Set(roles)] }),
    ...(attributes === undefined ? {} : { attributes }),
    ...((issuer ?? before) ? { issuer: true as const } : {}),
  };
}

/** The member with these signing keys, newest first, before those that it had retired. */
function withRetired(member: Member, former: readonly string[]): Member {
  const retired = [...former, ...(member.retired ?? [])].slice(0, RETIRED_KEYS_MAX);
  return retired.length === 0 ? member : { ...member, retired };
}

function withoutKeys({ keys, enrolment: _, ...rest }: Member): Member {
  return keys ? withRetired(rest, [keys.sign]) : rest;
}

/**
 * The bundle with as many former keys as there is room for: what somebody signed long ago is checked less often than somebody is revoked.
 * @throws SwarmError limit_exceeded
 */
function fitting(bundle: Bundle, grows: boolean): Bundle {
  const room = grows ? BUNDLE_LENGTH_GROWN_MAX : BUNDLE_LENGTH_MAX;
  for (const kept of [RETIRED_KEYS_MAX, 5, 2, 1, 0]) {
    const trimmed = withFewerRetired(bundle, kept);
    if (signedLength(trimmed) <= room) return trimmed;
  }
  throw bundleTooLarge();
}

function withFewerRetired(bundle: Bundle, kept: number): Bundle {
  const members = Object.entries(bundle.members).map(([agentId, member]): [string, Member] => {
    const { retired } = member;
    return [agentId, retired && retired.length > kept ? { ...member, retired: retired.slice(0, kept) } : member];
  });
  return { ...bundle, members: Object.fromEntries(members) };
}

function draftOf({ epoch, members, policies, revokedTokens }: Bundle, now: number): Draft {
  return {
    epoch,
    members: new Map(Object.entries(members)),
    policies: [...policies],
    revokedTokens: new Map(Object.entries(revokedTokens).filter(([, endsAt]) => endsAt > now)),
  };
}

function bundleOf({ epoch, members, policies, revokedTokens }: Draft, version: number, issuedAt: number): Bundle {
  return {
    version,
    issuedAt,
    epoch,
    members: Object.fromEntries(members),
    policies,
    revokedTokens: Object.fromEntries(revokedTokens),
  };
}
