/** A secured swarm in memory: a root key, members with keys, and guards of their processes, driven by a clock that the test moves. */
import { type ManualClock, manualClock, seededRandom } from "@mcp-swarm/core";
import { type Entry, prefixRange, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { AUDIT_PREFIX, type AuditEntry, AuditLog } from "../../src/audit/index.ts";
import { SecuredGuard } from "../../src/guard/index.ts";
import type { Caller } from "../../src/index.ts";
import type { Policy } from "../../src/policy/index.ts";
import {
  type AgentKeys,
  BUNDLE_KEY,
  type Bundle,
  generateKeyPair,
  type Member,
  publicKeysOf,
  signBundle,
  TRUST_ROUND_MS,
  Trust,
} from "../../src/trust/index.ts";

const CALL_RATE = 1_000;
/** Turns of a ms that checking a signature may take. */
const TURNS_MAX = 5_000;

export interface GuardedProcess {
  readonly guard: SecuredGuard;
  readonly trust: Trust;
  readonly audit: AuditLog;
  /** The agent of this process's host. */
  readonly caller: Caller;
}

export class GuardedSwarm {
  readonly clock: ManualClock = manualClock();
  readonly store: Store;
  readonly root = generateKeyPair("Ed25519");
  readonly #keys = new Map<string, AgentKeys>();
  readonly errors: unknown[] = [];
  bundle: Bundle = { version: 0, issuedAt: 0, epoch: 1, members: {}, policies: [], revokedTokens: {} };

  constructor(store?: Store) {
    this.store = store ?? new MemoryStore({ clock: this.clock });
  }

  /** Makes the agent's keys, which are no member's until a bundle says so. */
  keysOf(agentId: string): AgentKeys {
    const known = this.#keys.get(agentId);
    if (known) return known;
    const [sign, encrypt] = [generateKeyPair("Ed25519"), generateKeyPair("X25519")];
    const keys = { agentId, generation: 1, rootKey: this.root.publicKey, sign, encrypt, formerEncrypt: [] };
    this.#keys.set(agentId, keys);
    return keys;
  }

  member(agentId: string, roles: readonly string[], more: Partial<Member> = {}): Record<string, Member> {
    return { [agentId]: { roles, generation: 1, keys: publicKeysOf(this.keysOf(agentId)), ...more } };
  }

  /** Signs the next bundle, with these changes. Processes read it in their next round. */
  async publish(change: { members?: Record<string, Member>; policies?: readonly Policy[] }): Promise<void> {
    const members = { ...this.bundle.members, ...change.members };
    this.bundle = { ...this.bundle, ...change, members, version: this.bundle.version + 1 };
    await this.write(await signBundle(this.bundle, this.root));
  }

  /** Moves on by one round, and waits until what was published is believed: its signature is checked in another thread. */
  async round({ trust }: Pick<GuardedProcess, "trust">): Promise<void> {
    await this.clock.advance(TRUST_ROUND_MS);
    for (let turn = 0; turn < TURNS_MAX && trust.bundle.version !== this.bundle.version; turn++) {
      await new Promise((done) => setTimeout(done, 1));
    }
  }

  async write(jws: string | undefined): Promise<void> {
    await this.store.transact((tx) => (jws === undefined ? tx.delete(BUNDLE_KEY) : tx.put(BUNDLE_KEY, { jws })));
  }

  /** A process of the agent's, or one that only serves others. */
  async process(agentId: string | undefined, options: { callRate?: number; store?: Store } = {}): Promise<GuardedProcess> {
    const { clock, root } = this;
    const { store = this.store, callRate = CALL_RATE } = options;
    const processId = `process-${agentId}`;
    const onError = (error: unknown) => void this.errors.push(error);
    const self = agentId === undefined ? {} : { self: this.keysOf(agentId) };
    const trust = await Trust.open({ store, clock, rootKey: root.publicKey, ...self, onError });
    const audit = new AuditLog({ store, clock, random: seededRandom(7), processId, origin: "test", onError });
    const guard = new SecuredGuard({ store, clock, trust, audit, callRate });
    return { guard, trust, audit, caller: { agentId: agentId ?? "nobody", verified: true, processId } };
  }

  async audited(): Promise<AuditEntry[]> {
    const rows = await this.store.scan(prefixRange(AUDIT_PREFIX, 1_000));
    return rows.map((row: Entry) => row.value as unknown as AuditEntry);
  }
}
