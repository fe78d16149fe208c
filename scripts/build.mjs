// Bundles each server into servers/<name>/dist: app.js, one ESM file with nothing to install beside it, and main.js, the bin.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const root = join(import.meta.dirname, "..");

// Dependencies in CommonJS expect these to be there.
const CJS_BRIDGE = `import { createRequire as __createRequire } from "node:module";
const require = __createRequire(import.meta.url);`;

// A file cannot cache its own compilation, so the bin turns the cache on and then loads the server.
function launcher(engines) {
  return `#!/usr/bin/env node
import { enableCompileCache } from "node:module";
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const fits = (major === 22 && minor >= 23) || (major === 24 && minor >= 15) || major >= 26;
if (!fits) {
  process.stderr.write(\`This server needs Node ${engines}; this is \${process.version}. Install a newer Node, or run it as: npx -p node@24 -p <package> <command>.\\n\`);
  process.exit(1);
}
enableCompileCache();
await import("./app.js");
`;
}

const servers = readdirSync(join(root, "servers")).filter((name) => existsSync(join(root, "servers", name, "src", "main.ts")));
for (const name of servers) {
  const folder = join(root, "servers", name);
  const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const dist = join(folder, "dist");
  mkdirSync(dist, { recursive: true });
  await build({
    entryPoints: [join(folder, "src", "main.ts")],
    outfile: join(dist, "app.js"),
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node22",
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    banner: { js: CJS_BRIDGE },
    // the SQLite adapter's default driver is never used: ours over node:sqlite is
    alias: { "better-sqlite3": join(root, "scripts", "no-native-driver.mjs") },
    external: ["pg-native"],
    logLevel: "warning",
  });
  writeFileSync(join(dist, "main.js"), launcher(manifest.engines.node));
  chmodSync(join(dist, "main.js"), 0o755);
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
}
