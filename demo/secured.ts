/** What `--secure` adds: a root key, a key file for each agent, and an administrator who can revoke one and read the audit log. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { defaultPolicies } from "@mcp-swarm/identity/policy";
import { Administrator, generateKeyPair, redeem, writeRootKeyFile } from "@mcp-swarm/identity/trust";
import { openStore } from "@mcp-swarm/store";
import { type Server, type Swarm, startServer } from "./host.ts";

const ADMINISTRATOR = "administrator";
/** Pages of the audit log that are looked through for what a revoked agent did last; each has looked at 5,000 entries at most. */
const PAGES_MAX = 20;

export type SecuredSwarm = Swarm & { keys: Readonly<Record<string, string>> };

/**
 * Secures the swarm of a new store, as `mcp-swarm-security init` and `enroll` do, and enrols these agents as workers. All keys
 * are in `folder`.
 */
export async function secure(swarm: Swarm, agents: readonly string[], folder: string): Promise<SecuredSwarm> {
  mkdirSync(folder, { mode: 0o700 });
  const root = generateKeyPair("Ed25519");
  await writeRootKeyFile(rootKeyFileIn(folder), root);
  const keys: Record<string, string> = {};
  const store = await openStore(swarm.store);
  try {
    const administrator = new Administrator({ store, root });
    await administrator.init(defaultPolicies());
    for (const agent of [ADMINISTRATOR, ...agents]) {
      const keyFile = join(folder, `${agent}.json`);
      const { token } = await administrator.enroll(agent, { roles: [agent === ADMINISTRATOR ? "admin" : "worker"] });
      await redeem({ store, token, keyFile });
      keys[agent] = keyFile;
    }
  } finally {
    await store.close();
  }
  return { ...swarm, keys };
}

const rootKeyFileIn = (folder: string): string => join(folder, "root.json");

/** What `get_audit_log` answers of an entry. */
interface AuditEntry {
  at: number;
  operation: string;
  resource: string;
  outcome: string;
  tool?: string;
}

/** What the audit log says of an agent that was revoked; times are ms by the store's clock, after the revocation. */
export interface Revocation {
  agent: string;
  lastWrite: { tool: string; resource: string; afterMs: number } | undefined;
  firstRefusalAfterMs: number | undefined;
}

/** What `verify_audit_log` answers. */
export interface AuditReport {
  ok: boolean;
  rows: number;
  chains: number;
  checkpoints: number;
  copies: number;
  uncovered: number;
  firstBad?: { details: string };
}

/** The one whose security server was given the root key. */
export class Administration {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(swarm: SecuredSwarm, folder: string): Promise<Administration> {
    const env = { SWARM_ROOT_KEY_FILE: rootKeyFileIn(folder) };
    return new Administration(await startServer("security", ADMINISTRATOR, swarm, env));
  }

  async revoke(agent: string): Promise<void> {
    await this.#server.call("revoke_agent", { agentId: agent });
  }

  /** What the audit log says of the agent, which must have been refused something since it was revoked. */
  async lookBack(agent: string): Promise<Revocation> {
    const { members } = await this.#server.call<{ members: { agentId: string; revokedAt?: number }[] }>("list_members");
    const revokedAt = members.find(({ agentId }) => agentId === agent)?.revokedAt;
    if (revokedAt === undefined) throw new Error(`${agent} is not revoked`);
    const refusals: AuditEntry[] = [];
    let lastWrite: AuditEntry | undefined;
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX && !lastWrite; page++) {
      const { entries, nextCursor } = await this.#server.call<{ entries: AuditEntry[]; nextCursor?: string }>("get_audit_log", {
        agentId: agent,
        ...(cursor === undefined ? {} : { cursor }),
      });
      refusals.push(...entries.filter(({ outcome }) => outcome === "deny"));
      lastWrite = entries.find(({ outcome, operation }) => outcome === "permit" && !operation.endsWith(":read"));
      cursor = nextCursor;
      if (cursor === undefined) break;
    }
    const firstRefusal = refusals.at(-1);
    return {
      agent,
      lastWrite: lastWrite && {
        tool: lastWrite.tool ?? lastWrite.operation,
        resource: lastWrite.resource,
        afterMs: lastWrite.at - revokedAt,
      },
      firstRefusalAfterMs: firstRefusal && firstRefusal.at - revokedAt,
    };
  }

  /** Looks at every entry of the audit log and every signed checkpoint, also at the copies beside the key files. */
  async verifyAuditLog(): Promise<AuditReport> {
    return await this.#server.call<AuditReport>("verify_audit_log");
  }

  async close(): Promise<void> {
    await this.#server.close();
  }
}
