/** Programs of the machine in bubblewrap: what they get, what ends them, and that nothing of them is left. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { SYSTEM_PATH } from "../src/sandbox/bwrap/disk.ts";
import { BwrapDriver } from "../src/sandbox/bwrap/driver.ts";
import { sweepWorkFolders } from "../src/sandbox/work-folder.ts";
import { marked, newMarker, runFolders, statusOf } from "./support/processes.ts";
import { type Run, runCode } from "./support/runs.ts";

const driver = new BwrapDriver();
const marker = newMarker();
const env = { MARKER: marker };
const bash = (code: string, run: Run = {}) => runCode(driver, "bash", code, { env, ...run });
const python = (code: string, run: Run = {}) => runCode(driver, "python3", code, { env, ...run });
const node = (code: string, run: Run = {}) => runCode(driver, "node", code, { env, ...run });

afterEach(() => {
  expect(marked(marker), "no process of a run is left").toEqual([]);
  expect(runFolders(), "no folder of a run is left").toEqual([]);
});
afterAll(() => driver.close());

describe("the driver of bubblewrap", () => {
  verifies("EXEC-06");

  it("shows what it holds and what it runs, and leaves nothing behind", async () => {
    const probe = await driver.probe();
    expect(probe).toMatchObject({
      available: true,
      capabilities: {
        limits: { wallMs: "enforced", cpuMs: "watched", memoryMiB: "watched", diskBytes: "enforced", processes: "enforced" },
        runtimes: {
          bash: { version: expect.stringMatching(/^\d/) },
          node: { version: expect.stringMatching(/^\d/) },
          python3: { version: expect.stringMatching(/^3\./) },
        },
        opens: { network: "none" },
        session: "files",
      },
    });
  });

  it("gives code its arguments, input, files and environment, and takes what it leaves in out", async () => {
    const ran = await bash(
      'cat /dev/stdin data/in.txt; echo "$1 $GREETING" > /dev/stderr; mkdir out/deep; echo made > out/deep/a.txt; exit 3',
      {
        args: ["a b"],
        stdin: "input\n",
        files: { "data/in.txt": "file\n" },
        env: { ...env, GREETING: "hello" },
      },
    );
    expect(ran).toMatchObject({
      ending: { kind: "exit", code: 3 },
      stdout: "input\nfile\n",
      stderr: "a b hello\n",
      files: { "deep/a.txt": "made\n" },
      cut: {},
    });
  });

  it("lets Python and Node use files of the task as their own modules", async () => {
    const inPython = await python("import helper, sys; print(helper.x, sys.argv[1])", {
      files: { "helper.py": "x = 6" },
      args: ["7"],
    });
    expect(inPython).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: "6 7\n" });
    const inNode = await node('console.log(require("./helper.js"))', { files: { "helper.js": "module.exports = 42;" } });
    expect(inNode).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: "42\n" });
    const asModule = await node('import { arch } from "node:os"; console.log(typeof arch())');
    expect(asModule).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: "string\n" });
  });

  it("inherits nothing of the worker's environment", async () => {
    process.env.SWARM_CANARY = "inherited";
    const ran = await bash("env");
    delete process.env.SWARM_CANARY;
    expect(ran.stdout).toContain("HOME=/work");
    expect(ran.stdout).not.toContain("inherited");
    expect(ran.stdout).not.toContain(process.env.HOME ?? "no home");
  });

  it("tells a signal from an exit code", async () => {
    expect((await bash("kill -SEGV $$")).ending).toEqual({ kind: "signal", signal: "SIGSEGV" });
    expect((await bash("exit 77")).ending).toEqual({ kind: "exit", code: 77 });
  });

  it("refuses the network and runtimes that it has not", async () => {
    await expect(bash("true", { network: { mode: "all" } })).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(runCode(driver, "ruby", "puts 1")).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(runCode(driver, "constructor", "1")).rejects.toMatchObject({ code: "failed_precondition" });
  });

  it("shows a folder that was mounted for reading, and lets nobody write there", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bwrap-mount-"));
    writeFileSync(join(folder, "data.txt"), "shared", { mode: 0o666 });
    chmodSync(folder, 0o777);
    const ran = await bash("cat /mnt/data/data.txt; echo x > /mnt/data/data.txt || echo kept", {
      mounts: [{ from: folder, to: "/mnt/data", readOnly: true }],
    });
    expect(ran.stdout).toBe("sharedkept\n");
    expect(readFileSync(join(folder, "data.txt"), "utf8")).toBe("shared");
    rmSync(folder, { recursive: true });
  });

  it("tells of a folder to be mounted that is not there, or not where it says, before anything runs", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bwrap-mount-"));
    symlinkSync(folder, join(folder, "link"));
    const lacks = (...froms: string[]) => driver.lacks({ mounts: froms.map((from) => ({ from, to: "/mnt/x", readOnly: true })) });
    expect(await lacks()).toBeUndefined();
    expect(await lacks(folder)).toBeUndefined();
    expect(await lacks(folder, join(folder, "nothing"))).toMatch(/^There is no mounts\[1\]\.from on this machine/);
    expect(await lacks(join(folder, "link"))).toMatch(/^A link lies on the way to mounts\[0\]\.from/);
    rmSync(folder, { recursive: true });
  });

  it("says that a sandbox did not start, which is not the code's failure", async () => {
    const nowhere = bash("true", { mounts: [{ from: join(tmpdir(), "there-is-no-such-folder"), to: "/mnt/x", readOnly: true }] });
    await expect(nowhere).rejects.toMatchObject({ code: "unavailable", retryable: true });
  });
});

describe("a bubblewrap that does not hold what it should", () => {
  verifies("EXEC-06");
  let bin: string;
  beforeEach(() => {
    bin = mkdtempSync(join(tmpdir(), "bwrap-bin-"));
    chmodSync(bin, 0o755);
  });
  afterEach(() => rmSync(bin, { recursive: true }));
  const tried = async (script: string) => {
    writeFileSync(join(bin, "bwrap"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const weak = new BwrapDriver(`${bin}:${SYSTEM_PATH}`);
    const probe = await weak.probe();
    await weak.close();
    return probe.available ? "it is available" : probe.reason;
  };

  it.each([
    ["without its filter", "--seccomp | 9", "filters no system calls"],
    ["without a limit of memory", "--data=*", "did not come to the end of its checks"],
    ["without a limit of files", "--fsize=*", "does not limit files"],
    ["with the user that it was started by", "--uid | --gid | 1000", "has another user"],
  ])("is not used %s", async (_what, dropped, reason) => {
    const dropping = `for arg do shift; case $arg in ${dropped}) ;; *) set -- "$@" "$arg" ;; esac; done; exec /usr/bin/bwrap "$@"`;
    expect(await tried(dropping)).toContain(reason);
  });

  it.each(["net", "ipc", "uts", "cgroup"])("is not used when it shares the namespace %s", async (kept) => {
    const others = ["net", "ipc", "uts", "cgroup", "pid"].filter((name) => name !== kept).map((name) => `--unshare-${name}`);
    const sharing = `for arg do shift; case $arg in --unshare-all) set -- "$@" ${others.join(" ")} ;; --hostname | sandbox) ;; *) set -- "$@" "$arg" ;; esac; done`;
    expect(await tried(`${sharing}; exec /usr/bin/bwrap "$@"`)).toContain(`shares the namespace ${kept}`);
  });

  it("is not used when it shows a home", async () => {
    const adding = `[ "$1" = --version ] || set -- --ro-bind /etc /home "$@"; exec /usr/bin/bwrap "$@"`;
    expect(await tried(adding)).toContain("shows /home");
  });

  it("is not used when it runs nothing, is too old, or is not there", async () => {
    expect(await tried('[ "$1" = --version ] && echo bubblewrap 0.9.0')).toContain("could not be started");
    expect(await tried("echo bubblewrap 0.6.1")).toContain("older than 0.8");
    rmSync(join(bin, "bwrap"));
    const none = await new BwrapDriver(bin).probe();
    expect(none).toEqual({ available: false, reason: expect.stringContaining("install the package bubblewrap") });
  });
});

describe("a run in bubblewrap that passes a limit", () => {
  verifies("EXEC-07");

  const cases: readonly [limit: string, why: string, start: () => ReturnType<typeof bash>][] = [
    [
      "wallMs",
      "sleeps on, ignoring signals",
      () => bash("trap '' TERM HUP INT; setsid sleep 300 & sleep 301", { limits: { wallMs: 400 } }),
    ],
    ["wallMs", "stops all it can", () => bash("kill -STOP -1; kill -STOP $$", { limits: { wallMs: 400 } })],
    ["cpuMs", "computes", () => bash("while :; do :; done", { limits: { cpuMs: 300 } })],
    [
      "cpuMs",
      "computes in many processes",
      () => python("import os\nfor n in range(4):\n  os.fork()\nwhile True: pass", { limits: { cpuMs: 600 } }),
    ],
    ["memoryMiB", "takes memory bit by bit", () => python("held = []\nwhile True: held.append(bytearray(1000000))")],
    ["memoryMiB", "takes it at once", () => python("held = bytearray(8 * 2**30)")],
    ["memoryMiB", "takes it in Node's heap", () => node("const held = []; for (;;) held.push(new Array(1e5).fill(0.5));")],
    ["memoryMiB", "takes it beside Node's heap", () => node("const held = []; for (;;) held.push(Buffer.alloc(4e6, 1));")],
    [
      "memoryMiB",
      "takes it with many small processes",
      () =>
        python(
          "import os, time\nfor n in range(12):\n  if os.fork() == 0:\n    held = bytearray(b'x') * 40000000\n    time.sleep(100)\ntime.sleep(100)",
        ),
    ],
    ["processes", "forks without end", () => python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass")],
    ["processes", "is a fork bomb", () => bash("bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 100")],
    ["outputBytes", "prints without end", () => bash("yes")],
    ["fileBytes", "writes one large file", () => bash("exec head -c 6000000 /dev/zero > large")],
    [
      "diskBytes",
      "writes many files",
      () => bash("for n in 1 2 3 4; do head -c 3000000 /dev/zero > $n || exit 1; done; sleep 100"),
    ],
    [
      "diskBytes",
      "fills /tmp and /dev/shm",
      () =>
        bash(
          "head -c 4000000 /dev/zero > /tmp/a; head -c 4000000 /dev/zero > /dev/shm/b; head -c 4000000 /dev/zero > c; sleep 100",
        ),
    ],
    ["diskBytes", "makes empty files", () => bash("for ((n = 0; n < 9000; n++)); do : > $n || exit 1; done")],
  ];
  it.each(cases)("is ended with %s when it %s", async (limit, _why, start) => {
    expect((await start()).ending).toEqual({ kind: "limit", limit });
  });

  it("keeps what it printed and handed out before its time was over", async () => {
    const ran = await bash("echo before; echo kept > out/a.txt; sleep 300", { limits: { wallMs: 500 } });
    expect(ran).toMatchObject({ ending: { kind: "limit", limit: "wallMs" }, stdout: "before\n", files: { "a.txt": "kept\n" } });
  });

  it("passes on exactly as much output as may be, of both streams together", async () => {
    const ran = await bash("while :; do echo out; echo err >&2; done", { limits: { outputBytes: 5_000 } });
    expect(ran.ending).toEqual({ kind: "limit", limit: "outputBytes" });
    expect(ran.stdout.length + ran.stderr.length).toBe(5_000);
    expect((ran.cut.stdoutBytes ?? 0) + (ran.cut.stderrBytes ?? 0)).toBeGreaterThan(0);
  });

  it("measures what a run that ended well has used", async () => {
    const ran = await python(
      "held = bytearray(b'x') * 60000000\nend = 0\nwhile end < 3000000: end += 1\nimport time; time.sleep(0.3)",
    );
    expect(ran.ending).toEqual({ kind: "exit", code: 0 });
    expect(ran.usage.peakMemoryMiB).toBeGreaterThan(50);
    expect(ran.usage.peakMemoryMiB).toBeLessThan(120);
    expect(ran.usage.cpuMs).toBeGreaterThan(0);
  });

  it("leaves others' runs unharmed: forks and memory without end beside ordinary tasks", async () => {
    const bombs = [
      bash("bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 100", { limits: { wallMs: 3_000 } }),
      python("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", { limits: { wallMs: 3_000 } }),
      python("held = []\nwhile True: held.append(bytearray(4000000))"),
    ];
    const worker = process.memoryUsage().rss;
    const others = await Promise.all(
      [1, 2, 3, 4].map((n) => bash(`for i in 1 2 3 4 5 6; do (sleep 0.05; echo ${n}) & done; wait; echo ended`)),
    );
    for (const [index, other] of others.entries()) {
      expect(other).toMatchObject({
        ending: { kind: "exit", code: 0 },
        stderr: "",
        stdout: `${`${index + 1}\n`.repeat(6)}ended\n`,
      });
    }
    for (const bomb of await Promise.all(bombs)) expect(bomb.ending.kind).toBe("limit");
    expect(process.memoryUsage().rss - worker).toBeLessThan(200 * 1_048_576);
  });
});

describe("the end of a run in bubblewrap", () => {
  verifies("EXEC-07");

  it("is the end of all its processes, whatever they did to be left alone", async () => {
    const ran = await bash(
      "(setsid sleep 300 </dev/null >/dev/null 2>&1 &); nohup sleep 301 >/dev/null 2>&1 & trap '' TERM; echo started",
    );
    expect(ran).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: "started\n" });
  });

  it("comes when it is aborted", async () => {
    const stop = new AbortController();
    const ran = await bash("trap '' TERM; echo up; setsid sleep 300 & sleep 301", {
      signal: stop.signal,
      onStdout: (text) => text.includes("up") && stop.abort(),
    });
    expect(ran).toMatchObject({ ending: { kind: "killed" }, stdout: "up\n", files: {} });
    const never = new AbortController();
    never.abort();
    expect((await bash("sleep 300", { signal: never.signal })).ending).toEqual({ kind: "killed" });
  });

  it("comes with the worker's, killed with -9, and the next worker removes its folders", async () => {
    const own = newMarker();
    const base = mkdtempSync(join(tmpdir(), "bwrap-killed-")); // of its own, because every worker's first run sweeps
    chmodSync(base, 0o755);
    const worker = startWorker(
      "trap '' TERM HUP INT; setsid sh -c 'while :; do :; done' & while :; do :; done",
      own,
      undefined,
      base,
    );
    await expect.poll(() => marked(own).length, { timeout: 20_000 }).toBeGreaterThan(4);
    const pids = marked(own);
    expect(runFolders(worker.pid, base)).toHaveLength(1);
    const gone = once(worker, "exit");
    worker.kill("SIGKILL");
    await gone;
    await expect.poll(() => marked(own), { timeout: 10_000 }).toEqual([]);
    // one that is ending has given its arguments back already
    await expect.poll(() => pids.filter((pid) => /^State:\s+[RSDT]/m.test(statusOf(pid))), { timeout: 10_000 }).toEqual([]);
    expect(runFolders(worker.pid, base)).toHaveLength(1);
    expect(await sweepWorkFolders(base)).toBeGreaterThan(0);
    expect(runFolders(worker.pid, base)).toEqual([]);
    rmSync(base, { recursive: true });
  });
});

describe("a sandbox of bubblewrap", () => {
  verifies("EXEC-08");

  it("gets no file that whoever started the worker left open", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bwrap-open-"));
    const path = join(folder, "secret.txt");
    writeFileSync(path, "left open");
    const file = openSync(path, "r");
    const files = Array.from({ length: 41 }, (_, index): "pipe" | "ignore" | number =>
      index < 3 ? "pipe" : index > 20 ? file : "ignore",
    );
    const worker = startWorker("cat <&20; cat <&33; cat <&40; ls -l /proc/self/fd", newMarker(), files);
    let said = "";
    worker.stdout?.on("data", (bytes: Buffer) => {
      said += bytes.toString();
    });
    await once(worker, "close");
    closeSync(file);
    rmSync(folder, { recursive: true });
    expect(said).toContain("/dev/null");
    expect(said).not.toContain("left open");
    expect(said).not.toContain("secret.txt");
  });

  it("has a user of its own when the worker is root, and another for each run", async () => {
    const stop = new AbortController();
    const runs = [1, 2].map(() => bash("sleep 300", { signal: stop.signal }));
    const users = (): Set<string> => new Set(marked(marker).map((pid) => /^Uid:\s+(\d+)/m.exec(statusOf(pid))?.[1] ?? ""));
    const own = String(process.getuid?.());
    const root = own === "0";
    await expect.poll(() => users().size, { timeout: 20_000 }).toBe(root ? 2 : 1);
    expect(users().has(own)).toBe(!root);
    stop.abort();
    await Promise.all(runs);
  });

  it("looks the same to every run: one user, its own processes, no devices that matter", async () => {
    const ran = await bash("id -un; echo $(ls -A /dev); ls -d /proc/[0-9]* | wc -l; cat /etc/passwd; hostname; ls -A /");
    const [user, devices, processes, passwd, host, ...root] = ran.stdout.trimEnd().split("\n");
    expect([user, passwd, host]).toEqual(["user", "user:x:1000:1000::/work:/bin/sh", "sandbox"]);
    expect(devices?.trim().split(" ").sort()).toEqual(
      [
        "core",
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
      ].sort(),
    );
    expect(Number(processes)).toBeLessThan(8);
    for (const name of ["home", "root", "var", "sys", "run"]) expect(root).not.toContain(name);
  });
});

describe("a session in bubblewrap", () => {
  verifies("EXEC-13");
  const limits = {
    wallMs: 10_000,
    cpuMs: 10_000,
    memoryMiB: 192,
    processes: 24,
    outputBytes: 65_536,
    fileBytes: 1e6,
    diskBytes: 4e6,
    files: 10,
  };
  const open = () => driver.openSession({ limits });

  it("keeps files from task to task, and no process", async () => {
    const session = await open();
    const other = await open();
    await runCode(session, "bash", "echo 41 > counter; setsid sleep 300 & echo x > /tmp/also", { env, limits });
    expect(marked(marker).filter((pid) => !/^Name:\s+sh$/m.test(statusOf(pid)))).toEqual([]);
    const ran = await runCode(session, "python3", "print(int(open('counter').read()) + 1, open('/tmp/also').read())", {
      env,
      limits,
    });
    expect(ran.stdout).toBe("42 x\n\n");
    expect((await runCode(other, "bash", "ls; ls /tmp", { env, limits })).stdout).toBe("out\n");
    await session.close();
    await other.close();
    await expect(runCode(session, "bash", "true", { env, limits })).rejects.toMatchObject({ code: "unavailable" });
  });

  it("writes the next task's files nowhere but into the sandbox, whatever links the last one left", async () => {
    const outside = mkdtempSync(join(tmpdir(), "bwrap-outside-"));
    mkdirSync(join(outside, "kept"));
    const session = await open();
    await runCode(
      session,
      "bash",
      `ln -s ${outside} data; ln -sf ${outside}/code .main.sh; ln -s ${outside}/plain plain.txt; rm -r out; ln -s ${outside} out`,
      { env, limits },
    );
    const next = await runCode(session, "bash", "echo ran", { env, limits, files: { "data/file.txt": "x", "plain.txt": "y" } });
    expect(readdirSync(outside)).toEqual(["kept"]);
    expect(next.files).toEqual({});
    await session.close();
    rmSync(outside, { recursive: true });
  });

  it("ends with its driver", async () => {
    const own = new BwrapDriver();
    const session = await own.openSession({ limits });
    await runCode(session, "bash", "true", { env, limits });
    await own.close();
    await expect(runCode(session, "bash", "true", { env, limits })).rejects.toMatchObject({ code: "unavailable" });
  });
});

function startWorker(
  code: string,
  own: string,
  stdio: readonly ("pipe" | "ignore" | "inherit" | number)[] = ["ignore", "pipe", "inherit"],
  base: string = tmpdir(),
): ChildProcess {
  return spawn(process.execPath, [join(import.meta.dirname, "support", "run-on-bwrap.ts"), code, own], {
    stdio: [...stdio],
    env: { PATH: process.env.PATH ?? "", TMPDIR: base },
  });
}
