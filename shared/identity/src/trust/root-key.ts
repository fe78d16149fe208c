/** The root key's file, which a person keeps: whoever has it decides who is a member and what is permitted. */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { decodeCanonical } from "./jws-strict.ts";
import { isSigningKey, KEY_BYTES, type KeyPair, keyPairFromSecret, secretOf } from "./keys.ts";
import { readPrivateFile, writePrivateFile } from "./private-file.ts";

const TYPE = "mcp-swarm-root-key";
/** Shortest and longest passphrase, in characters. */
export const PASSPHRASE_MIN = 12;
export const PASSPHRASE_MAX = 1_024;

/** Who signs in the audit log what was done with the root key; no agent has this name. */
export const ROOT_SIGNER = "root";

/** scrypt (RFC 7914) with 128 MiB and some tenths of a second a guess; the strongest of OWASP's settings. */
const SCRYPT = { N: 2 ** 17, r: 8, p: 1, maxmem: 2 ** 28 };
const SALT_BYTES = 16;
const IV_BYTES = 12;
const TAG_BYTES = 16;

const bytes = (length: number) => z.string().refine((text) => decodeCanonical(text)?.length === length);
const schema = z.strictObject({
  type: z.literal(TYPE),
  publicKey: z.string().refine(isSigningKey),
  secret: z.union([
    bytes(KEY_BYTES),
    z.strictObject({
      kdf: z.literal("scrypt-17-8-1"),
      salt: bytes(SALT_BYTES),
      iv: bytes(IV_BYTES),
      sealed: bytes(KEY_BYTES + TAG_BYTES),
    }),
  ]),
});
type SealedSecret = Exclude<z.infer<typeof schema>["secret"], string>;

/**
 * Writes the root key's file; one that is there stays. With a passphrase nobody reads the key from the file without it.
 * @throws SwarmError already_exists; invalid_argument when the passphrase is too short or too long
 */
export async function writeRootKeyFile(path: string, root: KeyPair, passphrase?: string): Promise<void> {
  const secret = passphrase === undefined ? secretOf(root).toString("base64url") : await sealSecret(root, passphrase);
  const content: z.infer<typeof schema> = { type: TYPE, publicKey: root.publicKey, secret };
  await writePrivateFile(path, `${JSON.stringify(content, undefined, 2)}\n`, { fresh: true });
}

/**
 * The root key. `askPassphrase` is called when the file is under a passphrase.
 * @throws SwarmError failed_precondition when it is no root key file, others may read it, or it is under a passphrase and nobody
 *   can be asked; permission_denied when the passphrase is wrong; not_found
 */
export async function readRootKeyFile(path: string, askPassphrase?: () => Promise<string>): Promise<KeyPair> {
  const { publicKey, secret } = parse(path, await readPrivateFile(path, "root key file"));
  if (typeof secret !== "string" && !askPassphrase) {
    throw new SwarmError("failed_precondition", "The root key file is under a passphrase, and nobody can be asked for it here.", {
      hint: "Use the command line of mcp-swarm-security, which asks for it.",
    });
  }
  const opened =
    typeof secret === "string" ? Buffer.from(secret, "base64url") : await openSecret(publicKey, secret, askPassphrase);
  const root = keyPairFromSecret("Ed25519", opened);
  if (root.publicKey !== publicKey) throw damaged(path);
  return root;
}

/** The public key in a root key's file, for which nobody is asked for a passphrase. @throws SwarmError as `readRootKeyFile` does */
export async function readRootPublicKey(path: string): Promise<string> {
  return parse(path, await readPrivateFile(path, "root key file")).publicKey;
}

function parse(path: string, text: string): z.infer<typeof schema> {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    throw damaged(path); // without the cause: it may hold a part of the secret
  }
}

async function sealSecret(root: KeyPair, passphrase: string): Promise<SealedSecret> {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv("aes-256-gcm", await keyFrom(passphrase, salt), iv).setAAD(associated(root.publicKey));
  const sealed = Buffer.concat([cipher.update(secretOf(root)), cipher.final(), cipher.getAuthTag()]);
  return {
    kdf: "scrypt-17-8-1",
    salt: salt.toString("base64url"),
    iv: iv.toString("base64url"),
    sealed: sealed.toString("base64url"),
  };
}

async function openSecret(
  publicKey: string,
  { salt, iv, sealed }: SealedSecret,
  ask: (() => Promise<string>) | undefined,
): Promise<Buffer> {
  const key = await keyFrom((await ask?.()) ?? "", Buffer.from(salt, "base64url"));
  const content = Buffer.from(sealed, "base64url");
  const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(iv, "base64url"))
    .setAAD(associated(publicKey))
    .setAuthTag(content.subarray(KEY_BYTES));
  try {
    return Buffer.concat([decipher.update(content.subarray(0, KEY_BYTES)), decipher.final()]);
  } catch (cause) {
    throw new SwarmError("permission_denied", "The passphrase does not open the root key file.", {
      hint: "Try again; without the passphrase the swarm has to be secured anew with another root key.",
      cause,
    });
  }
}

/** The file's own public key is bound to the secret: another one in its place is noticed. */
function associated(publicKey: string): Buffer {
  return Buffer.from(`${TYPE} ${publicKey}`);
}

function keyFrom(passphrase: string, salt: Buffer): Promise<Buffer> {
  const text = passphrase.normalize("NFKC"); // the same signs typed on another keyboard
  if (text.length < PASSPHRASE_MIN || text.length > PASSPHRASE_MAX) {
    throw new SwarmError("invalid_argument", "The passphrase has a wrong length.", {
      hint: `Use ${PASSPHRASE_MIN} to ${PASSPHRASE_MAX} characters, for example five words chosen by chance.`,
    });
  }
  return new Promise((done, failed) =>
    scrypt(text, salt, 32, SCRYPT, (error, key) => (error === null ? done(key) : failed(error))),
  );
}

function damaged(path: string): SwarmError {
  return new SwarmError("failed_precondition", `The root key file ${path} is damaged, or of another version.`, {
    hint: "Take it from a backup. Without it nobody can change who is a member; the swarm has to be secured anew.",
  });
}
