/** Somebody with nothing but Node and npm, who has just cloned the project: the README's first command. */
import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { run } from "../support/bin.ts";
import { eventually, Host, ROOT, temporaryFolder } from "../support/host.ts";

/** Bringing Node, pnpm and every dependency from a registry, on a slow day. */
const SETUP_MS_MAX = 420_000;
const END_MS_MAX = 5_000;
const NODE_MAJOR_MIN = 20;

/**
 * The machine's own Node with its npm: not the one this project brings, because the test is about who does not have it yet.
 * Where the machine has no other, the test runs with the one there is and still proves that setup brings its own.
 */
function machineNode(): string | undefined {
  const folders = (process.env.PATH ?? "")
    .split(delimiter)
    .filter((folder) => !folder.includes("node_modules") && !folder.includes(".tools"));
  return folders.find((folder) => {
    const node = join(folder, "node");
    if (!existsSync(node) || !existsSync(join(folder, "npm"))) return false;
    const major = Number(/^v(\d+)/.exec(execFileSync(node, ["--version"], { encoding: "utf8" }))?.[1]);
    return major >= NODE_MAJOR_MIN;
  });
}

/** What a registry needs to be reached; everything else of the environment is left behind. */
const KEPT =
  /^(npm_config_(registry|cafile|.*proxy)|https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_(file|dir)|tmpdir|lang|systemroot)$/i;

function userEnvironment(home: string, nodeFolder: string): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => KEPT.test(name));
  const settings = join(homedir(), ".npmrc");
  return {
    ...Object.fromEntries(kept),
    PATH: [nodeFolder, "/usr/local/bin", "/usr/bin", "/bin"].join(delimiter),
    HOME: home,
    ...(existsSync(settings) ? { NPM_CONFIG_USERCONFIG: settings } : {}),
  };
}

const nodeFolder = machineNode();

const possible = nodeFolder !== undefined && existsSync(join(ROOT, ".git")) && process.platform !== "win32";
// where every commit is proven, a machine that lacks them is a failure
const wanted = possible || process.env.CI !== undefined;
if (!wanted) console.warn("Not tested here: a fresh clone, which takes a Node of the machine's own beside npm, and git.");
describe.runIf(wanted)("a fresh clone", () => {
  test("`npm start` brings Node and pnpm, builds, serves, and prints lines that mount the servers; `npm test` tests", {
    timeout: SETUP_MS_MAX,
  }, async () => {
    verifies("CORE-01");
    using folder = temporaryFolder();
    const clone = join(folder.path, "clone");
    const home = join(folder.path, "home");
    mkdirSync(home);
    const files = execFileSync("git", ["ls-files", "-z"], { cwd: ROOT, encoding: "utf8" }).split("\0").filter(Boolean);
    expect(files.length).toBeGreaterThan(50);
    for (const file of files) {
      if (!existsSync(join(ROOT, file))) continue; // taken away, not yet committed
      mkdirSync(dirname(join(clone, file)), { recursive: true });
      cpSync(join(ROOT, file), join(clone, file));
    }
    const env: NodeJS.ProcessEnv = { ...userEnvironment(home, nodeFolder ?? ""), SWARM_STORE: folder.store };
    const npm = spawn("npm", ["start", "--", "--http", "0"], {
      cwd: clone,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    for (const stream of [npm.stdout, npm.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    const ended = new Promise<void>((resolve) => npm.once("close", () => resolve()));
    const interrupt = (signal: NodeJS.Signals) => {
      try {
        process.kill(-(npm.pid ?? 0), signal); // as Ctrl-C does: everything that was started
      } catch {
        expect(npm.exitCode ?? npm.signalCode).not.toBeNull();
      }
    };
    try {
      const url = await eventually(
        "the gateway runs",
        () => {
          if (npm.exitCode !== null) throw new Error(`npm start ended with ${npm.exitCode}:\n${output}`);
          return /gateway is running at (http:\/\/\S+?)\. Stop it with Ctrl-C/.exec(output)?.[1];
        },
        SETUP_MS_MAX,
      ).catch((error: unknown) => {
        throw new Error(output.slice(-4_000), { cause: error });
      });
      const health = await fetch(`${url}/health`);
      expect(health.status).toBe(200);
      expect(await health.json()).toMatchObject({ status: "ok", engine: "sqlite" });

      // its own Node, of the version that the servers need, and no trace in the user's home but caches
      const { command, args } = (
        JSON.parse(/^\{\n[\s\S]*?^\}$/m.exec(output)?.[0] ?? "{}") as {
          mcpServers: Record<string, { command: string; args: string[] }>;
        }
      ).mcpServers["task-coordination"] ?? { command: "", args: [] };
      expect(command.startsWith(join(clone, ".tools"))).toBe(true);
      expect(execFileSync(command, ["--version"], { encoding: "utf8" })).toMatch(/^v24\./);
      expect(
        execFileSync(join(clone, ".tools", "node_modules", ".bin", "pnpm"), ["--version"], {
          encoding: "utf8",
          env: { ...env, PATH: `${dirname(command)}${delimiter}${env.PATH}` },
        }),
      ).toMatch(/^12\./);

      await using host = await Host.start({ command, prefix: args, store: folder.store, agent: "new-user" });
      await host.call("add_task", { id: "first", description: "The first task" });
      await using remote = await Host.http(`${url}/task-coordination/mcp`, { agent: "remote" });
      expect(await remote.call("claim_task", { taskId: "first" })).toMatchObject({ task: { id: "first" } });

      interrupt("SIGINT");
      await eventually(
        "everything that npm start began has ended",
        async () =>
          fetch(`${url}/health`).then(
            () => false,
            () => true,
          ),
        END_MS_MAX,
      );
      await ended;

      // `npm test` in the same clone: one file of it, since all of it is what runs this
      const tested = await run("npm", ["test", "--", "shared/server/test/config.test.ts"], {
        env,
        cwd: clone,
        withinMs: SETUP_MS_MAX,
      });
      expect(tested, tested.stdout + tested.stderr).toMatchObject({ code: 0 });
      expect(stripVTControlCharacters(tested.stdout)).toMatch(/Test Files\s+1 passed/);
    } finally {
      interrupt("SIGKILL");
      await ended;
    }
  });
});
