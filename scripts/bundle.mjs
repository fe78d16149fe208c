// Bundles one server: main.js, the bin; app.js, what every start needs; a chunk for each part that is loaded when it is first used
// (an engine, HTTP, the command line); and what its package.json names under "bundle". Nothing has to be installed beside them.
import { chmodSync, copyFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { builtinModules, createRequire } from "node:module";
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
process.report.excludeEnv = true; // SWARM_STORE may hold a password, and a crash report is sent to others
nodeModule.enableCompileCache();
await import("./app.js");
`;
}

// An import statement of one of Node's own modules reads every export that it has, and so loads all that Node itself loads
// when it is needed (fs its streams, crypto its web half): a tenth of a server's start. Asking for the module does not, and
// what nobody imports is left out. node:crypto costs 3 ms and 2 MiB by itself: its functions ask for it when one is called.
const builtins = new Set(builtinModules);
const whenCalled = new Set(["node:crypto"]);
const lazyBuiltins = {
  name: "lazy-builtins",
  setup(builder) {
    builder.onResolve({ filter: /^[a-z]/ }, ({ path, kind }) => {
      const name = path.replace(/^node:/, "");
      if (kind !== "import-statement" || !(path.startsWith("node:") || builtins.has(name))) return undefined;
      return { path: `node:${name}`, namespace: "builtin", sideEffects: false };
    });
    builder.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => {
      const whole = process.getBuiltinModule(path);
      const ask = `process.getBuiltinModule(${JSON.stringify(path)})`;
      const later = (name) => whenCalled.has(path) && /^[a-z]/.test(name) && typeof whole[name] === "function";
      const names = Object.keys(whole).filter((name) => /^[A-Za-z_$][\w$]*$/.test(name) && name !== "default");
      const lines = names.map((name) => {
        const value = later(name) ? `(...given) => whole().${name}(...given)` : `/* @__PURE__ */ (() => whole().${name})()`;
        return `const its_${name} = ${value};\nexport { its_${name} as ${name} };`;
      });
      return { contents: [`const whole = () => ${ask};`, ...lines, "export default /* @__PURE__ */ whole();"].join("\n") };
    });
  },
};

// The SDK checks with Ajv what a host answered when a server asked its user something: a third of the code of a server that
// asks nothing. The SDK's other validator does the same in a fifth of that.
const lightValidator = {
  name: "light-validator",
  setup(builder) {
    builder.onLoad({ filter: /[\\/]@modelcontextprotocol[\\/]server[\\/]dist[\\/]shimsNode\.mjs$/ }, () => ({
      contents: `export { CfWorkerJsonSchemaValidator as DefaultJsonSchemaValidator } from "@modelcontextprotocol/server/validators/cf-worker";
export { default as process } from "node:process";`,
    }));
  },
};

/**
 * `parts`: folders of packages with what their package.json names under "bundle". `programs`: what the server starts as processes of
 * their own, by the name of the file without ".js"; each is one file that needs no other, so that it may be let read nothing else.
 * `assets`: files of dependencies by the name they get.
 */
export async function bundle({ entry, dist, engines, parts = [] }) {
  mkdirSync(dist, { recursive: true });
  const made = new Set(["main.js"]);
  for (const { folder, programs = {}, assets = {} } of parts) {
    for (const [name, source] of Object.entries(programs)) {
      await build({
        entryPoints: { [name]: join(folder, source) },
        outdir: dist,
        bundle: true,
        platform: "node",
        format: "esm",
        target: "node22",
        minifySyntax: true,
        minifyWhitespace: true,
        legalComments: "none",
        logLevel: "warning",
      });
      made.add(`${name}.js`);
    }
    const { resolve } = createRequire(join(folder, "package.json"));
    for (const [name, specifier] of Object.entries(assets)) {
      copyFileSync(resolve(specifier), join(dist, name));
      made.add(name);
    }
  }
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
    plugins: [lightValidator, lazyBuiltins],
    // the SQLite adapter's default driver is never used: ours over node:sqlite is
    alias: { "better-sqlite3": join(import.meta.dirname, "no-native-driver.mjs") },
    // drivers of other runtimes, behind imports that never run here
    external: ["pg-native", "bun:sqlite"],
    logLevel: "warning",
  });
  writeFileSync(join(dist, "main.js"), launcher(engines));
  chmodSync(join(dist, "main.js"), 0o755);
  // no chunk of an older build stays; they go last, so that a server can start at any moment
  for (const file of Object.keys(metafile.outputs)) made.add(basename(file));
  for (const name of readdirSync(dist)) if (!made.has(name)) rmSync(join(dist, name), { recursive: true });
}
