/** How commands reach the swarm: its store, its root key, what it trusts. */
import { createHash, sign } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { newId, SwarmError, systemClock, systemRandom } from "@mcp-swarm/core";
import { noticeWrites } from "@mcp-swarm/identity";
import { type AuditEvent, AuditLog, auditOrigin } from "@mcp-swarm/identity/audit";
import {
  Administrator,
  type AgentKeys,
  BUNDLE_KEY,
  fileVersionMemory,
  type KeyPair,
  kidOf,
  ROOT_SIGNER,
  readKeyFile,
  readRootKeyFile,
  readRootPublicKey,
  type Transact,
  Trust,
} from "@mcp-swarm/identity/trust";
import { openStore, type Store } from "@mcp-swarm/store";
import { where } from "@mcp-swarm/store/commands";
import { askHidden, note } from "./terminal.ts";

/** What the environment says, as far as commands need it. */
export interface CommandConfig {
  readonly storeUrl: string;
  readonly durability: "full" | "normal";
  readonly keyFile: string | undefined;
  readonly rootKey: string | undefined;
  readonly rootKeyFile: string | undefined;
}

export interface CommandHost {
  config(): CommandConfig;
  /** This user's folder for settings and keys. */
  readonly configFolder: string;
}

/** Where a swarm's files are, unless the environment says otherwise. */
export interface Places {
  readonly storeUrl: string;
  /** Without passwords. */
  readonly location: string;
  readonly rootKeyFile: string;
  agentKeyFile(agentId: string): string;
  /** Files that may hold copies of the audit log's checkpoints. */
  copies(rootKey: string): string[];
}

export function placesOf({ config, configFolder }: CommandHost): Places {
  const { storeUrl, keyFile, rootKeyFile } = config();
  const { location } = where(storeUrl);
  if (storeUrl === "memory:") {
    throw new SwarmError("failed_precondition", "A store in memory ends with the process that has it.", {
      hint: "Set SWARM_STORE to the store that your servers use.",
    });
  }
  const folder = join(configFolder, nameOf(storeUrl, location));
  const agents = join(folder, "agents");
  const root = rootKeyFile ?? join(folder, "root-key.json");
  return {
    storeUrl,
    location,
    rootKeyFile: root,
    agentKeyFile: (agentId) => join(agents, `${agentId}.json`),
    copies: (rootKey) => {
      const folders = [...(keyFile === undefined ? [] : [dirname(keyFile)]), agents, dirname(root)];
      return [...new Set(folders)].map((at) => checkpointCopies(at, rootKey));
    },
  };
}

/** One for each store, whoever connects to it and how. */
function nameOf(storeUrl: string, location: string): string {
  const isFile = location.startsWith("sqlite:");
  const url = isFile ? undefined : new URL(storeUrl);
  const unique = url ? `${url.host}${url.pathname} ${url.searchParams.get("schema") ?? ""}` : location;
  const readable = url ? basename(url.pathname) : basename(dirname(location.slice("sqlite:".length)));
  const plainName =
    readable
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .slice(0, 40) || "swarm";
  return `${plainName}-${createHash("sha256").update(unique).digest("hex").slice(0, 10)}`;
}

export function checkpointCopies(folder: string, rootKey: string): string {
  return join(folder, `audit-${kidOf(rootKey)}.checkpoints`);
}

/** Opens the store for as long as `run` takes. `made`: it need not be there before. @throws SwarmError not_found, unavailable */
export async function withStore<T>(
  host: CommandHost,
  run: (store: Store, places: Places) => Promise<T>,
  { made = false }: { made?: boolean } = {},
): Promise<T> {
  const places = placesOf(host);
  if (!made && where(places.storeUrl).exists === false) {
    throw new SwarmError("not_found", `There is no store at ${places.location}.`, {
      hint: "Run this in the folder of your project, or set SWARM_STORE to what the servers use (--where says it).",
    });
  }
  const store = await openStore(places.storeUrl, { durability: host.config().durability });
  try {
    return await run(store, places);
  } finally {
    await store.close();
  }
}

/** What a command does with the root key, and writes down. */
export interface Keeper {
  readonly store: Store;
  readonly places: Places;
  readonly root: Administrator;
  /** The transaction of a change, with its entry in the audit log. */
  audited(event: Pick<AuditEvent, "operation" | "resource" | "details">): Transact;
  /** Writes down what a change of its own transaction did. */
  write(event: Pick<AuditEvent, "operation" | "resource" | "details">): Promise<void>;
}

/** @throws SwarmError not_found, failed_precondition, permission_denied (a wrong passphrase) */
export async function withRoot<T>(
  host: CommandHost,
  run: (keeper: Keeper) => Promise<T>,
  { made = false, root: given }: { made?: boolean; root?: KeyPair } = {},
): Promise<T> {
  return await withStore(
    host,
    async (store, places) => {
      const root = given ?? (await readRoot(store, places));
      const folder = dirname(places.rootKeyFile);
      const signer = { name: ROOT_SIGNER, key: root };
      return await withAudit(store, signer, checkpointCopies(folder, root.publicKey), root.publicKey, async (audit) => {
        const whole = (event: Pick<AuditEvent, "operation" | "resource" | "details">): AuditEvent => ({
          ...event,
          agentId: ROOT_SIGNER,
          verified: true,
          outcome: "administered",
          reason: "root_key",
        });
        return await run({
          store,
          places,
          root: new Administrator({ store, root, remember: fileVersionMemory(folder, root.publicKey) }),
          audited: (event) => (plan, options) =>
            audit.transact(
              (both) => store.transact(both, options),
              (tx, append) => {
                const seen = noticeWrites(tx);
                const outcome = plan(seen.tx);
                if (seen.wrote()) append(whole(event));
                return outcome;
              },
            ),
          write: (event) => audit.write(whole(event)),
        });
      });
    },
    { made },
  );
}

/** The root key of this swarm. Asks for the passphrase when it is under one. */
async function readRoot(store: Store, { rootKeyFile }: Places): Promise<KeyPair> {
  try {
    return await readRootKeyFile(rootKeyFile, () => askHidden("Passphrase of the root key: "));
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "not_found") throw error;
    const isSecured = (await store.get(BUNDLE_KEY)) !== undefined;
    throw new SwarmError("not_found", error.message, {
      hint: isSecured ? rootKeyElsewhere(rootKeyFile) : "This swarm is open: secure it with `mcp-swarm-security init`.",
      cause: error,
    });
  }
}

/** What is left to do when a swarm is secured and its root key is not in its place. */
export function rootKeyElsewhere(rootKeyFile: string): string {
  return (
    `Its root key is somewhere else: set SWARM_ROOT_KEY_FILE to that file, or put your copy of it at ${rootKeyFile}. ` +
    "If it is lost, nobody can change members and policies any more: secure a new store."
  );
}

/** An audit log of this command alone; closed, and covered by a checkpoint, when `run` ends. */
export async function withAudit<T>(
  store: Store,
  { name, key }: { name: string; key: KeyPair },
  copyTo: string,
  rootKey: string,
  run: (audit: AuditLog) => Promise<T>,
): Promise<T> {
  const audit = new AuditLog({
    store,
    clock: systemClock,
    random: systemRandom,
    processId: newId("process", systemRandom),
    origin: auditOrigin(kidOf(rootKey)),
    signer: () => ({ name, publicKey: key.publicKey, sign: (bytes) => sign(null, bytes, key.privateKey) }),
    copyTo,
    onError: (error) => note(`A part of the audit log was not written: ${error instanceof Error ? error.message : "unknown"}`),
  });
  try {
    return await run(audit);
  } finally {
    await audit.close();
  }
}

/** What pins a command that changes nothing: the public key is enough. @throws SwarmError failed_precondition */
async function pinnedRootKey(host: CommandHost, { rootKeyFile }: Places, given: string | undefined): Promise<string> {
  if (given !== undefined) return given;
  const { rootKey, keyFile } = host.config();
  if (rootKey !== undefined) return rootKey;
  if (keyFile !== undefined) return (await readKeyFile(keyFile)).rootKey;
  try {
    return await readRootPublicKey(rootKeyFile);
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "not_found") throw error;
    throw new SwarmError("failed_precondition", "Nothing here says which root key this swarm goes by.", {
      hint: "Set SWARM_ROOT_KEY to the public key that `mcp-swarm-security init` printed, or SWARM_KEY_FILE to an agent's key file.",
      cause: error,
    });
  }
}

/** What the signed bundle says, for as long as `run` takes. `self`: the agent whose key file the environment names. */
export async function withTrust<T>(
  host: CommandHost,
  options: { rootKey?: string | undefined; self?: AgentKeys },
  run: (view: { store: Store; trust: Trust; places: Places }) => Promise<T>,
): Promise<T> {
  return await withStore(host, async (store, places) => {
    const rootKey = options.self?.rootKey ?? (await pinnedRootKey(host, places, options.rootKey));
    const { keyFile } = host.config();
    const folder = dirname(keyFile ?? places.rootKeyFile);
    const trust = await Trust.open({
      store,
      clock: systemClock,
      rootKey,
      ...(options.self ? { self: options.self } : {}),
      remember: fileVersionMemory(folder, rootKey),
      onError: (error) => note(error instanceof Error ? error.message : "What this swarm trusts could not be read."),
    });
    try {
      trust.check();
      return await run({ store, trust, places });
    } finally {
      await trust.close();
    }
  });
}

/** The agent of this environment's key file, as an issuer of credentials. @throws SwarmError failed_precondition */
export async function withIssuer<T>(
  host: CommandHost,
  run: (issuer: { store: Store; trust: Trust; self: AgentKeys; audit: AuditLog }) => Promise<T>,
): Promise<T> {
  const { keyFile } = host.config();
  if (keyFile === undefined) {
    throw new SwarmError("failed_precondition", "API keys are made by the key of the server that takes them.", {
      hint: "Set SWARM_KEY_FILE to the key file of that server's agent, enrolled with --issuer.",
    });
  }
  const self = await readKeyFile(keyFile);
  return await withTrust(host, { self }, async ({ store, trust }) => {
    if (trust.selfStatus() !== "ok" || !trust.principal(self.agentId)?.issuer) {
      throw new SwarmError("failed_precondition", `${self.agentId} is no issuer of this swarm.`, {
        hint: `Make it one: mcp-swarm-security roles ${self.agentId} --issuer.`,
      });
    }
    const copies = checkpointCopies(dirname(keyFile), self.rootKey);
    return await withAudit(store, { name: self.agentId, key: self.sign }, copies, self.rootKey, (audit) =>
      run({ store, trust, self, audit }),
    );
  });
}
