import type { Store } from "@mcp-swarm/store";
import type { Bundle, Member, PublicKeys } from "./bundle.ts";
import { anchorOf, certificatesOf, kidKey, memberKey, proveKeys } from "./certificate.ts";
import { kidOf } from "./keys.ts";

/** Key ids that were looked for in vain and are not looked for again before the next round. */
const UNKNOWN_KIDS_MAX = 1_000;
/** Tries to prove a member's keys while bundles change under it. */
const TRIES_MAX = 3;
/** Rows read at once. */
const ROWS_MAX = 200;

interface Known {
  /** Of the bundle that it was proven from. */
  member: Member;
  certificates: readonly string[];
  /** Where the chain begins: see `anchorOf`. */
  anchor: string | undefined;
  /** Oldest first. */
  chain: readonly PublicKeys[];
}

/** Whose a key is. */
export interface KeyHolder {
  readonly agentId: string;
  /** Ed25519, base64url. */
  readonly sign: string;
  /** Whether it is the key its holder signs with now, and the holder is not revoked. */
  readonly inForce: boolean;
}

/**
 * The keys of those members whom this process has met: proven from the bundle, kept, and read again in each round. What was
 * proven once is not forgotten when its row is cut short, taken away or made another: the chain only grows, unless the root key
 * says otherwise. At most as many as the bundle has members.
 */
export class KnownKeys {
  readonly #store: Pick<Store, "get" | "getMany">;
  readonly #onFault: (agentId: string) => void;
  #members: ReadonlyMap<string, Member> = new Map();
  readonly #known = new Map<string, Known>();
  /** Key id → member, of all keys that the bundle or a chain knows. */
  #holders = new Map<string, { agentId: string; sign: string }>();
  readonly #unknownKids = new Set<string>();

  /** `onFault` is told when a member's row no longer holds what it proved. */
  constructor(store: Pick<Store, "get" | "getMany">, onFault: (agentId: string) => void) {
    this.#store = store;
    this.#onFault = onFault;
  }

  /** What the root key says from now on; chains are proven anew by the next `readAgain`. */
  adopt(bundle: Bundle): void {
    this.#members = new Map(Object.entries(bundle.members));
    for (const agentId of this.#known.keys()) if (!this.#members.has(agentId)) this.#known.delete(agentId);
    this.#holders = new Map();
    for (const [agentId, { keys, retired = [] }] of this.#members) {
      for (const sign of keys ? [keys.sign, ...retired] : retired) this.#holders.set(kidOf(sign), { agentId, sign });
    }
    for (const [agentId, { chain }] of this.#known) this.#index(agentId, chain); // until they are proven anew, what they sign still counts
  }

  /** The members whose rows `readAgain` reads. */
  get met(): readonly string[] {
    return [...this.#known.keys()];
  }

  /** Reads the rows of those met, and of these, and proves what changed. Answers whether keys in force did. */
  async readAgain(also: readonly string[]): Promise<boolean> {
    this.#unknownKids.clear();
    const agents = [...new Set([...this.#known.keys(), ...also])].filter((agentId) => this.#members.has(agentId));
    let changed = false;
    for (let from = 0; from < agents.length; from += ROWS_MAX) {
      const page = agents.slice(from, from + ROWS_MAX);
      const rows = await this.#store.getMany(page.map(memberKey));
      for (const [at, agentId] of page.entries()) {
        changed = (await this.#prove(agentId, certificatesOf(rows[at]?.value))) || changed;
      }
    }
    return changed;
  }

  /** The keys of the member that are in force, as far as this process knows without reading; a revoked member has none. */
  current(agentId: string): PublicKeys | undefined {
    const member = this.#members.get(agentId);
    if (!member || member.revokedAt !== undefined) return undefined;
    const known = this.#known.get(agentId);
    return (known && whatStillFollows(known, member).at(-1)) ?? member.keys;
  }

  /** The keys of the member that are in force; a revoked member has none. */
  async currentOf(agentId: string): Promise<PublicKeys | undefined> {
    if (this.#members.has(agentId) && !this.#known.has(agentId)) await this.#read(agentId);
    return this.current(agentId);
  }

  /** All Ed25519 keys that the member signs with or once signed with, as far as they are remembered; none of who is no member. */
  async signingKeysOf(agentId: string): Promise<readonly string[]> {
    await this.currentOf(agentId);
    const member = this.#members.get(agentId);
    if (!member) return [];
    const proven = (this.#known.get(agentId)?.chain ?? []).map(({ sign }) => sign);
    return [...new Set([...(member.keys ? [member.keys.sign] : []), ...proven, ...(member.retired ?? [])])];
  }

  /** Whose key this is or was. */
  async holderOf(kid: string): Promise<KeyHolder | undefined> {
    const found = this.#holders.get(kid) ?? (await this.#find(kid));
    if (!found) return undefined;
    const current = await this.currentOf(found.agentId);
    return { ...found, inForce: current?.sign === found.sign };
  }

  async #find(kid: string): Promise<{ agentId: string; sign: string } | undefined> {
    if (this.#unknownKids.has(kid)) return undefined;
    const hint = (await this.#store.get(kidKey(kid)))?.value;
    const agentId = typeof hint === "object" && hint !== null && "agentId" in hint ? hint.agentId : undefined;
    if (typeof agentId === "string" && this.#members.has(agentId)) await this.#read(agentId);
    const found = this.#holders.get(kid);
    if (!found && this.#unknownKids.size < UNKNOWN_KIDS_MAX) this.#unknownKids.add(kid);
    return found;
  }

  async #read(agentId: string): Promise<void> {
    const [row] = await this.#store.getMany([memberKey(agentId)]);
    await this.#prove(agentId, certificatesOf(row?.value));
  }

  /** Answers whether the member's keys in force changed. */
  async #prove(agentId: string, certificates: readonly string[]): Promise<boolean> {
    for (let n = 0; n < TRIES_MAX; n++) {
      const member = this.#members.get(agentId);
      if (!member) return false;
      const seen = this.#known.get(agentId);
      if (seen?.member === member && sameTexts(seen.certificates, certificates)) return false;
      const proven = await proveKeys(agentId, member, certificates);
      if (this.#members.get(agentId) !== member || this.#known.get(agentId) !== seen) continue; // something else was faster
      const before = seen?.chain.at(-1)?.sign;
      const base = seen ? whatStillFollows(seen, member) : [];
      const holds = base.every(({ sign }, at) => proven.chain[at]?.sign === sign);
      if (!holds) this.#onFault(agentId);
      const chain = holds ? proven.chain : base;
      this.#known.set(agentId, { member, certificates, anchor: anchorOf(member), chain });
      this.#index(agentId, chain);
      return chain.at(-1)?.sign !== before;
    }
    return false;
  }

  /** A key is its first holder's: two that hold one share their secret. */
  #index(agentId: string, chain: readonly PublicKeys[]): void {
    for (const { sign } of chain) {
      const kid = kidOf(sign);
      if (!this.#holders.has(kid)) this.#holders.set(kid, { agentId, sign });
    }
  }
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, at) => text === b[at]);
}

/** The part of a chain seen before that follows from what the bundle says now; the root key may have said otherwise. */
function whatStillFollows(seen: Known, member: Member): readonly PublicKeys[] {
  const anchor = anchorOf(member);
  if (anchor === seen.anchor) return seen.chain;
  const at = seen.chain.findIndex(({ sign }) => sign === anchor);
  return at < 0 ? [] : seen.chain.slice(at);
}
