import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { newId, systemRandom } from "@mcp-swarm/core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { SandboxRuntimeDriver } from "../src/sandbox/sandbox-runtime/driver.ts";
import { type Given, runPython } from "./support/python-task.ts";

const POLL_MS = 50;
const POLLS_MAX = 600;

/** Living processes whose command line holds a marker, but for the worker itself. */
function marked(marker: string, worker: number | undefined): string[] {
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid || Number(pid) === worker) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(marker);
    } catch {
      return false; // it has ended
    }
  });
}

const folders = (pid: number | undefined): string[] =>
  readdirSync(tmpdir()).filter((name) => name.startsWith(`mcp-swarm-run-${pid}-`));

describe("sandbox-runtime", () => {
  verifies("EXEC-06");
  const driver = new SandboxRuntimeDriver();
  const run = (runtime: string, code: string, given: Given = {}) => runPython(driver, code, { ...given, runtime });
  beforeAll(async () => {
    const probe = await driver.probe();
    if (!probe.available) throw new Error(`sandbox-runtime is needed for these tests: ${probe.reason}`);
    expect(Object.keys(probe.capabilities.runtimes).sort()).toEqual(["bash", "node", "python3"]);
    expect(Object.values(probe.capabilities.limits)).not.toContain("none");
  });
  afterAll(async () => {
    await driver.close();
    expect(folders(process.pid)).toEqual([]);
  });

  it.each([
    ["bash", 'echo "$1 $KEY $(cat) $(cat d/in.txt)"; exit 3'],
    [
      "node",
      `const { readFileSync } = require("node:fs");
console.log(process.argv[2], process.env.KEY, readFileSync(0, "utf8"), readFileSync("d/in.txt", "utf8"));
process.exit(3);`,
    ],
    ["python3", "import os, sys\nprint(sys.argv[1], os.environ['KEY'], sys.stdin.read(), open('d/in.txt').read())\nsys.exit(3)"],
  ])("%s has its arguments, environment, input and files, and ends with its code", async (runtime, code) => {
    const { stdout, ending } = await run(runtime, code, {
      args: ["it's $HOME"],
      env: { KEY: "value" },
      stdin: Buffer.from("given"),
      files: [{ path: "d/in.txt", bytes: Buffer.from("text") }],
    });
    expect(stdout).toBe("it's $HOME value given text\n");
    expect(ending).toEqual({ kind: "exit", code: 3 });
  });

  it("inherits nothing of the worker's environment", async () => {
    process.env.SWARM_CANARY = "canary";
    try {
      const { stdout } = await run("bash", "env; cat /proc/*/environ 2>/dev/null");
      expect(stdout).not.toContain("canary");
      expect(stdout).not.toContain("PROXY");
    } finally {
      delete process.env.SWARM_CANARY;
    }
  });

  it("gives back files, and no links", async () => {
    const { files, cut } = await run("bash", "echo one > out/one; ln -s /etc/passwd out/link");
    expect(files.map(({ path, bytes }) => [path, Buffer.from(bytes).toString()])).toEqual([["one", "one\n"]]);
    expect(cut.files).toEqual([{ path: "link", because: "it is a link" }]);
  });

  describe("at a limit", () => {
    verifies("EXEC-07");
    it.each([
      ["wallMs", "sleep 60", { wallMs: 700 }],
      ["cpuMs", "while :; do :; done", { cpuMs: 500 }],
      ["outputBytes", "yes", {}],
      ["processes", "for n in {1..40}; do sleep 60 & done; wait", {}],
      ["fileBytes", "head -c 2000000 /dev/zero > large", {}],
      ["diskBytes", "for n in {1..9}; do head -c 900000 /dev/zero > $n; done; sleep 60", {}],
      ["memoryMiB", "x=$(head -c 300000000 /dev/zero | tr '\\0' x); sleep 60", { memoryMiB: 64 }],
    ] as const)("it is ended and %s is named: %s", async (limit, code, limits) => {
      expect((await run("bash", code, { limits })).ending).toEqual({ kind: "limit", limit });
    });
  });

  it("keeps the files of a session, and no processes", async () => {
    verifies("EXEC-13");
    const session = await driver.openSession();
    try {
      await runPython(session, "echo kept > file; sleep 300 &", { runtime: "bash" });
      const { stdout } = await runPython(session, "cat file; ps ax | grep -c '[s]leep 300'", { runtime: "bash" });
      expect(stdout).toBe("kept\n0\n");
      const linked = await runPython(session, "rm .main.sh; ln -s /etc/hostname .main.sh; ln -s / d", { runtime: "bash" });
      expect(linked.ending).toEqual({ kind: "exit", code: 0 });
    } finally {
      await session.close();
    }
    await expect(runPython(session, "true", { runtime: "bash" })).rejects.toMatchObject({ code: "unavailable" });
  });

  it("opens no network, not even to named hosts", async () => {
    const network = { mode: "hosts", hosts: ["example.com"] } as const;
    await expect(run("bash", "true", { network })).rejects.toMatchObject({ code: "failed_precondition" });
  });
});

it("what it runs dies with a worker that is killed, whatever it does", async () => {
  verifies("EXEC-07");
  const marker = newId("marker", systemRandom);
  const worker = spawn(process.execPath, [join(import.meta.dirname, "support", "sandbox-runtime-worker.ts"), marker], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    await once(worker.stdout, "data");
    expect(marked(marker, worker.pid).length).toBeGreaterThan(0);
  } finally {
    worker.kill("SIGKILL");
  }
  await once(worker, "exit");
  for (let poll = 0; poll < POLLS_MAX && marked(marker, worker.pid).length > 0; poll += 1) await delay(POLL_MS);
  expect(marked(marker, worker.pid)).toEqual([]);
});
