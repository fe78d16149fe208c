/** A secured swarm in memory, as the tests of trust need it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type ManualClock, manualClock } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import type { Policy } from "../src/policy/policy.ts";
import {
  Administrator,
  type AgentKeys,
  findKeys,
  generateKeyPair,
  type KeyPair,
  type MemberTerms,
  readKeyFile,
  redeem,
  Trust,
  type VersionMemory,
} from "../src/trust/index.ts";

export const EVERYTHING: Policy = { id: "all", effect: "permit", operations: ["*"] };

/** A memory of versions that outlives a Trust, as the file does. */
export function versionMemory(): VersionMemory & { version: number } {
  return {
    version: 0,
    async read() {
      return this.version;
    },
    async write(version) {
      this.version = Math.max(this.version, version);
    },
  };
}

export class TrustSwarm implements AsyncDisposable {
  readonly clock: ManualClock;
  readonly store: Store;
  readonly root: KeyPair;
  readonly administrator: Administrator;
  readonly folder: string = mkdtempSync(join(tmpdir(), "swarm-trust-"));
  readonly faults: unknown[] = [];
  readonly #trusts: Trust[] = [];

  private constructor(clock: ManualClock, store: Store) {
    this.clock = clock;
    this.store = store;
    this.root = generateKeyPair("Ed25519");
    this.administrator = new Administrator({ store, root: this.root });
  }

  static async secured(store?: Store): Promise<TrustSwarm> {
    const clock = manualClock();
    const swarm = new TrustSwarm(clock, store ?? new MemoryStore({ clock }));
    await swarm.administrator.init([EVERYTHING]);
    return swarm;
  }

  keyFile(agentId: string): string {
    return join(this.folder, "keys", `${agentId}.json`);
  }

  /** Enrols the agent and redeems its token here. */
  async join(agentId: string, terms?: MemberTerms): Promise<AgentKeys> {
    const { token } = await this.administrator.enroll(agentId, terms);
    return redeem({ store: this.store, token, keyFile: this.keyFile(agentId) });
  }

  /** What a process believes: of the agent when one is named, which has a key file then. */
  async process(agentId?: string, options: { remember?: VersionMemory; rootKey?: string; store?: Store } = {}): Promise<Trust> {
    const keyFile = agentId === undefined ? undefined : this.keyFile(agentId);
    const trust = await Trust.open({
      store: options.store ?? this.store,
      clock: this.clock,
      rootKey: options.rootKey ?? this.root.publicKey,
      onError: (error) => void this.faults.push(error),
      ...(keyFile === undefined ? {} : { self: await readKeyFile(keyFile), reloadSelf: (kid: string) => findKeys(keyFile, kid) }),
      ...(options.remember ? { remember: options.remember } : {}),
    });
    this.#trusts.push(trust);
    return trust;
  }

  /** What somebody who can write the store does. */
  async write(key: string, value: unknown): Promise<void> {
    await this.store.transact((tx) => (value === undefined ? tx.delete(key) : tx.put(key, value as string)));
  }

  async read(key: string): Promise<unknown> {
    return (await this.store.get(key))?.value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const trust of this.#trusts) await trust.close();
    await this.store.close();
    rmSync(dirname(this.keyFile("x")), { recursive: true, force: true });
    rmSync(this.folder, { recursive: true, force: true });
  }
}
