import { readFile } from "node:fs/promises";
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import type { Call } from "@mcp-swarm/identity";
import {
  AUDIT_PREFIX,
  type AuditFilter,
  type AuditReport,
  auditOrigin,
  copiesIn,
  keyIdOf,
  readAudit,
  verifyAuditLog,
} from "@mcp-swarm/identity/audit";
import { kidOf, ROOT_SIGNER, type Trust } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import type { Security } from "./secured.ts";

/** Who did what, and whether all that is written of it is as it was written. */
export class AuditTrail {
  readonly #security: Security;

  constructor({ security }: { security: Security }) {
    this.#security = security;
  }

  /** A page, the newest first. A page may be short, or empty, and have a cursor: so many entries were looked at. */
  async list({ store }: Call, { limit, cursor, ...filter }: AuditFilter & { limit: number; cursor?: string | undefined }) {
    const scope = { list: `audit ${JSON.stringify(filter)}`, prefix: AUDIT_PREFIX };
    const before = cursor === undefined ? {} : { before: decodeCursor(scope, cursor) };
    const { entries, next, unreadable } = await readAudit(store, filter, { limit, ...before });
    return { entries, unreadable, ...(next === undefined ? {} : { nextCursor: encodeCursor(scope, next) }) };
  }

  /** Looks at every entry, also against the checkpoints that this process's folder has copies of. @throws SwarmError unavailable */
  async verify({ store }: Call): Promise<AuditReport & { copies: number }> {
    const copies = await copiesOf(this.#security.checkpointCopies);
    return { ...(await verify(store, this.#security.trust, copies)), copies: copies.length };
  }
}

/** The checkpoints in a file; none when there is no such file. */
export async function copiesOf(path: string): Promise<string[]> {
  try {
    return copiesIn(await readFile(path, "utf8"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

/** Verifies the log by the keys that the swarm's signed bundle knows, and by the root key. @throws SwarmError unavailable */
export async function verify(store: Pick<Store, "snapshot">, trust: Trust, copies: readonly string[]): Promise<AuditReport> {
  trust.check();
  const known = async (agentId: string, keyId: string) => {
    const keys = agentId === ROOT_SIGNER ? [trust.rootKey] : await trust.signingKeysOf(agentId);
    return keys.find((key) => keyIdOf(agentId, key) === keyId);
  };
  return await verifyAuditLog({
    store,
    origin: auditOrigin(kidOf(trust.rootKey)),
    copies,
    publicKey: async (agentId, keyId) => {
      const key = await known(agentId, keyId);
      if (key !== undefined) return key;
      await trust.refresh(); // it may have been replaced just now
      return await known(agentId, keyId);
    },
  });
}
