// What each npm script runs, once the right Node and the dependencies are there (see run.mjs).
import { join } from "node:path";
import { runChild } from "./child.mjs";

const root = join(import.meta.dirname, "..");

const BUILD = ["node", "scripts/build.mjs"];
const TASKS = {
  build: [BUILD],
  start: [BUILD, ["node", "servers/gateway/dist/main.js"]],
  test: [BUILD, ["vitest", "run"]],
  "test:long": [BUILD, ["vitest", "run", "test/faults", "test/e2e/load.test.ts"]],
  check: [["tsc", "-b"], ["biome", "check", "--error-on-warnings", "."], ["knip"], BUILD, ["node", "scripts/lint-packages.mjs"]],
  changeset: [["changeset"]],
  format: [["biome", "check", "--write", "."]],
  bench: [BUILD, ["node", "bench/run.ts"]],
  demo: [BUILD, ["node", "demo/main.ts"]],
};
/** What a task adds to the environment. The long form of the fault tests: more kills, pauses, outages and tasks. */
const ENV = { "test:long": { SWARM_FAULTS: "long" } };

const [name, ...args] = process.argv.slice(2);
const steps = TASKS[name];
if (!steps) {
  console.error(`Unknown task "${name}". Known: ${Object.keys(TASKS).join(", ")}.`);
  process.exit(2);
}
for (const [index, [command, ...rest]] of steps.entries()) {
  const extra = index === steps.length - 1 ? args : [];
  const status = await runChild(command, [...rest, ...extra], { cwd: root, env: { ...process.env, ...ENV[name] } });
  if (status !== 0) process.exit(status);
}
