/** Environments that are there without anybody having made them. Whether they run on a machine, its workers find out by running them. */
import type { Environment } from "./environment.ts";
import { LIMITS_DEFAULT, wholeManifest } from "./manifest.ts";

/** Pyodide alone takes about 180 MiB. */
const PYTHON_MEMORY_MIB = 512;
const PROCESS_MEMORY_MIB = 512;

const made = (input: Parameters<typeof wholeManifest>[0]): Environment => ({
  ...wholeManifest(input),
  origin: "builtin",
  version: 1,
});

export const BUILTIN_ENVIRONMENTS: readonly Environment[] = [
  made({ name: "javascript", runtime: "javascript", description: "JavaScript in QuickJS: no I/O but its own files" }),
  made({ name: "typescript", runtime: "typescript", description: "TypeScript with its types taken off, in QuickJS" }),
  made({
    name: "python",
    runtime: "python",
    description: "Python in Pyodide, within Deno without permissions",
    limits: { memoryMiB: PYTHON_MEMORY_MIB },
  }),
  made({
    name: "bash",
    runtime: "bash",
    description: "Bash and the programs of the machine, with no network",
    limits: { memoryMiB: PROCESS_MEMORY_MIB },
  }),
  made({
    name: "node",
    runtime: "node",
    description: "JavaScript in Node.js, with no network",
    limits: { memoryMiB: PROCESS_MEMORY_MIB },
  }),
  made({
    name: "python3",
    runtime: "python3",
    description: "The machine's own Python, with no network",
    limits: { memoryMiB: PROCESS_MEMORY_MIB },
  }),
  {
    name: "mcp",
    runtime: "mcp",
    description: "Tools of other MCP servers, from the operator's list",
    drivers: ["mcp"],
    limits: LIMITS_DEFAULT,
    network: { mode: "none" },
    mounts: [],
    packages: [],
    env: {},
    session: "none",
    requires: {},
    options: {},
    origin: "builtin",
    version: 1,
  },
];
