// Bundles one server: main.js, the bin; app.js, what every start needs; and a chunk for each part that is loaded when it is
// first used (an engine, HTTP, the command line). Nothing has to be installed beside them.
import { chmodSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { basename, join } from "node:path";
import { build } from "esbuild";

// Dependencies in CommonJS expect these to be there.
const CJS_BRIDGE = `import { createRequire as __createRequire } from "node:module";
const require = __createRequire(import.meta.url);`;

// A file cannot cache its own compilation, so the bin turns the cache on and then loads the server.
function launcher(engines) {
  return `#!/usr/bin/env node
import * as nodeModule from "node:module"; // an old Node has no enableCompileCache
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
const fits = (major === 22 && minor >= 23) || (major === 24 && minor >= 15) || major >= 26;
if (!fits) {
  process.stderr.write(\`This server needs Node ${engines}; this is \${process.version}. Install a newer Node, or run it as: npx -p node@24 -p <package> <command>.\\n\`);
  process.exit(1);
}
nodeModule.enableCompileCache();
await import("./app.js");
`;
}

// An import statement of one of Node's own modules reads every export that it has, and so loads all that Node itself loads
// when it is needed (fs its streams, crypto its web half): a tenth of a server's start. Asking for the module does not.
const builtins = new Set(builtinModules);
const lazyBuiltins = {
  name: "lazy-builtins",
  setup(builder) {
    builder.onResolve({ filter: /^[a-z]/ }, ({ path, kind }) => {
      const name = path.replace(/^node:/, "");
      if (kind !== "import-statement" || !(path.startsWith("node:") || builtins.has(name))) return undefined;
      return { path: `node:${name}`, namespace: "builtin" };
    });
    builder.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
    }));
  },
};

export async function bundle({ entry, dist, engines }) {
  mkdirSync(dist, { recursive: true });
  const { metafile } = await build({
    metafile: true,
    entryPoints: { app: entry },
    outdir: dist,
    bundle: true,
    // in one file, everything that any part imports from Node would be loaded at the start, HTTP and its fetch included
    splitting: true,
    chunkNames: "[name]-[hash]",
    platform: "node",
    format: "esm",
    target: "node22",
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    banner: { js: CJS_BRIDGE },
    plugins: [lazyBuiltins],
    // the SQLite adapter's default driver is never used: ours over node:sqlite is
    alias: { "better-sqlite3": join(import.meta.dirname, "no-native-driver.mjs") },
    // drivers of other runtimes, behind imports that never run here
    external: ["pg-native", "bun:sqlite"],
    logLevel: "warning",
  });
  writeFileSync(join(dist, "main.js"), launcher(engines));
  chmodSync(join(dist, "main.js"), 0o755);
  // no chunk of an older build stays; they go last, so that a server can start at any moment
  const made = new Set(["main.js", ...Object.keys(metafile.outputs).map((file) => basename(file))]);
  for (const name of readdirSync(dist)) if (!made.has(name)) rmSync(join(dist, name), { recursive: true });
}
