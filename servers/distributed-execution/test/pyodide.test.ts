import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Driver } from "../src/sandbox/driver.ts";
import { openPyodideDriver } from "../src/sandbox/pyodide/driver.ts";
import { sweepWorkFolders } from "../src/sandbox/work-folder.ts";
import { runPython } from "./support/python-task.ts";

const POLL_MS = 50;
const POLLS_MAX = 600;

/** Living processes that one process started to run Python, by number and start, so that a number given anew is another. */
function interpretersOf(worker: number): string[] {
  return readdirSync("/proc").flatMap((name) => {
    const started = /^\d+$/.test(name) ? describeProcess(Number(name)) : undefined;
    return started?.parent === worker ? [started.id] : [];
  });
}

function describeProcess(pid: number): { id: string; parent: number } | undefined {
  try {
    const [state = "", parent, ...rest] = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    const isOurs = readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("--no-prompt");
    return isOurs && state !== "Z" ? { id: `${pid} ${rest[17]}`, parent: Number(parent) } : undefined;
  } catch {
    return undefined; // it has ended
  }
}

function lives(id: string): boolean {
  return describeProcess(Number(id.split(" ")[0]))?.id === id;
}

async function until(holds: () => boolean): Promise<boolean> {
  for (let poll = 0; poll < POLLS_MAX && !holds(); poll += 1) await delay(POLL_MS);
  return holds();
}

describe("Python in Pyodide", () => {
  verifies("EXEC-05");
  let driver: Driver;
  const errors: unknown[] = [];
  beforeAll(async () => {
    driver = openPyodideDriver({ slots: 1, onError: (error) => errors.push(error) });
    const probe = await driver.probe();
    if (!probe.available) throw new Error(`The packages deno and pyodide are needed for these tests: ${probe.reason}`);
  });
  afterAll(async () => {
    await driver.close();
    expect(errors).toEqual([]);
  });

  it("gives the value of the last expression, whatever of JSON it is", async () => {
    const { value, ending, stderr } = await runPython(driver, `x = 2\n{"a": [1, 2.5, None, True, (x, "é")], 3: {}}`);
    expect({ value, ending, stderr }).toEqual({
      value: { a: [1, 2.5, null, true, [2, "é"]], 3: {} },
      ending: { kind: "exit", code: 0 },
      stderr: "",
    });
  });

  it.each([
    ["object()", "of type object"],
    ["2 ** 70", "too large"],
    ["float('nan')", "not finite"],
    ["a = []\na.append(a)\na", "nested too deeply"],
    ["{(1, 2): 3}", "key is not text"],
  ])("shows a value that is not JSON: %s", async (code, why) => {
    const { value, ending, stderr } = await runPython(driver, code);
    expect(value).toBeUndefined();
    expect(ending).toEqual({ kind: "exit", code: 0 });
    expect(stderr).toContain(why);
  });

  it("cuts a value that is too large, and says how large it was", async () => {
    const { value, cut } = await runPython(driver, "'x' * 300_000");
    expect({ value, cut }).toEqual({ value: undefined, cut: { valueBytes: 300_002 } });
  });

  it("has its arguments, its input, its files and its environment, and nothing else", async () => {
    const { value } = await runPython(
      driver,
      "import os, sys\n[sys.argv[1:], input(), sys.stdin.read(), open('d/in.txt').read(), dict(os.environ), os.getcwd(), __name__]",
      {
        args: ["one", "two"],
        stdin: Buffer.from("first\nrest\n"),
        files: [{ path: "d/in.txt", bytes: Buffer.from("given") }],
        env: { KEY: "value" },
      },
    );
    expect(value).toEqual([["one", "two"], "first", "rest\n", "given", { KEY: "value" }, "/work", "__main__"]);
  });

  it("gives back the files below out, links left out", async () => {
    const { files, cut } = await runPython(
      driver,
      `import os
os.makedirs("out/a")
open("out/a/one.txt", "w").write("1")
open("out/two.bin", "wb").write(bytes(300_000))
os.symlink("/etc/passwd", "out/link")
open("kept-here", "w").write("x")`,
    );
    expect(files.map(({ path, bytes }) => [path, bytes.length])).toEqual([
      ["a/one.txt", 1],
      ["two.bin", 300_000],
    ]);
    expect(cut.files?.map(({ path }) => path)).toEqual(["link"]);
  });

  it("shows the lines of the task alone in a traceback", async () => {
    const { stderr, ending } = await runPython(driver, "def f():\n    raise ValueError('wrong')\n\nf()");
    expect(ending).toEqual({ kind: "exit", code: 1 });
    expect(stderr).toMatch(/^Traceback[^\n]*\n {2}File "<task>", line 4, in <module>\n {4}f\(\)/);
    expect(stderr).toMatch(/line 2, in f\n {4}raise ValueError\('wrong'\)\nValueError: wrong\n$/);
    expect((await runPython(driver, "x = (1 +")).stderr).toContain('File "<task>", line 1');
  });

  it("ends with the code that it gives", async () => {
    expect((await runPython(driver, "import sys\nsys.exit(3)")).ending).toEqual({ kind: "exit", code: 3 });
    const said = await runPython(driver, "raise SystemExit('good-bye')");
    expect([said.ending, said.stderr]).toEqual([{ kind: "exit", code: 1 }, "good-bye\n"]);
  });

  it("awaits at the top, and ends what it left running", async () => {
    const { value } = await runPython(
      driver,
      `import asyncio
async def forever():
    while True:
        await asyncio.sleep(0)
async def seven():
    await asyncio.sleep(0.01)
    return 7
left = asyncio.create_task(forever())
[await seven(), asyncio.run(seven())]`,
    );
    expect(value).toEqual([7, 7]);
  });

  it("draws other random numbers in each task, though all start from one memory", async () => {
    const code = "import random, secrets, uuid\n[random.random(), secrets.token_hex(), str(uuid.uuid4())]";
    const [one, two] = [(await runPython(driver, code)).value, (await runPython(driver, code)).value] as string[][];
    for (const [at, drawn] of (one ?? []).entries()) expect(drawn).not.toEqual(two?.[at]);
  });

  it("passes on what is printed while it runs", async () => {
    let firstAt = 0;
    let lastAt = 0;
    const { pythonTask } = await import("./support/python-task.ts");
    await driver.run(pythonTask("import time\nprint('first')\ntime.sleep(0.5)\nprint('last')"), {
      signal: new AbortController().signal,
      onOutput: (_, bytes) => {
        const text = Buffer.from(bytes).toString();
        if (text.includes("first")) firstAt = performance.now();
        if (text.includes("last")) lastAt = performance.now();
      },
    });
    expect(firstAt).toBeGreaterThan(0);
    expect(lastAt).toBeGreaterThan(firstAt);
  });

  describe("at a limit", () => {
    verifies("EXEC-07");
    const spin = "while True: pass";
    it.each([
      ["wallMs", spin, { wallMs: 700 }],
      ["wallMs", "import time\ntime.sleep(60)", { wallMs: 700 }],
      ["cpuMs", spin, { cpuMs: 300 }],
      ["outputBytes", "while True: print('x' * 99)", {}],
      ["memoryMiB", "x = []\nwhile True: x.append(bytearray(10_000_000))", {}],
      ["memoryMiB", "from pyodide.code import run_js\nrun_js('for (const a = [];;) a.push(new Uint8Array(1e7).fill(1))')", {}],
      ["fileBytes", "open('large', 'wb').write(bytes(2_000_000))", {}],
      ["fileBytes", "import os\nopen('sparse', 'wb').truncate(2_000_000)", {}],
      ["diskBytes", "for n in range(9): open(f'{n}', 'wb').write(bytes(900_000))", {}],
    ] as const)("it is ended and %s is named: %s", async (limit, code, limits) => {
      const { ending } = await runPython(driver, code, { limits });
      expect(ending).toEqual({ kind: "limit", limit });
      const after = await runPython(driver, "1 + 1");
      expect(after.value).toBe(2);
      expect(interpretersOf(process.pid).length, "but for the next one, which is ready").toBeLessThanOrEqual(1);
    });

    it("what it deleted can be written again", async () => {
      const { ending } = await runPython(
        driver,
        "import os\nfor n in range(20):\n    open('same', 'wb').write(bytes(900_000))\n    os.remove('same')",
      );
      expect(ending).toEqual({ kind: "exit", code: 0 });
    });

    it("only so many files come back", async () => {
      const { files, cut } = await runPython(driver, "for n in range(6): open(f'out/{n}', 'w').write('x')");
      expect(files).toHaveLength(4);
      expect(cut.files).toHaveLength(2);
    });
  });

  it("ends when it is told to", async () => {
    const stop = new AbortController();
    const running = runPython(driver, "while True: pass", { signal: stop.signal });
    await delay(POLL_MS);
    stop.abort();
    expect((await running).ending).toEqual({ kind: "killed" });
  });

  it.each([
    ["forges frames", "run_js('Deno.stdout.writeSync(new Uint8Array([4, 255, 255, 255, 255]))')", "signal"],
    ["forges an end", `run_js("Deno.stdout.writeSync(new Uint8Array([8, 0, 0, 0, 2, 123, 125]))")\nwhile True: pass`, "exit"],
    ["breaks its interpreter", "a = []\nfor n in range(10**6): a = [a]\nrepr(a)", "exit"],
    ["ends its thread", "run_js('self.close()')\nwhile True: pass", "limit"],
  ])("code that %s ends only itself", async (_, code, kind) => {
    const { ending } = await runPython(driver, `from pyodide.code import run_js\n${code}`, { limits: { wallMs: 3_000 } });
    expect(ending.kind).toBe(kind);
    expect(ending).not.toEqual({ kind: "exit", code: 0 });
    expect((await runPython(driver, "1 + 1")).value).toBe(2);
  });

  it("opens no network, folders or packages", async () => {
    await expect(runPython(driver, "1", { network: { mode: "all" } })).rejects.toMatchObject({ code: "unavailable" });
    await expect(runPython(driver, "1", { packages: ["numpy"] })).rejects.toMatchObject({ code: "unavailable" });
  });

  it("keeps what a session defined and wrote, for that session alone", async () => {
    verifies("EXEC-13");
    const { pythonTask } = await import("./support/python-task.ts");
    const session = await driver.openSession?.(pythonTask(""));
    if (session === undefined) throw new Error("Python has sessions");
    try {
      await runPython(session, "x = 5\nopen('kept', 'w').write('k')\nopen('out/a', 'w').write('a')");
      const second = await runPython(session, "x += 1\n[x, open('kept').read()]");
      expect([second.value, second.files]).toEqual([[6, "k"], []]);
      expect((await runPython(session, "raise ValueError(x)")).ending).toEqual({ kind: "exit", code: 1 });
      expect((await runPython(session, "x")).value).toBe(6);
      expect((await runPython(driver, "'x' in globals()")).value).toBe(false);
      expect((await runPython(session, "while True: pass", { limits: { wallMs: 500 } })).ending.kind).toBe("limit");
      await expect(runPython(session, "x")).rejects.toMatchObject({ code: "unavailable" });
    } finally {
      await session.close();
    }
  });
});

it("leaves no process and no file behind when it is closed", async () => {
  verifies("EXEC-07");
  const own = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith(`mcp-swarm-run-${process.pid}-`));
  const driver = openPyodideDriver({
    slots: 1,
    onError: (error) => {
      throw error;
    },
  });
  const running = runPython(driver, "while True: pass").catch((error: unknown) => error);
  expect(await until(() => interpretersOf(process.pid).length > 0 && own().length > 0)).toBe(true);
  await driver.close();
  await running;
  expect(interpretersOf(process.pid)).toEqual([]);
  expect(own()).toEqual([]);
});

it.each([
  ["spins", "print('up')\nwhile True: pass"],
  ["has stopped itself", "from pyodide.code import run_js\nprint('up')\nrun_js(\"Deno.kill(Deno.pid, 'SIGSTOP')\")"],
])("Python that %s dies with a worker that is killed", async (_, code) => {
  verifies("EXEC-07");
  const worker = spawn(process.execPath, [join(import.meta.dirname, "support", "python-worker.ts"), code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let started: string[] = [];
  try {
    await once(worker.stdout, "data");
    started = interpretersOf(worker.pid ?? 0);
    expect(started.length).toBeGreaterThan(0);
  } finally {
    worker.kill("SIGKILL");
  }
  await once(worker, "exit");
  expect(await until(() => !started.some(lives))).toBe(true);
  await sweepWorkFolders(); // as the next worker does
  expect(readdirSync(tmpdir()).filter((name) => name.startsWith(`mcp-swarm-run-${worker.pid}-`))).toEqual([]);
});
