// Packs every package as it would be published and lets publint and attw look at the tarball.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "mcp-swarm-pack-"));
let problems = 0;

function run(command, args, cwd) {
  const result = spawnSync(command, args, { cwd, encoding: "utf8", shell: process.platform === "win32" });
  return { ok: result.status === 0, output: `${result.stdout ?? ""}${result.stderr ?? ""}` };
}

for (const group of ["shared", "servers"]) {
  for (const name of readdirSync(join(root, group))) {
    const directory = join(root, group, name);
    const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    copyFileSync(join(root, "LICENSE"), join(directory, "LICENSE"));
    const tarball = join(folder, `${name}.tgz`);
    const packed = run("pnpm", ["pack", "--out", tarball], directory);
    if (!packed.ok) {
      console.error(`${manifest.name} does not pack:\n${packed.output}`);
      problems += 1;
      continue;
    }
    const bytes = readFileSync(tarball);
    const { messages, pkg } = await publint({
      pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
      strict: true,
    });
    for (const message of messages) console.error(`${manifest.name}: ${formatMessage(message, pkg)}`);
    problems += messages.length;
    if (group === "shared") {
      // libraries for ESM alone: what CommonJS would resolve does not matter
      const types = run("attw", [tarball, "--profile", "esm-only"], root);
      if (!types.ok) {
        console.error(`${manifest.name}:\n${types.output}`);
        problems += 1;
      }
    }
    console.log(`${manifest.name}: ${(bytes.length / 1024).toFixed(0)} KiB packed`);
  }
}
rmSync(folder, { recursive: true, force: true });
if (problems > 0) console.error(`${problems} problems in the packages`);
process.exit(problems > 0 ? 1 : 0);
