/** The bins run on every Node that `engines` names; the oldest of them lacks some of what the newest has. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { ROOT } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

/** Globals and static functions that came after Node 22. */
const TOO_NEW =
  /\bnew (Async)?DisposableStack\b|\bPromise\.try\(|\bRegExp\.escape\(|\bError\.isError\(|\bUint8Array\.from(Base64|Hex)\(|\bnew (Float16Array|URLPattern)\b|\.getOrInsert(Computed)?\(/;

/** A use that asks first whether it is there, as jose's does. */
const ASKED_FIRST = /\bif ?\((Uint8Array\.\w+)\)\s*return \1\(/g;

test.each(SERVERS)("the bundle of %s uses nothing that Node 22 does not have", (server) => {
  verifies("CORE-02");
  const chunks = globSync("servers/*/dist/*.js", { cwd: ROOT }).filter((file) => file.includes(`/${server}/`));
  expect(chunks.length).toBeGreaterThan(1);
  const found = chunks.flatMap((file) => {
    const match = readFileSync(join(ROOT, file), "utf8").replaceAll(ASKED_FIRST, "").match(TOO_NEW);
    return match ? [`${file}: ${match[0]}`] : [];
  });
  expect(found).toEqual([]);
});
