// Bundles each server into servers/<name>/dist.
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "./bundle.mjs";

const root = join(import.meta.dirname, "..");

const servers = readdirSync(join(root, "servers")).filter((name) => existsSync(join(root, "servers", name, "src", "main.ts")));
const manifestOf = (name) => JSON.parse(readFileSync(join(root, "servers", name, "package.json"), "utf8"));
for (const name of servers) {
  const folder = join(root, "servers", name);
  const manifest = manifestOf(name);
  // who composes a server starts what that one starts
  const composed = servers.filter((other) => `@mcp-swarm/${other}` in manifest.devDependencies);
  await bundle({
    entry: join(folder, "src", "main.ts"),
    dist: join(folder, "dist"),
    engines: manifest.engines.node,
    parts: [name, ...composed].map((part) => ({ folder: join(root, "servers", part), ...manifestOf(part).bundle })),
  });
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
}
