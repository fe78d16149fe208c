/** A secured swarm for tests that start real processes: a root key, and agents with key files in a folder that is removed at the end. */
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type AuditEntry, readAudit } from "@mcp-swarm/identity/audit";
import { defaultPolicies, type Policy } from "@mcp-swarm/identity/policy";
import {
  Administrator,
  generateKeyPair,
  type KeyPair,
  type MemberTerms,
  redeem,
  writeRootKeyFile,
} from "@mcp-swarm/identity/trust";
import { openStore, type Store } from "@mcp-swarm/store";
import { Host, type HostOptions, temporaryFolder } from "./host.ts";

export interface SecuredOptions {
  /** The store's URL. */
  store: string;
  /** Those of a newly secured swarm when absent: roles admin, worker, observer. */
  policies?: readonly Policy[];
}

export class SecuredSwarm implements AsyncDisposable {
  /** The store's URL, for SWARM_STORE. */
  readonly url: string;
  /** The store, beside the processes. */
  readonly store: Store;
  readonly root: KeyPair;
  /** Changes members, roles and policies. */
  readonly admin: Administrator;
  readonly #folder = temporaryFolder();

  private constructor(url: string, store: Store, root: KeyPair) {
    this.url = url;
    this.store = store;
    this.root = root;
    this.admin = new Administrator({ store, root });
  }

  static async secure({ store: url, policies = defaultPolicies() }: SecuredOptions): Promise<SecuredSwarm> {
    const store = await openStore(url);
    const swarm = new SecuredSwarm(url, store, generateKeyPair("Ed25519"));
    await swarm.admin.init(policies);
    return swarm;
  }

  /** The root public key, for SWARM_ROOT_KEY. */
  get rootKey(): string {
    return this.root.publicKey;
  }

  /** Where the agent's key file is, or would be. */
  keyFile(agentId: string): string {
    return join(this.#folder.path, `${agentId}.json`);
  }

  /** Enrols the agent and redeems its token, and answers where its key file is. A worker unless `terms` say otherwise. */
  async enroll(agentId: string, terms: MemberTerms = { roles: ["worker"] }): Promise<string> {
    const keyFile = this.keyFile(agentId);
    const { token } = await this.admin.enroll(agentId, terms);
    if (existsSync(keyFile)) rmSync(keyFile); // of an enrolment before
    await redeem({ store: this.store, token, keyFile });
    return keyFile;
  }

  /** The root key in a file, for SWARM_ROOT_KEY_FILE. */
  async rootKeyFile(): Promise<string> {
    const path = join(this.#folder.path, "root.json");
    if (!existsSync(path)) await writeRootKeyFile(path, this.root);
    return path;
  }

  /** A host of an agent that is enrolled, with a server process of its own. */
  async host(agentId: string, { env, ...options }: Omit<HostOptions, "agent" | "store"> = {}): Promise<Host> {
    return await Host.start({ ...options, store: this.url, env: { SWARM_KEY_FILE: this.keyFile(agentId), ...env } });
  }

  /** What was written down, the newest first. */
  async audited(filter: Parameters<typeof readAudit>[1] = {}): Promise<readonly AuditEntry[]> {
    return (await readAudit(this.store, filter, { limit: 200 })).entries;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.store.close();
    this.#folder[Symbol.dispose]();
  }
}
