/** What process-based drivers stand on: children that inherit nothing, are watched as a tree, and die with their worker. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { OutputBudget, type Supervised, type SuperviseOptions, startChild, supervise } from "../src/sandbox/child-process.ts";
import { killTree, samplePs, sampleTree } from "../src/sandbox/process-tree.ts";
import { marked, newMarker } from "./support/processes.ts";

const marker = newMarker();
const PATH = process.env.PATH ?? "/usr/bin:/bin";

async function supervised(
  command: readonly [string, ...string[]],
  limits: Partial<SuperviseOptions["limits"]> = {},
  options: { signal?: AbortSignal; stdin?: string; env?: Record<string, string> } = {},
): Promise<Supervised & { stdout: string }> {
  const [program, ...args] = command;
  const child = await startChild({ command: program, args, cwd: tmpdir(), env: options.env ?? { PATH, MARKER: marker } });
  let stdout = "";
  const result = await supervise(child, {
    limits: { wallMs: 20_000, outputBytes: 10_000, ...limits },
    stdin: Buffer.from(options.stdin ?? ""),
    hooks: {
      signal: options.signal ?? new AbortController().signal,
      onOutput: (stream, bytes) => {
        if (stream === "stdout") stdout += Buffer.from(bytes).toString();
      },
    },
  });
  return { ...result, stdout };
}

afterEach(() => expect(marked(marker), "no child is left").toEqual([]));

describe("a child of a worker", () => {
  verifies("EXEC-07");

  it("has the environment that it was given and no other", async () => {
    process.env.SWARM_CANARY = "inherited";
    const ran = await supervised(["/usr/bin/env"], {}, { env: { ONLY: "this" } });
    delete process.env.SWARM_CANARY;
    expect(ran).toMatchObject({ exit: { code: 0 }, stdout: "ONLY=this\n" });
  });

  it("gets its input, and may leave it unread", async () => {
    expect((await supervised(["cat"], {}, { stdin: "text" })).stdout).toBe("text");
    expect(await supervised(["true"], {}, { stdin: "x".repeat(262_144) })).toMatchObject({ exit: { code: 0 } });
  });

  it("is refused clearly when its program is not there", async () => {
    await expect(supervised(["there-is-no-such-program"])).rejects.toMatchObject({ code: "unavailable" });
  });

  it.each<[string, [string, ...string[]], Partial<SuperviseOptions["limits"]>]>([
    ["wallMs", ["sh", "-c", "trap '' TERM; sleep 300"], { wallMs: 300 }],
    ["cpuMs", ["sh", "-c", "while :; do :; done"], { cpuMs: 200 }],
    ["memoryMiB", ["python3", "-c", "held = bytearray(b'x') * 200000000\nimport time\ntime.sleep(300)"], { memoryMiB: 100 }],
    ["processes", ["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do sleep 300 & done; wait"], { processes: 5 }],
    ["outputBytes", ["yes"], { outputBytes: 5_000 }],
  ])("is killed with its descendants at %s", async (limit, command, limits) => {
    const ran = await supervised(command, limits);
    expect(ran.ended).toEqual({ kind: "limit", limit });
    expect(ran.exit.signal).toBe("SIGKILL");
    if (limit === "outputBytes") expect(ran.stdout).toHaveLength(5_000);
  });

  it("is killed when its run is aborted, with what led a session of its own", async () => {
    const stop = new AbortController();
    const ended = supervised(
      ["sh", "-c", "trap '' TERM; setsid sh -c 'setsid sleep 300 & sleep 301' & sleep 302"],
      {},
      { signal: stop.signal },
    );
    await expect.poll(() => marked(marker).length).toBeGreaterThanOrEqual(4);
    stop.abort();
    expect((await ended).ended).toEqual({ kind: "killed" });
  });

  it("takes its descendants with it when it ends by itself", async () => {
    const ran = await supervised(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo ended"]);
    expect(ran).toMatchObject({ ended: undefined, exit: { code: 0 }, stdout: "ended\n" });
  });

  it("shares its memory with its forks without its being counted for each", async () => {
    const code = `import os, time
held = bytearray(b"x") * 60000000
for n in range(6):
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
time.sleep(0.6)`;
    const ran = await supervised(["python3", "-c", code], { memoryMiB: 150 });
    expect(ran).toMatchObject({ ended: undefined, exit: { code: 0 } });
    expect(ran.usage.peakMemoryMiB).toBeGreaterThan(50);
  });

  it("dies with the worker, killed with -9, whatever it does", async () => {
    const own = newMarker();
    const worker = spawn(process.execPath, [join(import.meta.dirname, "support", "guarded-children.ts"), own], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH },
    });
    let said = "";
    worker.stdout.on("data", (bytes: Buffer) => {
      said += bytes.toString();
    });
    await expect.poll(() => said, { timeout: 20_000 }).toBe("up\nup\n");
    expect(marked(own).length).toBeGreaterThanOrEqual(3);
    const gone = once(worker, "exit");
    worker.kill("SIGKILL");
    await gone;
    await expect.poll(() => marked(own), { timeout: 10_000 }).toEqual([]);
  });
});

describe("a tree of processes", () => {
  verifies("EXEC-07");

  it("is found whole, also what other threads have started", async () => {
    const code = `import subprocess, threading, time
for n in range(3):
    threading.Thread(target=lambda: subprocess.run(["sleep", "300"])).start()
time.sleep(300)`;
    const child = await startChild({
      command: "python3",
      args: ["-c", code],
      cwd: "/",
      env: { PATH: "/usr/bin:/bin", MARKER: marker },
    });
    await expect.poll(async () => (await sampleTree(child.pid)).processes.length, { timeout: 10_000 }).toBe(4);
    await killTree(child.pid, { spareRoot: true });
    expect((await sampleTree(child.pid)).processes).toHaveLength(1);
    await child.kill();
    expect((await sampleTree(child.pid)).processes).toEqual([]);
  });
});

describe("a tree of processes as ps tells it", () => {
  verifies("EXEC-07");

  it("has the same processes, and the time and memory that they used", async () => {
    const code =
      "held = bytearray(b'x') * 50000000\nimport os, time\nos.fork()\nwhile time.process_time() < 0.3: pass\ntime.sleep(300)";
    const child = await startChild({
      command: "python3",
      args: ["-c", code],
      cwd: "/",
      env: { PATH: "/usr/bin:/bin", MARKER: marker },
    });
    await expect.poll(async () => (await sampleTree(child.pid)).cpuMs, { timeout: 10_000 }).toBeGreaterThan(300);
    const [told, seen] = [await samplePs(child.pid), await sampleTree(child.pid)];
    expect(told.processes.map(({ pid }) => pid)).toEqual(seen.processes.map(({ pid }) => pid));
    expect(told.processes).toHaveLength(2);
    expect(told.memoryBytes).toBeGreaterThan(50_000_000);
    await child.kill();
    expect((await samplePs(child.pid)).processes).toEqual([]);
  });
});

describe("an output budget", () => {
  verifies("EXEC-07");

  it("passes on what fits, of both streams together, and counts the rest", () => {
    const passed: string[] = [];
    let over = 0;
    const budget = new OutputBudget(10, { onOutput: (stream, bytes) => passed.push(`${stream} ${Buffer.from(bytes)}`) }, () => {
      over += 1;
    });
    budget.take("stdout", Buffer.from("123456"));
    budget.take("stderr", Buffer.from("7890"));
    expect(budget.cut()).toEqual({});
    expect(over).toBe(0);
    budget.take("stderr", Buffer.from("ab"));
    budget.take("stdout", Buffer.from("cde"));
    expect(passed).toEqual(["stdout 123456", "stderr 7890"]);
    expect(budget.cut()).toEqual({ stdoutBytes: 3, stderrBytes: 2 });
    expect(over).toBe(1);
  });
});
