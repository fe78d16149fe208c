/**
 * Attempts to get out of a sandbox, as data: what the code tries, and how it is seen from outside that it got there. Each must succeed in
 * a plain process (`control.ts`), or it proves nothing, and in no sandbox.
 */
import type { Ending, Limits } from "../../servers/distributed-execution/src/sandbox/driver.ts";
import type { Surroundings } from "./surroundings.ts";

export const LANGUAGES = ["javascript", "python", "bash"] as const;
export type Language = (typeof LANGUAGES)[number];

/** What became of one attempt. */
export interface Evidence {
  readonly stdout: string;
  readonly stderr: string;
  /** Bytes that reached the worker, of both streams. */
  readonly outputBytes: number;
  /** Undefined when the run was refused altogether. */
  readonly ending: Ending | undefined;
  /** What was taken from the folder of results. `bytes` may be the first of `size`. */
  readonly files: readonly { readonly path: string; readonly size: number; readonly bytes: Uint8Array }[];
  /** Whether what ran the code could not run anything afterwards. */
  readonly hostDied: boolean;
  /** Processes that outlived the run. */
  readonly strays: readonly number[];
}

export interface Attempt {
  readonly surroundings: Surroundings;
  readonly victimPid: number;
  readonly limits: Limits;
}

export interface EscapeProbe {
  /** Completes "code … cannot". */
  readonly name: string;
  readonly language: Language;
  readonly limits?: Partial<Limits>;
  readonly code: (attempt: Attempt) => string;
  readonly escaped: (evidence: Evidence, attempt: Attempt) => boolean;
}

const MIB = 1_048_576;
const quote = JSON.stringify;
/** Small, so that the control may pass each by a factor and no harm is done. */
export const LIMITS: Limits = {
  wallMs: 6_000,
  cpuMs: 6_000,
  memoryMiB: 192,
  processes: 24,
  outputBytes: 65_536,
  fileBytes: MIB,
  diskBytes: 4 * MIB,
  files: 10,
};
/** What the control is left to run at most, in ms. */
export const CONTROL_MS_MAX = 30_000;

const beyondMemory = ({ memoryMiB }: Limits): number => Math.max(768, memoryMiB * 3);
const tooLong = { wallMs: 700 };
const OUTLIVES_MS = 1_800;
const FORKS = 120;
const SAID = "it is done";
/** What each probe prints first, so that one that was never run is not taken for one that was stopped. */
export const TRIES = "now it is tried";
const says = (evidence: Evidence): boolean => evidence.stdout.includes(SAID);
const tellsSecret = ({ stdout, stderr }: Evidence, { surroundings }: Attempt): boolean =>
  stdout.includes(surroundings.secret) || stderr.includes(surroundings.secret);
const takesSecret = (evidence: Evidence, attempt: Attempt): boolean =>
  evidence.files.some(({ bytes }) => Buffer.from(bytes).includes(attempt.surroundings.secret)) || tellsSecret(evidence, attempt);
/** Of somebody who has a login here; sandboxes make up a list of their own. */
const tellsUsers = ({ stdout }: Evidence): boolean => /^root:[^\n]*\n[\s\S]*^(daemon|nobody|bin|sys):/m.test(stdout);
const reaches = (_: Evidence, { surroundings }: Attempt): boolean => surroundings.arrivals > 0;
const writes = (_: Evidence, { surroundings }: Attempt): boolean => surroundings.wroteOutside();
const survives = ({ strays }: Evidence): boolean => strays.length > 0;
const kills = (_: Evidence, { surroundings }: Attempt): boolean => !surroundings.victimLives();
const touchesVictim = (_: Evidence, { surroundings }: Attempt): boolean => surroundings.victimOomScore() === "777";
const floods = ({ outputBytes }: Evidence, { limits }: Attempt): boolean => outputBytes > limits.outputBytes;
const oversized = ({ files }: Evidence, { limits }: Attempt): boolean => files.some(({ size }) => size > limits.fileBytes);
const tooMany = ({ files }: Evidence, { limits }: Attempt): boolean => files.length > limits.files;
const kept = ({ hostDied }: Evidence): boolean => hostDied;
const misnamed = ({ files }: Evidence): boolean => files.some(({ path }) => /[\\\u0000-\u001f]|\.\./.test(path));
const special = ({ files }: Evidence): boolean => files.some(({ path }) => /fifo|socket/.test(path));

// ---------------------------------------------------------------------------------------------------------------- javascript
/** Finds Node's objects by whatever way there is, from QuickJS as from Node. */
const JS = `
const say = (text) => { try { console.log(String(text)); } catch {} };
const attempt = (...ways) => { for (const way of ways) { try { const found = way(); if (found !== undefined && found !== null) return found; } catch {} } return undefined; };
const make = (text) => [
  () => globalThis.constructor.constructor(text)(),
  () => (function () {}).constructor(text)(),
  () => Object.getPrototypeOf(async function () {}).constructor(text),
  () => { try { null.x; } catch (error) { return error.constructor.constructor(text)(); } },
  () => console.log.constructor(text)(),
  () => Reflect.construct(Function, [text])(),
  () => (0, eval)(text.replace("return ", "")),
];
const host = attempt(() => process, () => globalThis.process, ...make("return process"));
const load = (name) => attempt(
  () => host.getBuiltinModule(name), () => require(name), () => host.mainModule.require(name),
  ...make("return require").map((way) => () => way()(name)),
);
const fs = load("fs");
const read = (path) => attempt(() => fs.readFileSync(path, "utf8"), () => std.loadFile(path), () => Deno.readTextFileSync(path));
const write = (path, text) => attempt(() => fs.writeFileSync(path, text) ?? true, () => Deno.writeTextFileSync(path, text) ?? true);
const start = (command, args) => attempt(
  () => { const child = load("child_process").spawn(command, args, { detached: true, stdio: "ignore" }); child.unref(); return child; },
  () => os.exec([command, ...args], { block: false }),
);
`;
const js = (body: (attempt: Attempt) => string) => (attempt: Attempt) => `${JS}\nsay(${quote(TRIES)});\n${body(attempt)}\n`;

const JAVASCRIPT: readonly Omit<EscapeProbe, "language">[] = [
  { name: "read the machine's users", code: js(() => `say(read("/etc/passwd"));`), escaped: tellsUsers },
  {
    name: "read a file of somebody's home",
    code: js(({ surroundings: s }) => `say(read(${quote(s.canary)}));`),
    escaped: tellsSecret,
  },
  {
    name: "climb out of the working folder",
    code: js(({ surroundings: s }) => `say(read("../../../../../../../../../../.." + ${quote(s.canary)}));`),
    escaped: tellsSecret,
  },
  {
    name: "read through another process's root",
    code: js(
      ({ surroundings: s, victimPid }) =>
        `for (const pid of [${victimPid}, 1, "self", "thread-self"]) say(read("/proc/" + pid + "/root" + ${quote(s.canary)}));
say(read("/proc/${victimPid}/cwd/canary.txt"));`,
    ),
    escaped: tellsSecret,
  },
  {
    name: "write outside its folder",
    code: js(({ surroundings: s }) => `write(${quote(`${s.outside}/written`)}, "x"); write("/tmp/" + ${quote(s.marker)}, "x");`),
    escaped: writes,
  },
  {
    name: "connect by TCP to the machine",
    code: js(
      ({ surroundings: s }) => `attempt(() => load("net").connect(${s.tcpPort}, "127.0.0.1").on("error", say));
attempt(() => fetch("http://127.0.0.1:${s.tcpPort}/").catch(say));`,
    ),
    escaped: reaches,
  },
  {
    name: "send by UDP to the machine",
    code: js(
      ({ surroundings: s }) => `attempt(() => {
  const socket = load("dgram").createSocket("udp4").on("error", say);
  socket.send("x", ${s.udpPort}, "127.0.0.1", () => socket.close());
});`,
    ),
    escaped: reaches,
  },
  {
    name: "connect to abstract sockets of the machine",
    code: js(({ surroundings: s }) => `attempt(() => load("net").connect("\\0" + ${quote(s.abstractName)}).on("error", say));`),
    escaped: reaches,
  },
  {
    name: "connect to a socket in a folder of the machine",
    code: js(({ surroundings: s }) => `attempt(() => load("net").connect(${quote(s.socketPath)}).on("error", say));`),
    escaped: reaches,
  },
  {
    name: "read another process's environment",
    code: js(({ victimPid }) => `for (const pid of [${victimPid}, 1]) say(read("/proc/" + pid + "/environ"));`),
    escaped: tellsSecret,
  },
  {
    name: "find the worker's environment",
    code: js(
      () => `say(attempt(() => JSON.stringify(host.env)));
say(read("/proc/self/environ")); say(read("/proc/" + attempt(() => host.ppid) + "/environ"));`,
    ),
    escaped: tellsSecret,
  },
  {
    name: "signal other processes",
    code: js(({ victimPid }) => `attempt(() => host.kill(${victimPid}, "SIGKILL"));`),
    escaped: kills,
  },
  {
    name: "write to another process's files in /proc",
    code: js(({ victimPid }) => `write("/proc/${victimPid}/oom_score_adj", "777");`),
    escaped: touchesVictim,
  },
  {
    name: "get at files by way of constructors",
    code: js(
      ({ surroundings: s }) =>
        `const body = ${quote(`const p = process; return p.getBuiltinModule("fs").readFileSync(${quote(s.canary)}, "utf8")`)};
for (const way of make(body)) say(attempt(way));`,
    ),
    escaped: tellsSecret,
  },
  {
    name: "crash what runs it by recursion",
    code: js(() => `const deeper = (n) => deeper(n + 1) + JSON.stringify([[[[n]]]]).length; say(deeper(0));`),
    escaped: kept,
  },
  {
    name: "take more memory than it may",
    code: js(
      ({ limits }) => `const held = [];
for (let mib = 0; mib < ${beyondMemory(limits)}; mib += 8) held.push(new Uint8Array(8 * 1048576).fill(1));
say(held.length > 0 ? ${quote(SAID)} : "");`,
    ),
    escaped: says,
  },
  {
    name: "set aside 8 GB at once",
    code: js(() => `const held = []; for (let n = 0; n < 8; n += 1) held.push(new ArrayBuffer(2 ** 30)); say(${quote(SAID)});`),
    escaped: says,
  },
  {
    name: "print more than it may",
    code: js(() => `for (let n = 0; n < 20000; n += 1) console.log("x".repeat(99));`),
    escaped: floods,
  },
  {
    name: "start more processes than it may",
    code: js(
      ({ surroundings: s }) => `const children = [];
for (let n = 0; n < ${FORKS}; n += 1) { const child = start("sh", ["-c", "sleep 5; : ${s.marker}"]); if (child?.pid) children.push(child); }
const wait = Date.now(); while (Date.now() - wait < 400);
say(children.filter((child) => attempt(() => host.kill(child.pid, 0))).length >= ${FORKS} ? ${quote(SAID)} : "");`,
    ),
    escaped: says,
  },
  {
    name: "leave a process behind that led a session of its own",
    code: js(({ surroundings: s }) => `start("sh", ["-c", "trap '' TERM HUP INT; sleep 20; : ${s.marker}"]);`),
    escaped: survives,
  },
  {
    name: "run on past its time",
    limits: tooLong,
    code: js(() => `const began = Date.now(); while (Date.now() - began < ${OUTLIVES_MS}); say(${quote(SAID)});`),
    escaped: says,
  },
  {
    name: "hand out a file by a link",
    code: js(({ surroundings: s }) => `attempt(() => fs.symlinkSync(${quote(s.canary)}, "out/link"));`),
    escaped: takesSecret,
  },
  {
    name: "hand out more files than it may",
    code: js(() => `for (let n = 0; n < 60; n += 1) write("out/" + n + ".txt", "x");`),
    escaped: tooMany,
  },
  {
    name: "hand out a larger file than it may",
    code: js(() => `write("out/large.txt", "x".repeat(3 * 1048576));`),
    escaped: oversized,
  },
];

// -------------------------------------------------------------------------------------------------------------------- python
/** Tries the ways of CPython, and those from Pyodide to the JavaScript around it. */
const PYTHON_PRELUDE = `
import sys
try:
    import os
except BaseException:
    os = None
def attempt(*ways):
    for way in ways:
        try:
            found = way()
            if found is not None:
                return found
        except BaseException:
            pass
def from_js(code):
    def way():
        from pyodide.code import run_js
        return run_js(code)
    return way
def say(value):
    if value is not None:
        print(value, flush=True)
def plain(path):
    with open(path, encoding="latin-1") as file:
        return file.read()
def put(path, text):
    with open(path, "w") as file:
        file.write(text)
    return True
def read(path):
    return attempt(
        lambda: plain(path),
        from_js("Deno.readTextFileSync(" + repr(path) + ")"),
        from_js("process.getBuiltinModule('fs').readFileSync(" + repr(path) + ", 'utf8')"),
        from_js("globalThis.constructor.constructor('return process')().getBuiltinModule('fs').readFileSync(" + repr(path) + ", 'utf8')"),
    )
def write(path, text):
    done = attempt(lambda: put(path, text))
    attempt(from_js("Deno.writeTextFileSync(" + repr(path) + ", " + repr(text) + ")"))
    attempt(from_js("process.getBuiltinModule('fs').writeFileSync(" + repr(path) + ", " + repr(text) + ")"))
    return done
`;
const py = (body: (attempt: Attempt) => string) => (attempt: Attempt) =>
  `${PYTHON_PRELUDE}\nsay(${quote(TRIES)})\n${body(attempt)}\n`;

const PYTHON: readonly Omit<EscapeProbe, "language">[] = [
  { name: "read the machine's users", code: py(() => `say(read("/etc/passwd"))`), escaped: tellsUsers },
  {
    name: "read a file of somebody's home",
    code: py(({ surroundings: s }) => `say(read(${quote(s.canary)}))`),
    escaped: tellsSecret,
  },
  {
    name: "climb out of the working folder",
    code: py(({ surroundings: s }) => `say(read("../" * 12 + ${quote(s.canary.slice(1))}))`),
    escaped: tellsSecret,
  },
  {
    name: "read through another process's root",
    code: py(
      ({ surroundings: s, victimPid }) => `for pid in ("${victimPid}", "1", "self"):
    say(read("/proc/" + pid + "/root" + ${quote(s.canary)}))
say(read("/proc/${victimPid}/cwd/canary.txt"))`,
    ),
    escaped: tellsSecret,
  },
  {
    name: "write outside its folder",
    code: py(({ surroundings: s }) => `write(${quote(`${s.outside}/written`)}, "x")\nwrite("/tmp/" + ${quote(s.marker)}, "x")`),
    escaped: writes,
  },
  {
    name: "connect by TCP to the machine",
    code: py(
      ({ surroundings: s }) => `def connect():
    import socket
    socket.create_connection(("127.0.0.1", ${s.tcpPort}), 2)
attempt(connect)
attempt(from_js("fetch('http://127.0.0.1:${s.tcpPort}/')"))
attempt(from_js("Deno.connect({port: ${s.tcpPort}})"))`,
    ),
    escaped: reaches,
  },
  {
    name: "send by UDP to the machine",
    code: py(
      ({ surroundings: s }) => `import socket
attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", ${s.udpPort})))`,
    ),
    escaped: reaches,
  },
  {
    name: "connect to abstract sockets of the machine",
    code: py(
      ({ surroundings: s }) => `import socket
attempt(lambda: socket.socket(socket.AF_UNIX).connect("\\0" + ${quote(s.abstractName)}))`,
    ),
    escaped: reaches,
  },
  {
    name: "connect to a socket in a folder of the machine",
    code: py(
      ({ surroundings: s }) => `import socket
attempt(lambda: socket.socket(socket.AF_UNIX).connect(${quote(s.socketPath)}))
attempt(from_js("Deno.connect({transport: 'unix', path: " + repr(${quote(s.socketPath)}) + "})"))`,
    ),
    escaped: reaches,
  },
  {
    name: "read another process's environment",
    code: py(({ victimPid }) => `for pid in ("${victimPid}", "1"):\n    say(read("/proc/" + pid + "/environ"))`),
    escaped: tellsSecret,
  },
  {
    name: "find the worker's environment",
    code: py(
      () => `say(attempt(lambda: dict(os.environ)))
say(read("/proc/self/environ"))
say(attempt(lambda: read("/proc/" + str(os.getppid()) + "/environ")))
say(attempt(from_js("JSON.stringify(Deno.env.toObject())")))
say(attempt(from_js("JSON.stringify(process.env)")))`,
    ),
    escaped: tellsSecret,
  },
  { name: "signal other processes", code: py(({ victimPid }) => `attempt(lambda: os.kill(${victimPid}, 9))`), escaped: kills },
  {
    name: "write to another process's files in /proc",
    code: py(({ victimPid }) => `write("/proc/${victimPid}/oom_score_adj", "777")`),
    escaped: touchesVictim,
  },
  {
    name: "start a program of the machine",
    code: py(
      ({ surroundings: s }) => `command = ["sh", "-c", "cat ${s.canary}; touch ${s.outside}/written"]
def start():
    import subprocess
    return subprocess.run(command, capture_output=True, text=True, timeout=3).stdout
say(attempt(start, from_js("new TextDecoder().decode(new Deno.Command('cat', {args: ['${s.canary}']}).outputSync().stdout)")))`,
    ),
    escaped: (evidence, attempt) => tellsSecret(evidence, attempt) || writes(evidence, attempt),
  },
  {
    name: "get at files by way of foreign functions",
    code: py(
      ({ surroundings: s }) => `def by_libc():
    import ctypes
    libc = ctypes.CDLL(None)
    held = ctypes.create_string_buffer(200)
    got = libc.read(libc.open(${quote(s.canary)}.encode(), 0), held, 200)
    return held.raw[:got].decode() if got > 0 else None
say(attempt(by_libc))`,
    ),
    escaped: tellsSecret,
  },
  {
    name: "crash what runs it by recursion",
    code: py(
      () => `sys.setrecursionlimit(2**31 - 1)
nested = []
for n in range(10**6):
    nested = [nested]
say(len(repr(nested)))`,
    ),
    escaped: kept,
  },
  {
    name: "take more memory than it may",
    code: py(
      ({ limits }) => `held = [bytearray(b"x") * (8 * 1048576) for n in range(${Math.ceil(beyondMemory(limits) / 8)})]
say(${quote(SAID)})`,
    ),
    escaped: says,
  },
  {
    name: "set aside 8 GB at once",
    code: py(
      () => `def reserve():
    import mmap
    return mmap.mmap(-1, 8 * 2**30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000))
say(attempt(lambda: reserve() and ${quote(SAID)}))`,
    ),
    escaped: says,
  },
  {
    name: "take too much memory with many processes, each with little",
    code: py(
      ({ limits }) => `started = 0
reader, writer = os.pipe()
for n in range(${Math.ceil(beyondMemory(limits) / 64)}):
    if os.fork() == 0:
        held = bytearray(b"x") * (64 * 1048576)
        os.write(writer, b"x")
        import time
        time.sleep(2)
        os._exit(0)
    started += 1
for n in range(started):
    os.read(reader, 1)
say(${quote(SAID)})`,
    ),
    escaped: says,
  },
  {
    name: "take memory in files that have no name",
    code: py(
      ({ limits }) => `held = []
for n in range(${beyondMemory(limits)}):
    held.append(os.memfd_create("x"))
    if os.write(held[-1], b"x" * 1048576) != 1048576:
        raise OSError
say(${quote(SAID)})`,
    ),
    escaped: says,
  },
  { name: "print more than it may", code: py(() => `for n in range(20000):\n    print("x" * 99)`), escaped: floods },
  {
    name: "start more processes than it may",
    code: py(
      () => `count = 0
for n in range(${FORKS}):
    try:
        if os.fork() == 0:
            import time
            time.sleep(3)
            os._exit(0)
        count += 1
    except BaseException:
        break
say(${quote(SAID)} if count == ${FORKS} else count)`,
    ),
    escaped: says,
  },
  {
    name: "leave a process behind that led a session of its own",
    code: py(
      ({ surroundings: s }) => `if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sh", ["sh", "-c", "trap '' TERM HUP INT; exec <&- >&- 2>&-; sleep 20; : ${s.marker}"])
    os._exit(0)`,
    ),
    escaped: survives,
  },
  {
    name: "run on past its time",
    limits: tooLong,
    code: py(
      () => `import time
try:
    import signal
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_IGN)
except BaseException:
    pass
began = time.time()
while time.time() - began < ${OUTLIVES_MS / 1_000}:
    pass
say(${quote(SAID)})`,
    ),
    escaped: says,
  },
  {
    name: "hand out a file by a link",
    code: py(({ surroundings: s }) => `os.makedirs("out", exist_ok=True)\nos.symlink(${quote(s.canary)}, "out/link")`),
    escaped: takesSecret,
  },
  {
    name: "hand out a folder by a link",
    code: py(({ surroundings: s }) => `os.symlink(os.path.dirname(${quote(s.canary)}), "out/folder")`),
    escaped: takesSecret,
  },
  {
    name: "put a link in place of the folder of results",
    code: py(({ surroundings: s }) => `os.rmdir("out")\nos.symlink(os.path.dirname(${quote(s.canary)}), "out")`),
    escaped: takesSecret,
  },
  {
    name: "hand out a file by a second name of it",
    code: py(({ surroundings: s }) => `os.link(${quote(s.canary)}, "out/hard")`),
    escaped: takesSecret,
  },
  {
    name: "hand out pipes",
    code: py(() => `os.mkfifo("out/fifo")`),
    escaped: special,
  },
  {
    name: "hand out a file that seems to be a tebibyte",
    code: py(() => `with open("out/giant", "wb") as file:\n    file.truncate(2**40)`),
    escaped: oversized,
  },
  {
    name: "hand out names that lead elsewhere",
    code: py(() => `for name in ("..\\\\evil.txt", "two\\nlines.txt"):\n    put("out/" + name, "x")`),
    escaped: misnamed,
  },
  {
    name: "hand out more files than it may",
    code: py(() => `for n in range(60):\n    put("out/" + str(n) + ".txt", "x")`),
    escaped: tooMany,
  },
  {
    name: "hand out a larger file than it may",
    code: py(() => `write("out/large.txt", "x" * (3 * 1048576))`),
    escaped: oversized,
  },
  {
    name: "fill more of a disk than it may",
    code: py(() => `for n in range(40):\n    put("file" + str(n), "x" * 900000)\nsay(${quote(SAID)})`),
    escaped: says,
  },
];

// ---------------------------------------------------------------------------------------------------------------------- bash
const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

const BASH: readonly Omit<EscapeProbe, "language">[] = [
  { name: "read the machine's users", code: () => "cat /etc/passwd", escaped: tellsUsers },
  { name: "read a file of somebody's home", code: ({ surroundings: s }) => `cat ${shell(s.canary)}`, escaped: tellsSecret },
  {
    name: "climb out of the working folder",
    code: ({ surroundings: s }) => `cat ${shell(`${"../".repeat(12)}${s.canary.slice(1)}`)}`,
    escaped: tellsSecret,
  },
  {
    name: "read through another process's root",
    code: ({ surroundings: s, victimPid }) =>
      `for pid in ${victimPid} 1 self; do cat /proc/$pid/root${shell(s.canary)}; done; cat /proc/${victimPid}/cwd/canary.txt`,
    escaped: tellsSecret,
  },
  {
    name: "write outside its folder",
    code: ({ surroundings: s }) => `echo x > ${shell(`${s.outside}/written`)}; echo x > /tmp/${s.marker}`,
    escaped: writes,
  },
  {
    name: "connect by TCP to the machine",
    code: ({ surroundings: s }) => `exec 7<>/dev/tcp/127.0.0.1/${s.tcpPort}`,
    escaped: reaches,
  },
  {
    name: "send by UDP to the machine",
    code: ({ surroundings: s }) => `echo x > /dev/udp/127.0.0.1/${s.udpPort}`,
    escaped: reaches,
  },
  {
    name: "read another process's environment",
    code: ({ victimPid }) => `cat /proc/${victimPid}/environ /proc/1/environ | tr '\\0' '\\n'`,
    escaped: tellsSecret,
  },
  {
    name: "find the worker's environment",
    code: () => `env; cat /proc/self/environ /proc/$PPID/environ | tr '\\0' '\\n'`,
    escaped: tellsSecret,
  },
  { name: "signal other processes", code: ({ victimPid }) => `kill -KILL ${victimPid}`, escaped: kills },
  {
    name: "write to another process's files in /proc",
    code: ({ victimPid }) => `echo 777 > /proc/${victimPid}/oom_score_adj`,
    escaped: touchesVictim,
  },
  { name: "crash what runs it by recursion", code: () => "deeper() { deeper; }; deeper", escaped: kept },
  {
    name: "take more memory than it may",
    code: ({ limits }) => `printf -v held '%*s' ${beyondMemory(limits) * MIB} ''; [ \${#held} -gt 0 ] && echo ${shell(SAID)}`,
    escaped: says,
  },
  { name: "print more than it may", code: () => `head -c 2000000 /dev/zero | tr '\\0' x`, escaped: floods },
  {
    name: "start more processes than it may",
    code: () => `for ((n = 0; n < ${FORKS}; n++)); do sleep 3 & done 2>/dev/null
count=$(jobs -pr | wc -l); [ "$count" -ge ${FORKS} ] && echo ${shell(SAID)}`,
    escaped: says,
  },
  {
    name: "leave a process behind that led a session of its own",
    code: ({ surroundings: s }) =>
      `setsid sh -c 'trap "" TERM HUP INT; sleep 20; : ${s.marker}' </dev/null >/dev/null 2>&1 &
disown
for n in 1 2 3 4 5 6 7 8 9; do read -rt 0.05 < <(sleep 1); done; exit 0`,
    escaped: survives,
  },
  {
    name: "run on past its time",
    limits: tooLong,
    code: () =>
      `trap '' TERM HUP INT; end=$((\${EPOCHREALTIME/[.,]/} + ${OUTLIVES_MS * 1_000})); while [ \${EPOCHREALTIME/[.,]/} -lt $end ]; do :; done; echo ${shell(SAID)}`,
    escaped: says,
  },
  {
    name: "sleep past its time",
    limits: tooLong,
    code: () => `trap '' TERM HUP INT; sleep ${OUTLIVES_MS / 1_000}; echo ${shell(SAID)}`,
    escaped: says,
  },
  { name: "hand out a file by a link", code: ({ surroundings: s }) => `ln -s ${shell(s.canary)} out/link`, escaped: takesSecret },
  {
    name: "put a link in place of the folder of results",
    code: ({ surroundings: s }) => `rmdir out && ln -s ${shell(s.canary.replace(/\/[^/]*$/, ""))} out`,
    escaped: takesSecret,
  },
  {
    name: "hand out a file by a second name of it",
    code: ({ surroundings: s }) => `ln ${shell(s.canary)} out/hard`,
    escaped: takesSecret,
  },
  { name: "hand out pipes", code: () => "mkfifo out/fifo", escaped: special },
  { name: "hand out a file that seems to be a tebibyte", code: () => "truncate -s 1T out/giant", escaped: oversized },
  {
    name: "hand out names that lead elsewhere",
    code: () => `echo x > 'out/..\\evil.txt'; echo x > $'out/two\\nlines.txt'`,
    escaped: misnamed,
  },
  {
    name: "hand out more files than it may",
    code: () => `for ((n = 0; n < 60; n++)); do echo x > out/$n.txt; done`,
    escaped: tooMany,
  },
  { name: "hand out a larger file than it may", code: () => "head -c 3000000 /dev/zero > out/large", escaped: oversized },
  {
    name: "fill more of a disk than it may",
    code: () => `for ((n = 0; n < 40; n++)); do head -c 900000 /dev/zero > file$n || exit 1; done; echo ${shell(SAID)}`,
    escaped: says,
  },
  {
    name: "fill a disk with empty files",
    code: () => `for ((n = 0; n < 3000; n++)); do : > file$n || exit 1; done; echo ${shell(SAID)}`,
    escaped: says,
  },
];

export const PROBES: readonly EscapeProbe[] = [
  ...JAVASCRIPT.map((probe) => ({ ...probe, language: "javascript" as const })),
  ...PYTHON.map((probe) => ({ ...probe, language: "python" as const })),
  ...BASH.map((probe) => ({
    ...probe,
    language: "bash" as const,
    code: (attempt: Attempt) => `echo ${shell(TRIES)}\n${probe.code(attempt)}\n`,
  })),
];
