/** Where an agent keeps its keys: a file of its own, mode 0600, named by SWARM_KEY_FILE. */
import { rename } from "node:fs/promises";
import { dirname } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { checkAgentId } from "../caller.ts";
import { decodeCanonical } from "./jws-strict.ts";
import { type AgentKeys, type Curve, isSigningKey, KEY_BYTES, type KeyPair, keyPairFromSecret, secretOf } from "./keys.ts";
import { readPrivateFile, remove, syncFolder, writePrivateFile } from "./private-file.ts";

const TYPE = "mcp-swarm-agent-key";
/** Former encryption keys in a key file. */
export const FORMER_KEYS_MAX = 10;

const secret = z.string().refine((text) => decodeCanonical(text)?.length === KEY_BYTES);
const schema = z.strictObject({
  type: z.literal(TYPE),
  agentId: z.string(),
  generation: z.number().int().nonnegative(),
  rootKey: z.string().refine(isSigningKey),
  sign: secret,
  encrypt: secret,
  formerEncrypt: z.array(secret).max(FORMER_KEYS_MAX),
});

/** @throws SwarmError failed_precondition when it is no key file, or others may read it; not_found */
export async function readKeyFile(path: string): Promise<AgentKeys> {
  const text = await readPrivateFile(path, "key file").catch((error: unknown) => {
    if (!(error instanceof SwarmError) || error.code !== "not_found") throw error;
    throw new SwarmError("not_found", error.message, {
      hint: "Set SWARM_KEY_FILE to the agent's key file, or make one with `mcp-swarm-security redeem`, which asks for the one-time token.",
      cause: error,
    });
  });
  try {
    const { agentId, generation, rootKey, sign, encrypt, formerEncrypt } = schema.parse(JSON.parse(text));
    return {
      agentId: checkAgentId(agentId),
      generation,
      rootKey,
      sign: pair("Ed25519", sign),
      encrypt: pair("X25519", encrypt),
      formerEncrypt: formerEncrypt.map((former) => pair("X25519", former)),
    };
  } catch {
    // without the cause: it may hold a part of the secret
    throw new SwarmError("failed_precondition", `${path} is not an agent's key file, or is damaged.`, {
      hint: "Set SWARM_KEY_FILE to the file that enroll or redeem named; if it is lost, ask for a new one-time token and redeem that.",
    });
  }
}

export function writeKeyFile(path: string, keys: AgentKeys): Promise<void> {
  return writePrivateFile(path, textOf(keys));
}

/*
 * New keys are written beside the key file before the store learns of them, and take its place after. So whenever the process dies,
 * the keys that are in force are in one of the two, and the staged one is found by the id of the key in force.
 */
const stagedPath = (path: string, kid: string): string => `${path}.${kid}.next`;

export function stageKeyFile(path: string, keys: AgentKeys): Promise<void> {
  return writePrivateFile(stagedPath(path, keys.sign.kid), textOf(keys));
}

/** The staged keys take the place of the key file, unless another process of the agent found them in force and was faster. */
export async function promoteKeyFile(path: string, keys: AgentKeys): Promise<void> {
  try {
    await rename(stagedPath(path, keys.sign.kid), path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT" || !(await unlessMissing(readKeyFile(path)))) throw cause;
  }
  await syncFolder(dirname(path));
}

export function dropStagedKeyFile(path: string, keys: AgentKeys): Promise<void> {
  return remove(stagedPath(path, keys.sign.kid));
}

/**
 * The keys whose signing key has this id, from the key file or from what was staged beside it, which then becomes the key file.
 * @throws SwarmError failed_precondition
 */
export async function findKeys(path: string, kid: string): Promise<AgentKeys | undefined> {
  const inPlace = async (): Promise<AgentKeys | undefined> => {
    const keys = await unlessMissing(readKeyFile(path));
    return keys?.sign.kid === kid ? keys : undefined;
  };
  const keys = await inPlace();
  if (keys) return keys;
  const staged = await unlessMissing(readKeyFile(stagedPath(path, kid)));
  if (!staged) return await inPlace(); // they may have taken their place between the two looks
  if (staged.sign.kid !== kid) return undefined;
  await promoteKeyFile(path, staged);
  return staged;
}

/** What is read, or undefined when there is no such file. */
export async function unlessMissing<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof SwarmError && error.code === "not_found") return undefined;
    throw error;
  }
}

function pair(curve: Curve, text: string): KeyPair {
  return keyPairFromSecret(curve, Buffer.from(text, "base64url"));
}

function textOf({ agentId, generation, rootKey, sign, encrypt, formerEncrypt }: AgentKeys): string {
  const text = (key: KeyPair) => secretOf(key).toString("base64url");
  const content: z.infer<typeof schema> = {
    type: TYPE,
    agentId,
    generation,
    rootKey,
    sign: text(sign),
    encrypt: text(encrypt),
    formerEncrypt: formerEncrypt.slice(0, FORMER_KEYS_MAX).map(text),
  };
  return `${JSON.stringify(content, undefined, 2)}\n`;
}
