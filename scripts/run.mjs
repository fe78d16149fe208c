// The entry point of every npm script. It runs on any Node >= 20, brings the Node and pnpm this project needs from the
// npm registry into .tools/ when they are not there, installs the workspace when the lockfile changed, and then runs the
// task with that Node.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { runChild } from "./child.mjs";

const NODE_VERSION = "24.21.0";
const PNPM_VERSION = "12.21.0";

const root = join(import.meta.dirname, "..");
const tools = join(root, ".tools");
const windows = process.platform === "win32";

/** The npm package that carries the node binary of this platform; the names follow the `node` package's own choice. */
function nodePackage() {
  const platform = windows ? "win" : process.platform;
  const prefix = platform === "darwin" && process.arch === "arm64" ? "node-bin" : "node";
  return `${prefix}-${platform}-${process.arch}`;
}

const nodeBin = join(tools, "node_modules", nodePackage(), "bin", windows ? "node.exe" : "node");
const binFolders = [join(nodeBin, ".."), join(tools, "node_modules", ".bin"), join(root, "node_modules", ".bin")];
const env = { ...process.env, PATH: [...binFolders, process.env.PATH].join(delimiter), NODE_OPTIONS: "" };

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, env, stdio: "inherit", shell: windows, ...options });
  if (result.error) throw new Error(`${command} did not start: ${result.error.message}`);
  return result.status ?? 1;
}

function must(what, command, args, options) {
  const status = run(command, args, options);
  if (status === 0) return;
  console.error(`\n${what} failed (exit ${status}). Run "npm run setup" to see it alone.`);
  process.exit(status);
}

/** Runs `work`, which makes `product`, unless it was already done for the same `inputs`. */
function once(stamp, inputs, product, work) {
  const file = join(tools, `${stamp}.stamp`);
  const wanted = createHash("sha256").update(inputs.join("\n")).digest("hex");
  if (existsSync(product) && existsSync(file) && readFileSync(file, "utf8") === wanted) return;
  work();
  mkdirSync(tools, { recursive: true });
  writeFileSync(file, wanted);
}

function setup() {
  const bring = [`${nodePackage()}@${NODE_VERSION}`, `pnpm@${PNPM_VERSION}`];
  once("tools", bring, nodeBin, () => {
    console.error(`Setting up: ${bring.join(", ")} into .tools/ ...`);
    mkdirSync(tools, { recursive: true });
    writeFileSync(join(tools, "package.json"), '{"private":true,"name":"mcp-swarm-tools"}\n');
    must(
      "Bringing Node and pnpm",
      windows ? "npm.cmd" : "npm",
      ["install", "--prefix", tools, "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--loglevel=error", ...bring],
      { stdio: ["ignore", 2, "inherit"] },
    );
    if (!existsSync(nodeBin)) throw new Error(`${nodePackage()}@${NODE_VERSION} carries no binary for this machine`);
  });
  const lock = readFileSync(join(root, "pnpm-lock.yaml"), "utf8");
  const manifest = readFileSync(join(root, "package.json"), "utf8");
  once("install", [lock, manifest], join(root, "node_modules", ".pnpm"), () => {
    console.error("Installing the workspace's dependencies ...");
    must("Installing dependencies", "pnpm", ["install", "--frozen-lockfile", "--reporter=append-only", "--loglevel=warn"], {
      stdio: ["ignore", 2, "inherit"],
    });
  });
}

const [task, ...args] = process.argv.slice(2);
setup();
if (task === "setup") process.exit(0);
process.exit(
  await runChild(nodeBin, [join(root, "scripts", "tasks.mjs"), task ?? "", ...args], { cwd: root, env, shell: false }),
);
