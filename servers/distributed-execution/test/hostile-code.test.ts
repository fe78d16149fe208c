/** What code may do to the worker that runs it, by ways of its own: the driver's channel, its environment, its mounts, its sockets. */
import { chmod, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { inputPath, isCleanPath } from "../src/file-path.ts";
import { parseOperatorFile } from "../src/operator-file.ts";
import { BwrapDriver } from "../src/sandbox/bwrap/driver.ts";
import type { Mount, SandboxTask } from "../src/sandbox/driver.ts";
import { openPyodideDriver } from "../src/sandbox/pyodide/driver.ts";
import { FrameReader, frame, STDOUT } from "../src/sandbox/pyodide/frames.ts";
import { outcomeOf } from "../src/sandbox/quickjs/child-handle.ts";
import { SandboxRuntimeDriver } from "../src/sandbox/sandbox-runtime/driver.ts";
import { runPython } from "./support/python-task.ts";

describe("Python that writes to its worker itself", () => {
  verifies("EXEC-08");
  const driver = openPyodideDriver({
    slots: 2,
    onError: (error) => {
      throw error;
    },
  });
  afterAll(() => driver.close());

  /** `frame` and `raw` write into the pipe that our own frames take. */
  const FORGE = `
import js
def raw(text):
    bytes = js.Uint8Array.new(len(text))
    bytes.assign(text)
    js.Deno.stdout.writeSync(bytes)
def frame(kind, text):
    raw(bytes([kind]) + len(text).to_bytes(4, "big") + text)
`;

  it("names a file by what is no text: nothing is made of it", async () => {
    const hostile = `b'{"toString":1,"valueOf":1}'`;
    const { files, cut } = await runPython(driver, `${FORGE}frame(6, ${hostile})`);
    expect({ files, cut }).toEqual({ files: [], cut: { files: [{ path: "?", because: "its path is not a clean one" }] } });
  });

  it("refuses files with what is no text: nothing is made of it", async () => {
    const end = `b'{"code":0,"refused":[{"path":{"toString":1},"because":[[]]},7,null,"x"]}'`;
    const { ending, cut } = await runPython(driver, `${FORGE}frame(8, ${end})`);
    expect(ending).toEqual({ kind: "exit", code: 0 });
    expect(cut.files).toEqual(Array.from({ length: 4 }, () => ({ path: "?", because: "?" })));
  });

  it("nests a name a hundred thousand times deep", async () => {
    const { cut } = await runPython(driver, `${FORGE}frame(6, b"[" * 100_000 + b"]" * 100_000)`);
    expect(cut.files).toEqual([{ path: "?", because: "its path is not a clean one" }]);
  });

  it("sends frames with nothing in them: it is ended at the first", async () => {
    const { ending } = await runPython(driver, `${FORGE}while True: raw(bytes([7, 0, 0, 0, 0]) * 1_000)`);
    expect(ending).toEqual({ kind: "signal", signal: "SIGKILL" });
  });

  it("sends a file byte by byte: it lies in one piece", async () => {
    const { files } = await runPython(
      driver,
      `${FORGE}frame(6, b'"x"')\nfor _ in range(1_000): raw(bytes([7, 0, 0, 0, 1, 65]) * 100)`,
    );
    expect(files.map(({ path, bytes }) => [path, Buffer.from(bytes).equals(Buffer.alloc(100_000, "A"))])).toEqual([["x", true]]);
    expect(files[0]?.bytes.buffer.byteLength).toBeLessThanOrEqual(1_000_000);
  });
});

it("A reader of frames takes what comes in any pieces, and nothing that is empty or too long", () => {
  const taken: [number, string][] = [];
  const reader = new FrameReader((type, payload) => taken.push([type, Buffer.from(payload).toString()]));
  for (const byte of frame(STDOUT, Buffer.from("text"))) expect(reader.push(Uint8Array.of(byte))).toBe(true);
  expect(taken).toEqual([[STDOUT, "text"]]);
  expect(reader.push(Uint8Array.of(STDOUT, 0, 0, 0, 0))).toBe(false);
  expect(new FrameReader(() => {}).push(Uint8Array.of(STDOUT, 255, 0, 0, 0))).toBe(false);
});

describe("Code in bubblewrap", () => {
  verifies("EXEC-08");
  const driver = new BwrapDriver();
  const made: string[] = [];
  afterAll(async () => {
    await driver.close();
    for (const path of made) await rm(path, { recursive: true });
  });

  async function folder(): Promise<string> {
    const path = await mkdtemp(join(await realpath(tmpdir()), "hostile-code-"));
    made.push(path);
    return path;
  }

  async function run(runtime: string, code: string, given: Partial<SandboxTask> = {}) {
    const said = { stdout: "", stderr: "" };
    const limits = { wallMs: 20_000, cpuMs: 10_000, memoryMiB: 128, processes: 24, outputBytes: 65_536 };
    const outcome = await driver.run(
      {
        ...{ runId: "hostile", args: [], stdin: Buffer.from("given"), files: [], env: {}, network: { mode: "none" } as const },
        ...{ mounts: [], packages: [], options: {}, ...given, runtime, code },
        limits: { ...limits, fileBytes: 1_048_576, diskBytes: 8_388_608, files: 4 },
      },
      {
        signal: new AbortController().signal,
        onOutput: (stream, bytes) => {
          said[stream] += Buffer.from(bytes).toString();
        },
      },
    );
    return { ...outcome, ...said };
  }

  it("has sockets of its own network alone: none that leads to what runs the machine", async () => {
    const { stdout, stderr } = await run(
      "python3",
      `import socket
def opens(family, kind, protocol=0):
    try:
        socket.socket(family, kind, protocol).close()
        return "opens"
    except OSError as error:
        return error.errno
print(opens(40, 1), opens(38, 5), opens(44, 3), opens(16, 3, 9), opens(16, 3, 0), opens(1, 1), opens(2, 1), opens(10, 1))
a, b = socket.socketpair()
before = a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 21)
print(a.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before)
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).sendall(b"x")
print(server.accept()[0].recv(1))`,
    );
    expect({ stdout, stderr }).toEqual({ stdout: "97 97 97 97 opens opens opens opens\nTrue\nb'x'\n", stderr: "" });
  });

  it("takes more than its memory in sockets, and is ended", async () => {
    verifies("EXEC-07");
    const { ending } = await run(
      "python3",
      `import os, socket, time
for _ in range(12):
    if os.fork() == 0:
        kept = []
        try:
            while True:
                pair = socket.socketpair()
                kept.append(pair)
                for one in pair:
                    one.setblocking(False)
                    try:
                        while True: one.send(b"x" * 65536)
                    except BlockingIOError: pass
        except OSError: time.sleep(20)
time.sleep(20)`,
    );
    expect(ending).toEqual({ kind: "limit", limit: "memoryMiB" });
  });

  it("opens fifty connections in its own network, within the memory of a small program", async () => {
    const { ending, stdout } = await run(
      "python3",
      `import socket
server = socket.create_server(("127.0.0.1", 0), backlog=64)
kept = [socket.create_connection(server.getsockname()) for _ in range(50)]
print(len([server.accept() for _ in kept]))`,
    );
    expect({ ending, stdout }).toEqual({ ending: { kind: "exit", code: 0 }, stdout: "50\n" });
  });

  it("cannot write to its input, which lies on the worker's disk", async () => {
    const { stdout, stderr } = await run("bash", "cat; echo; echo more >> /proc/self/fd/0 || echo refused");
    expect(stdout).toBe("given\nrefused\n");
    expect(stderr).toContain("Read-only file system");
  });

  it("has variables that reach it, and none of what sets its limits", async () => {
    const files = [{ path: "prlimit", bytes: Buffer.from("#!/bin/sh\necho mine >&2\nexec /usr/bin/prlimit --version") }];
    const { ending, stdout, stderr } = await run("bash", 'echo "$LD_PRELOAD|$BASH_ENV|$PATH|$A"; ulimit -n', {
      files,
      env: {
        LD_PRELOAD: "/input/prlimit",
        BASH_ENV: "/none",
        PATH: "/input:/work:/usr/bin:/bin",
        A: "two\nlines 'quoted' $HOME",
      },
    });
    expect(ending).toEqual({ kind: "exit", code: 0 });
    expect(stdout).toBe("/input/prlimit|/none|/input:/work:/usr/bin:/bin|two\nlines 'quoted' $HOME\n256\n");
    // the loader complains once for each program: those of the code, not those that prepared it
    expect(stderr.match(/LD_PRELOAD/g)?.length).toBe(1);
  });

  it("is not given a mount that a link leads to, wherever the link is", async () => {
    const base = await folder();
    await mkdir(join(base, "data/inner"), { recursive: true });
    await writeFile(join(base, "data/inner/text"), "shared\n");
    await symlink(join(base, "data"), join(base, "link"));
    await symlink("/", join(base, "data/root"));
    const mount = (from: string): Mount => ({ from: join(base, from), to: "/mnt/it", readOnly: true });
    await chmod(base, 0o755); // the run has another user, when the worker is root
    expect((await run("bash", "cat /mnt/it/text", { mounts: [mount("data/inner")] })).stdout).toBe("shared\n");
    expect((await run("bash", "cat /mnt/it", { mounts: [mount("data/inner/text")] })).stdout).toBe("shared\n");
    for (const from of ["link", "link/inner", "data/root", "data/root/etc", "data/none"]) {
      await expect(run("bash", "ls /mnt/it", { mounts: [mount(from)] }), from).rejects.toMatchObject({
        code: "unavailable",
      });
    }
  });
});

it("What a broken child of QuickJS says is read as code's own", () => {
  verifies("EXEC-08");
  const limits = { fileBytes: 4, files: 2 } as SandboxTask["limits"];
  const read = (said: object, body = "abcdef") => {
    const whole = {
      ending: { code: 0 },
      usage: { wallMs: 1, cpuMs: 1, peakMemoryMiB: 1 },
      cut: {},
      files: [],
      usable: true,
      ...said,
    };
    return outcomeOf(Buffer.from(JSON.stringify(whole)), Buffer.from(body), { limits })?.outcome;
  };
  const file = (path: string, bytes = 1) => ({ path, bytes });
  expect(read({ files: [file("a"), file("b/c", 4)] })?.files.map(({ bytes }) => Buffer.from(bytes).toString())).toEqual([
    "a",
    "bcde",
  ]);
  for (const path of ["../a", "/etc/passwd", "a\\b", "", "a/./b", "a\u200bb"])
    expect(read({ files: [file(path)] }), path).toBe(undefined);
  expect(read({ files: [file("a", 5)] }), "too large").toBe(undefined);
  expect(read({ files: [file("a", 4), file("b", 4)] }), "more than came").toBe(undefined);
  expect(read({ files: [file("a"), file("a")] }), "twice").toBe(undefined);
  expect(read({ value: "{no JSON" })).toEqual(expect.not.objectContaining({ value: expect.anything() }));
  expect(read({ value: `${"[".repeat(9_000)}${"]".repeat(9_000)}` })).toEqual(
    expect.not.objectContaining({ value: expect.anything() }),
  );
  expect(read({ cut: { files: [{ path: "a\u202eb", because: "\u0007" }] } })?.cut.files).toEqual([{ path: "a?b", because: "?" }]);
});

it("A name of a file shows all that it is", () => {
  for (const path of ["out/report.txt", "naïve/日本語.csv", "a b (1).png", "क्षि.txt"]) expect(isCleanPath(path), path).toBe(true);
  const unseen = [
    0x00, 0x1b, 0x7f, 0x80, 0x85, 0x9f, 0xad, 0x61c, 0x180e, 0x200b, 0x200d, 0x200f, 0x202e, 0x2060, 0x2069, 0xfeff, 0xe0041,
  ];
  for (const code of unseen) expect(isCleanPath(`a${String.fromCodePoint(code)}b`), code.toString(16)).toBe(false);
});

it("A file that is handed over does not take the place of the code: no worker would find its sandbox wanting for that", () => {
  for (const path of [".main.sh", ".main.py/x", ".MAIN.js"])
    expect(() => inputPath(path), path).toThrow(/as the code's own does/);
  for (const path of ["main.sh", "lib/.main.sh", ".mainland"]) expect(inputPath(path)).toBe(path);
});

describe("Code in sandbox-runtime", () => {
  verifies("EXEC-07");
  const driver = new SandboxRuntimeDriver();
  afterAll(() => driver.close());
  const write = `def fill(open_next):
    for index in range(40):
        with_file = open_next(index)
        with_file.write(b"x" * 900_000)
        with_file.flush()
        kept.append(with_file)
kept = []
import os, time
`;
  const full = { kind: "limit", limit: "diskBytes" };

  it.skipIf(process.platform !== "linux").each([
    ["what covers hidden folders", 'fill(lambda n: open(f"/var/{n}", "wb"))'],
    ["shared memory", 'fill(lambda n: open(f"/dev/shm/{n}", "wb"))'],
    ["files of memory", 'fill(lambda n: os.fdopen(os.memfd_create("x"), "wb"))'],
    ["files that it removed", 'def gone(n):\n    file = open("gone", "wb")\n    os.unlink("gone")\n    return file\nfill(gone)'],
    ["the folder that tells that it began", 'fill(lambda n: open(f"../started/{n}", "wb"))'],
  ])("fills %s, and is ended", async (_, code) => {
    const { ending } = await runPython(driver, `${write}${code}\ntime.sleep(20)`, { runtime: "python3" });
    expect(ending).toEqual(full);
  });

  it("has variables that reach it, and none of what sets its limits", async () => {
    const env = { BASH_ENV: "./begin.sh", LD_PRELOAD: "/none.so", A: "two\nlines '$HOME'" };
    const files = [{ path: "begin.sh", bytes: Buffer.from("ulimit() { :; }\n") }];
    const code = 'printf "%s|" "$LD_PRELOAD" "$A"; builtin ulimit -n; builtin ulimit -f';
    const { stdout } = await runPython(driver, code, { runtime: "bash", env, files });
    expect(stdout).toBe("/none.so|two\nlines '$HOME'|256\n977\n");
  });
});

describe("A manifest", () => {
  const wrongWith = (environment: object): string => {
    try {
      parseOperatorFile({ environments: [{ name: "one", runtime: "bash", ...environment }] });
      return "taken";
    } catch (error) {
      return String((error as Error).message);
    }
  };

  it.each(["constructor", "hasownproperty", "valueof"])("names the runtime %s, which is no language", (runtime) => {
    expect(wrongWith({ runtime })).toContain('"runtime" names nothing that runs without an image');
  });

  it("has one mount in another, whose files would decide where it lies", () => {
    const mounts = (...to: string[]) => ({ mounts: to.map((path) => ({ from: "/srv", to: path })) });
    expect(wrongWith(mounts("/mnt/a", "/mnt/a/b"))).toContain("lies in another mount");
    expect(wrongWith(mounts("/mnt/a/b", "/mnt/a"))).toContain("lies in another mount");
    expect(wrongWith(mounts("/mnt/a", "/mnt/a"))).toContain("lies in another mount");
    expect(wrongWith(mounts("/mnt/a", "/mnt/ab"))).toBe("taken");
  });
});
