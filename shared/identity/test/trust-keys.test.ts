import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { calculateJwkThumbprint, exportJWK } from "jose";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  type AgentKeys,
  fileVersionMemory,
  findKeys,
  generateKeyPair,
  keyPairFromSecret,
  kidOf,
  readKeyFile,
  readRootKeyFile,
  secretOf,
  writeKeyFile,
  writeRootKeyFile,
} from "../src/trust/index.ts";
import { promoteKeyFile, stageKeyFile } from "../src/trust/key-file.ts";
import { isEncryptionKey, isSigningKey } from "../src/trust/keys.ts";

/** Times that keys are replaced while others look for them. */
const REPLACEMENTS = 100;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "swarm-keys-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const someKeys = (generation = 1): AgentKeys => ({
  agentId: "build-7",
  generation,
  rootKey: generateKeyPair("Ed25519").publicKey,
  sign: generateKeyPair("Ed25519"),
  encrypt: generateKeyPair("X25519"),
  formerEncrypt: [generateKeyPair("X25519")],
});
const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

describe("a key", () => {
  test("comes from its secret and is named as the RFCs say", () => {
    // RFC 8032, section 7.1, test 1; its thumbprint in RFC 8037, appendix A.3
    const secret = Buffer.from("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "hex");
    const pair = keyPairFromSecret("Ed25519", secret);
    expect(pair.publicKey).toBe("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    expect(pair.kid).toBe("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    expect(kidOf(pair.publicKey)).toBe(pair.kid);
    expect(secretOf(pair)).toEqual(secret);
  });

  test.each(["Ed25519", "X25519"] as const)(
    "of %s is the same after its secret was kept, and has jose's thumbprint",
    async (curve) => {
      const pair = generateKeyPair(curve);
      const again = keyPairFromSecret(curve, secretOf(pair));
      expect(again).toMatchObject({ publicKey: pair.publicKey, kid: pair.kid });
      const { d: _, ...jwk } = await exportJWK(pair.privateKey);
      expect(await calculateJwkThumbprint(jwk)).toBe(pair.kid);
    },
  );

  test("that is written in another way, has another length, or signs for anyone is none", () => {
    const { publicKey } = generateKeyPair("Ed25519");
    expect(isSigningKey(publicKey)).toBe(true);
    const last = publicKey.at(-1) ?? "";
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const sameBytes = `${publicKey.slice(0, -1)}${alphabet[alphabet.indexOf(last) + 1]}`;
    expect(Buffer.from(sameBytes, "base64url")).toEqual(Buffer.from(publicKey, "base64url"));
    const point = (y: string) => Buffer.from(y, "hex").toString("base64url");
    const ofSmallOrder = [
      "00".repeat(32),
      `01${"00".repeat(31)}`,
      `01${"00".repeat(30)}80`,
      `ec${"ff".repeat(30)}7f`,
      `ec${"ff".repeat(31)}`,
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
      "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    ].map(point);
    for (const text of ["", sameBytes, `${publicKey}=`, ` ${publicKey}`, publicKey.slice(1), `${publicKey}A`, ...ofSmallOrder]) {
      expect(isSigningKey(text), text).toBe(false);
    }
    for (const text of ["", sameBytes, `${publicKey}=`, publicKey.slice(1)]) expect(isEncryptionKey(text), text).toBe(false);
  });
});

describe("an agent's key file", () => {
  test("keeps the keys, in a file and a folder that only their owner enters", async () => {
    verifies("SEC-01");
    const path = join(folder, "new", "build-7.json");
    const keys = someKeys();
    await writeKeyFile(path, keys);
    const kept = await readKeyFile(path);
    expect(kept).toMatchObject({ agentId: "build-7", generation: 1, rootKey: keys.rootKey });
    expect(secretOf(kept.sign)).toEqual(secretOf(keys.sign));
    expect(secretOf(kept.encrypt)).toEqual(secretOf(keys.encrypt));
    expect(kept.formerEncrypt.map((pair) => pair.kid)).toEqual(keys.formerEncrypt.map((pair) => pair.kid));
    expect([modeOf(path), modeOf(join(folder, "new"))]).toEqual(["600", "700"]);
    expect(readdirSync(join(folder, "new"))).toEqual(["build-7.json"]);
  });

  test.each([0o640, 0o604, 0o660, 0o620, 0o602, 0o644])("that others may use (%o) is refused, with what to do", async (mode) => {
    verifies("SEC-01");
    const path = join(folder, "k.json");
    await writeKeyFile(path, someKeys());
    chmodSync(path, mode);
    await expect(readKeyFile(path)).rejects.toMatchObject({
      code: "failed_precondition",
      hint: expect.stringContaining(`chmod 600 ${path}`),
    });
  });

  test("is judged where a link to it leads, and stays there when it is written anew", async () => {
    const path = join(folder, "real.json");
    const link = join(folder, "link.json");
    await writeKeyFile(path, someKeys(1));
    symlinkSync(path, link);
    expect(await readKeyFile(link)).toMatchObject({ generation: 1 });
    await writeKeyFile(link, someKeys(2));
    expect(await readKeyFile(path)).toMatchObject({ generation: 2 });
    chmodSync(path, 0o644);
    await expect(readKeyFile(link)).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("that is missing, damaged, huge, a folder or of another kind is refused, and no error holds a part of it", async () => {
    const path = join(folder, "k.json");
    await expect(readKeyFile(path)).rejects.toMatchObject({ code: "not_found", hint: expect.stringContaining("SWARM_KEY_FILE") });
    await writeKeyFile(path, someKeys());
    const good = readFileSync(path, "utf8");
    const { sign } = JSON.parse(good) as { sign: string };
    const bad = [
      "",
      good.slice(0, -20),
      good.replace('"generation": 1', '"generation": -1'),
      good.replace("build-7", "build 7"),
      good.replace("mcp-swarm-agent-key", "mcp-swarm-root-key"),
      good.replace("{", '{"more": 1,'),
      good.replace(sign, `${sign}=`),
      "x".repeat(100_000),
    ];
    for (const text of bad) {
      writeFileSync(path, text);
      const error: unknown = await readKeyFile(path).catch((thrown: unknown) => thrown);
      expect(error, text.slice(0, 40)).toMatchObject({ code: "failed_precondition" });
      expect(JSON.stringify([error, String(error), (error as Error).stack, String((error as Error).cause)])).not.toContain(sign);
    }
    mkdirSync(join(folder, "d"), { mode: 0o700 });
    await expect(readKeyFile(join(folder, "d"))).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("is found by the key in force when the process that replaced its keys died before it took their place", async () => {
    const path = join(folder, "k.json");
    const [before, after, neverInForce] = [someKeys(), someKeys(), someKeys()];
    await writeKeyFile(path, before);
    await stageKeyFile(path, after);
    await stageKeyFile(path, neverInForce);
    expect(await findKeys(path, before.sign.kid)).toMatchObject({ sign: { kid: before.sign.kid } });
    expect(await findKeys(path, kidOf(generateKeyPair("Ed25519").publicKey))).toBeUndefined();
    expect(await findKeys(path, after.sign.kid)).toMatchObject({ sign: { kid: after.sign.kid } });
    expect((await readKeyFile(path)).sign.kid).toBe(after.sign.kid);
  });

  test("is found by the key in force while the process that replaced its keys puts them in place", async () => {
    verifies("SEC-08");
    const path = join(folder, "k.json");
    await writeKeyFile(path, someKeys());
    for (let n = 0; n < REPLACEMENTS; n++) {
      const after = someKeys();
      await stageKeyFile(path, after);
      const looks = Array.from({ length: 8 }, () => findKeys(path, after.sign.kid));
      await promoteKeyFile(path, after);
      for (const found of await Promise.all(looks)) expect(found?.sign.kid).toBe(after.sign.kid);
    }
    expect(readdirSync(folder)).toEqual(["k.json"]);
  });
});

describe("the root key's file", () => {
  test("keeps the key, is its owner's alone, and is never written over", async () => {
    verifies("SEC-01");
    const path = join(folder, "root", "root.json");
    const root = generateKeyPair("Ed25519");
    await writeRootKeyFile(path, root);
    expect(modeOf(path)).toBe("600");
    expect((await readRootKeyFile(path)).kid).toBe(root.kid);
    await expect(writeRootKeyFile(path, generateKeyPair("Ed25519"))).rejects.toMatchObject({ code: "already_exists" });
    expect((await readRootKeyFile(path)).kid).toBe(root.kid);
    expect(readdirSync(join(folder, "root"))).toEqual(["root.json"]);
    chmodSync(path, 0o640);
    await expect(readRootKeyFile(path)).rejects.toMatchObject({ code: "failed_precondition" });
  });

  test("under a passphrase opens with that alone, and says when nobody can be asked", async () => {
    verifies("SEC-01");
    const path = join(folder, "root.json");
    const root = generateKeyPair("Ed25519");
    await writeRootKeyFile(path, root, "Ångström corridor batt");
    const text = readFileSync(path, "utf8");
    expect(text).not.toContain(secretOf(root).toString("base64url"));
    expect((await readRootKeyFile(path, async () => "A\u030angstro\u0308m corridor batt")).kid).toBe(root.kid);
    await expect(readRootKeyFile(path, async () => "angstrom corridor batt")).rejects.toMatchObject({
      code: "permission_denied",
    });
    await expect(readRootKeyFile(path)).rejects.toMatchObject({ code: "failed_precondition" });
    writeFileSync(path, text.replace(root.publicKey, generateKeyPair("Ed25519").publicKey));
    await expect(readRootKeyFile(path, async () => "Ångström corridor batt")).rejects.toMatchObject({
      code: "permission_denied",
    });
    await expect(writeRootKeyFile(join(folder, "short.json"), root, "short")).rejects.toMatchObject({ code: "invalid_argument" });
    expect(existsSync(join(folder, "short.json"))).toBe(false);
  });

  test("that pairs a secret with another public key, or is damaged, is refused", async () => {
    const path = join(folder, "root.json");
    const root = generateKeyPair("Ed25519");
    await writeRootKeyFile(path, root);
    const text = readFileSync(path, "utf8");
    for (const bad of [
      text.replace(root.publicKey, generateKeyPair("Ed25519").publicKey),
      text.slice(1),
      text.replace("{", '{"a":1,'),
    ]) {
      writeFileSync(path, bad);
      await expect(readRootKeyFile(path)).rejects.toMatchObject({ code: "failed_precondition" });
    }
  });
});

describe("the memory of versions", () => {
  const rootKey = generateKeyPair("Ed25519").publicKey;

  test("keeps the highest, whoever writes in whatever order, also when a line was cut off or the file was long", async () => {
    verifies("SEC-05");
    const memory = fileVersionMemory(join(folder, "data"), rootKey);
    expect(await memory.read()).toBe(0);
    const many = fileVersionMemory(join(folder, "data"), rootKey);
    await memory.write(7);
    await Promise.all([5, 12, 9, 11, 10].map((version) => many.write(version)));
    await memory.write(3);
    expect(await memory.read()).toBe(12);
    const path = join(folder, "data", `bundle-${kidOf(rootKey)}.seen`);
    expect(modeOf(path)).toBe("600");
    writeFileSync(path, `${readFileSync(path, "utf8")}\n1`); // of 130, the machine lost its power
    await memory.write(13);
    expect(await memory.read()).toBe(13);
    writeFileSync(path, "\n13".repeat(10_000));
    await memory.write(14);
    expect(readFileSync(path, "utf8")).toBe("\n14");
    expect(await fileVersionMemory(join(folder, "data"), generateKeyPair("Ed25519").publicKey).read()).toBe(0);
  });

  test("that cannot be read is an error, and not a swarm that never was", async () => {
    mkdirSync(join(folder, `bundle-${kidOf(rootKey)}.seen`));
    await expect(fileVersionMemory(folder, rootKey).read()).rejects.toMatchObject({ code: "failed_precondition" });
  });
});
