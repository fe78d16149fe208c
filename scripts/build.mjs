// Bundles each server into servers/<name>/dist.
import { copyFileSync, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { bundle } from "./bundle.mjs";

const root = join(import.meta.dirname, "..");

const servers = readdirSync(join(root, "servers")).filter((name) => existsSync(join(root, "servers", name, "src", "main.ts")));
for (const name of servers) {
  const folder = join(root, "servers", name);
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  await bundle({
    entry: join(folder, "src", "main.ts"),
    dist: join(folder, "dist"),
    engines: manifest.engines.node,
    folder,
    ...manifest.bundle,
  });
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
}
