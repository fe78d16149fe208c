/** What a process of a secured swarm has besides: what it trusts, what lets calls in, what is written down. Loaded by no other process. */
import { sign } from "node:crypto";
import { dirname, join } from "node:path";
import { type Clock, type Random, SwarmError } from "@mcp-swarm/core";
import type { Guard } from "@mcp-swarm/identity";
import { AuditLog, auditOrigin } from "@mcp-swarm/identity/audit";
import { SecuredGuard } from "@mcp-swarm/identity/guard";
import { type AgentKeys, fileVersionMemory, findKeys, kidOf, readKeyFile, Trust } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import { type Config, dataFolder } from "./config.ts";
import type { Log } from "./log.ts";

export interface Security {
  readonly trust: Trust;
  readonly guard: Guard;
  readonly audit: AuditLog;
  /** The file outside the store that gets a copy of each checkpoint of the audit log. */
  readonly checkpointCopies: string;
  /** Where the root private key is, when this process may change members and policies. */
  readonly rootKeyFile?: string;
}

/** Reads what pins a process to its swarm. */
export interface Pinned {
  /** The swarm's root public key. */
  readonly rootKey: string;
  /** The keys of the process's agent, and where they are. */
  readonly own?: { readonly keys: AgentKeys; readonly path: string };
  readonly rootKeyFile?: string;
  readonly callRate: number;
}

/**
 * What the configuration pins this process to.
 * @throws SwarmError failed_precondition when the key file is none, or others may read it, or it is another agent's than SWARM_AGENT
 *   names or of another swarm than SWARM_ROOT_KEY is of; not_found
 */
export async function readPinned({ keyFile, rootKey, rootKeyFile, agentId, callRate }: Config): Promise<Pinned> {
  const more = { callRate, ...(rootKeyFile === undefined ? {} : { rootKeyFile }) };
  if (keyFile === undefined) {
    if (rootKey === undefined) throw new SwarmError("internal", "Broken invariant: nothing pins this process");
    return { ...more, rootKey };
  }
  const keys = await readKeyFile(keyFile);
  if (agentId !== undefined && agentId !== keys.agentId) {
    throw new SwarmError("failed_precondition", `SWARM_AGENT says ${agentId}, and the key file is that of ${keys.agentId}.`, {
      hint: "Leave SWARM_AGENT out: the key file names the agent.",
    });
  }
  if (rootKey !== undefined && rootKey !== keys.rootKey) {
    throw new SwarmError(
      "failed_precondition",
      "SWARM_ROOT_KEY is not the root key of the swarm that SWARM_KEY_FILE belongs to.",
      {
        hint: "Leave SWARM_ROOT_KEY out: the key file has the root key that its agent goes by.",
      },
    );
  }
  return { ...more, rootKey: keys.rootKey, own: { keys, path: keyFile } };
}

interface Surroundings {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly processId: string;
}

/**
 * Reads the signed bundle and goes on reading it. A store without a good one opens too: then calls say why they are refused.
 * @throws SwarmError unavailable, failed_precondition when the memory of versions cannot be read
 */
export async function openSecurity(pinned: Pinned, { store, clock, random, log, processId }: Surroundings): Promise<Security> {
  const { rootKey, own, rootKeyFile, callRate } = pinned;
  const folder = own ? dirname(own.path) : dataFolder();
  const kid = kidOf(rootKey);
  const trust = await Trust.open({
    store,
    clock,
    rootKey,
    remember: fileVersionMemory(folder, rootKey),
    ...(own ? { self: own.keys, reloadSelf: (id) => findKeys(own.path, id) } : {}),
    onError: (error) => log.error({ err: error }, "What this process trusts could not be brought up to date"),
  });
  const checkpointCopies = join(folder, `audit-${kid}.checkpoints`);
  const audit = new AuditLog({
    store,
    clock,
    random,
    processId,
    origin: auditOrigin(kid),
    ...(own ? { signer: () => signerOf(trust.self ?? own.keys) } : {}),
    copyTo: checkpointCopies,
    onError: (error) => log.error({ err: error }, "A part of the audit log was not written; it is tried again"),
  });
  const guard = new SecuredGuard({ store, clock, trust, audit, callRate });
  return { trust, guard, audit, checkpointCopies, ...(rootKeyFile === undefined ? {} : { rootKeyFile }) };
}

/** Writes down what is only counted, signs a last checkpoint, and stops reading. */
export async function closeSecurity({ trust, guard, audit }: Security): Promise<void> {
  try {
    await guard.close();
    await audit.close();
  } finally {
    await trust.close();
  }
}

function signerOf({ agentId, sign: { publicKey, privateKey } }: AgentKeys) {
  return { name: agentId, publicKey, sign: (bytes: Uint8Array) => sign(null, bytes, privateKey) };
}
