/** Containers of a real engine: what code gets, what ends it, that nothing of it is left, and engines that are refused. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { systemClock } from "@mcp-swarm/core";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { TestEngine } from "../../../test/support/engine.ts";
import { beyond, wholeManifest } from "../src/manifest.ts";
import { parseOperatorFile } from "../src/operator-file.ts";
import { collectArchive } from "../src/sandbox/docker/archive.ts";
import { DockerDriver } from "../src/sandbox/docker/driver.ts";
import { demultiplexer } from "../src/sandbox/docker/output.ts";
import { Drivers } from "../src/sandbox/drivers.ts";
import { Offers } from "../src/worker/offers.ts";
import { canTestContainers, dockerOn, IMAGE, operatorOf, type TestDocker } from "./support/containers.ts";
import { marked, newMarker } from "./support/processes.ts";
import { type Run, runCode, TEST_LIMITS } from "./support/runs.ts";

const engineTests = describe.runIf(canTestContainers());

engineTests("containers", () => {
  let engine: TestEngine;
  let driver: TestDocker;
  const marker = newMarker();
  const bash = (code: string, run: Run = {}) => runCode(driver, "bash", code, { env: { MARKER: marker }, ...run });
  beforeAll(async () => {
    engine = await TestEngine.start();
    driver = dockerOn(engine);
  }, 120_000);
  afterEach(async () => {
    expect(marked(marker), "no process of a run is left").toEqual([]);
    expect([await engine.list("container"), await engine.list("volume")], "nothing is left in the engine").toEqual([[], []]);
  });
  afterAll(async () => {
    await driver?.close();
    await engine?.stop();
  }, 120_000);

  describe("the driver of containers", () => {
    verifies("EXEC-06");

    it("shows what it holds by running it, and says of each image what it lacks", async () => {
      expect(await driver.probe()).toMatchObject({
        available: true,
        capabilities: {
          limits: { memoryMiB: "enforced", processes: "enforced", diskBytes: "enforced", cpuMs: "watched" },
          session: "files",
        },
      });
      const lacks = (runtime: string, image: string, mode: "none" | "hosts" = "none") =>
        driver.lacks({ runtime, options: { image }, network: mode === "none" ? { mode } : { mode, hosts: ["example.org"] } });
      expect(await lacks("bash", IMAGE)).toBeUndefined();
      expect(await lacks("node", IMAGE)).toBe("The image has no node.");
      expect(await lacks("bash", "localhost/other:2")).toContain("docker pull localhost/other:2");
      expect(await lacks("bash", IMAGE, "hosts")).toContain("not to some hosts alone");
    });

    it("offers an environment whose image is here, and tells what another lacks", async () => {
      const operator = operatorOf(engine);
      const onError = () => {};
      const offers = new Offers({
        drivers: new Drivers({ slots: 1, operator, onError }, { docker: async () => () => driver }),
        ...{ clock: systemClock, arch: "x64", labels: [], onError, find: async () => undefined },
        beyond: (environment) => beyond(environment, operator.ceiling)?.because,
      });
      const of = async (image: string) => {
        const manifest = wholeManifest({ name: "tools", runtime: "bash", image });
        return await offers.of({ ...manifest, origin: "operator", version: 1 });
      };
      expect(await of(IMAGE)).toMatchObject({ available: true, driver: "docker", runtimeVersion: "the image's" });
      expect(await of("localhost/other:2")).toMatchObject({ available: false, reason: expect.stringContaining("docker pull") });
      expect(await of("elsewhere/x:1")).toMatchObject({ available: false, reason: expect.stringContaining("localhost/*") });
    });

    it("gives code its arguments, input, files and environment, and takes what it leaves in out", async () => {
      process.env.SWARM_CANARY = "inherited";
      const ran = await bash(
        'cat; cat data/in.txt; echo "$1 $GREETING" >&2; env >&2; mkdir out/deep; echo made > out/deep/a.txt; ln -s /etc out/link; exit 3',
        { args: ["a b"], stdin: "input\n", files: { "data/in.txt": "file\n" }, env: { MARKER: marker, GREETING: "hello" } },
      );
      delete process.env.SWARM_CANARY;
      expect(ran).toMatchObject({
        ending: { kind: "exit", code: 3 },
        stdout: "input\nfile\n",
        stderr: expect.stringContaining("a b hello\n"),
        files: { "deep/a.txt": "made\n" },
        cut: { files: [{ path: "link", because: "it is a link" }] },
        usage: { cpuMs: expect.any(Number), peakMemoryMiB: expect.any(Number) },
      });
      expect(ran.stderr).not.toContain("inherited");
    });

    it("shows a folder that was mounted for reading, and lets nobody write there", async () => {
      const folder = mkdtempSync(join(tmpdir(), "docker-mount-"));
      chmodSync(folder, 0o755);
      writeFileSync(join(folder, "data.txt"), "shared", { mode: 0o666 });
      const ran = await bash("cat /mnt/data.txt; echo x > /mnt/data.txt || echo kept", {
        mounts: [{ from: folder, to: "/mnt", readOnly: true }],
      }).finally(() => expect(readFileSync(join(folder, "data.txt"), "utf8")).toBe("shared"));
      rmSync(folder, { recursive: true });
      expect(ran.stdout).toBe("sharedkept\n");
    });

    it("keeps files from task to task of a session, and no process", async () => {
      const task = { runId: "s", runtime: "bash", limits: TEST_LIMITS, options: { image: IMAGE }, env: {}, packages: [] };
      const session = await driver.openSession({ ...task, limits: TEST_LIMITS });
      await runCode(session, "bash", "echo kept > a.txt; (setsid sleep 300 </dev/null >/dev/null 2>&1 &)");
      expect(await runCode(session, "bash", "cat a.txt; ps | grep -c '[s]leep'")).toMatchObject({ stdout: "kept\n0\n" });
      await session.close();
      await expect(runCode(session, "bash", "true")).rejects.toMatchObject({ code: "unavailable", retryable: false });
    });
  });

  describe("a run in a container that passes a limit", () => {
    verifies("EXEC-07");
    const cases: readonly [limit: string, why: string, code: string, limits?: Run["limits"]][] = [
      ["wallMs", "sleeps on, ignoring signals", "trap '' TERM HUP INT; setsid sleep 300 & sleep 301", { wallMs: 500 }],
      ["wallMs", "stops all it can", "kill -STOP -1; kill -STOP $$", { wallMs: 500 }],
      ["cpuMs", "computes in two processes", "while :; do :; done & while :; do :; done", { cpuMs: 1_000 }],
      ["memoryMiB", "takes memory", "held=0123456789abcdef; while :; do held=$held$held; done"],
      ["memoryMiB", "lets a child take it", "sh -c 'held=0123456789abcdef; while :; do held=$held$held; done'; exit 1"],
      ["processes", "is a fork bomb", "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 100"],
      ["outputBytes", "prints without end", "yes"],
      ["fileBytes", "writes one large file", "exec head -c 6000000 /dev/zero > large"],
      ["diskBytes", "writes many files", "for n in 1 2 3 4; do head -c 3000000 /dev/zero > $n || exit 1; done"],
      ["diskBytes", "makes empty files", "for ((n = 0; n < 9000; n++)); do : > $n || exit 1; done"],
    ];
    it.each(cases)("is ended with %s when it %s", async (limit, _why, code, limits = {}) => {
      expect((await bash(code, { limits })).ending).toEqual({ kind: "limit", limit });
    });

    it("keeps what it printed and handed out before its time was over", async () => {
      const ran = await bash("echo before; echo kept > out/a.txt; sleep 300", { limits: { wallMs: 1_500 } });
      expect(ran).toMatchObject({ ending: { kind: "limit", limit: "wallMs" }, stdout: "before\n", files: { "a.txt": "kept\n" } });
    });
  });

  describe("the end of a run in a container", () => {
    verifies("EXEC-07");

    it("tells a signal from an exit code, and comes when it is aborted", async () => {
      expect((await bash("kill -SEGV $$")).ending).toEqual({ kind: "signal", signal: "SIGSEGV" });
      const stop = new AbortController();
      const ran = await bash("trap '' TERM; echo up; setsid sleep 300 & sleep 301", {
        signal: stop.signal,
        onStdout: (text) => text.includes("up") && stop.abort(),
      });
      expect(ran).toMatchObject({ ending: { kind: "killed" }, stdout: "up\n", files: {} });
    });

    it("comes with the worker's, killed with -9, and the next worker removes what it left", async () => {
      const own = newMarker();
      const script = `trap '' TERM HUP INT; setsid sh -c 'trap "" TERM; while :; do :; done; : ${own}' & while :; do :; done; : ${own}`;
      const worker = spawn(process.execPath, [join(import.meta.dirname, "support/run-in-container.ts"), engine.host, script], {
        stdio: "ignore",
      });
      const others = () => marked(own).filter((pid) => pid !== worker.pid);
      await expect.poll(() => others().length, { timeout: 30_000 }).toBeGreaterThan(0);
      const gone = once(worker, "exit");
      worker.kill("SIGKILL");
      await gone;
      await expect.poll(others, { timeout: 10_000 }).toEqual([]);
      expect(await engine.list("volume")).toHaveLength(1);
      expect((await dockerOn(engine).probe()).available).toBe(true);
    });

    it("is said to be unknown when the engine goes away, its processes end, and the driver works again once the engine is back", async () => {
      const away = bash("echo up; sleep 300", { onStdout: (text) => text.includes("up") && void engine.crash() });
      await expect(away).rejects.toMatchObject({ code: "unavailable", retryable: true });
      await expect.poll(() => marked(marker), { timeout: 20_000 }).toEqual([]);
      await engine.serve();
      const left = await engine.list("volume");
      expect(left.length).toBeGreaterThan(0);
      await engine.removeAll(); // this process lives, so that a sweep leaves to it what is its own
      expect((await driver.probe()).available).toBe(true);
    });
  });
});

describe("a container engine", () => {
  verifies("EXEC-06");
  let folder: string;
  let server: Server | undefined;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "docker-none-"));
  });
  afterEach(async () => {
    if (server) await new Promise((resolve) => server?.close(resolve));
    server = undefined;
    rmSync(folder, { recursive: true });
  });
  const probed = async (host: string | undefined) => {
    const operator = parseOperatorFile({ ceiling: { images: ["localhost/*"] } });
    const probe = await new DockerDriver({ operator, onError: () => {} }, { DOCKER_HOST: host }).probe();
    return probe.available ? "it is available" : probe.reason;
  };
  const serve = async (answers: Record<string, unknown>): Promise<string> => {
    const path = join(folder, "engine.sock");
    server = createServer((request, response) => {
      const key = Object.keys(answers).find((one) => request.url?.includes(one));
      response.writeHead(key === undefined ? 500 : 200, { "content-type": "application/json" });
      response.end(JSON.stringify(key === undefined ? { message: "cgroups: not allowed" } : answers[key]));
    }).listen(path);
    await once(server, "listening");
    return `unix://${path}`;
  };
  const WORKING = { "/version": { Components: [{ Name: "Engine" }] }, "/containers/json": [], "/volumes?": { Volumes: null } };

  it("is not used when it is away, is reached by TCP, has no image to try, or refuses", async () => {
    expect(await probed(`unix://${join(folder, "nowhere.sock")}`)).toContain("does not answer");
    expect(await probed("tcp://127.0.0.1:2375")).toContain("UNIX socket alone");
    expect(await probed(await serve({ ...WORKING, "/images/json": [{ RepoTags: ["elsewhere/x:1"] }] }))).toContain(
      "No image is here",
    );
    await new Promise((resolve) => server?.close(resolve));
    const refusing = { ...WORKING, "/images/json": [{ RepoTags: ["localhost/x:1"] }], "/images/localhost": { Id: "sha256:1" } };
    expect(await probed(await serve(refusing))).toContain("refused a request (status 500)");
  });

  it("is named in the operator's file", () => {
    expect(operatorOf({ host: "unix:///run/x.sock" }).worker.containerEngine).toBe("unix:///run/x.sock");
    expect(() => operatorOf({ host: "tcp://host" })).toThrow(/worker.containerEngine/);
  });
});

describe("what comes out of a container", () => {
  verifies("EXEC-12");
  const limits = { files: 2, fileBytes: 100, diskBytes: 150 };

  it("is taken by the same rules as what lies on a disk", async () => {
    const archive = pack();
    archive.entry({ name: "out/", type: "directory" });
    archive.entry({ name: "out/a.txt" }, "a");
    archive.entry({ name: "out/link", type: "symlink", linkname: "/etc/passwd" });
    archive.entry({ name: "out/hard", type: "link", linkname: "out/a.txt" });
    archive.entry({ name: "out/fifo", type: "fifo" });
    archive.entry({ name: "out/../evil" }, "x");
    archive.entry({ name: "out/b\\c" }, "x");
    archive.entry({ name: "out/large" }, "x".repeat(101));
    archive.entry({ name: "out/b" }, "x".repeat(100));
    archive.entry({ name: "out/c" }, "x".repeat(60));
    archive.entry({ name: "out/d" }, "d");
    archive.finalize();
    const { files, refused } = await collectArchive(Readable.from(archive), limits);
    expect(files.map(({ path, bytes }) => [path, bytes.length])).toEqual([
      ["a.txt", 1],
      ["b", 100],
    ]);
    expect(Object.fromEntries(refused.map(({ path, because }) => [path, because]))).toEqual({
      link: "it is a link",
      hard: "it is a link",
      fifo: "it is not a regular file",
      "../evil": "its path is not a clean one",
      "b\\c": "its path is not a clean one",
      large: "it is larger than 100 bytes",
      c: "all files together are too large",
      d: "more than 2 files were left",
    });
  });

  it("is nothing when the folder is a link, and no more than is asked for when files are all holes", async () => {
    const link = pack();
    link.entry({ name: "out", type: "symlink", linkname: "/" });
    link.finalize();
    expect(await collectArchive(Readable.from(link), limits)).toEqual({
      files: [],
      refused: [{ path: "out", because: "it is a link" }],
    });
    // a file of a tebibyte: it stops long before its end
    const made = pack();
    made.entry({ name: "out/giant", size: 2 ** 40 });
    const [header] = await once(made, "data");
    let sent = 0;
    const giant = Readable.from(
      (function* () {
        yield header as Buffer;
        for (;;) {
          sent += 1_048_576;
          if (sent > 256 * 1_048_576) throw new Error("it was read on and on");
          yield Buffer.alloc(1_048_576);
        }
      })(),
    );
    const { files, refused } = await collectArchive(giant, limits);
    expect(files).toEqual([]);
    expect(refused[0]).toEqual({ path: "giant", because: "it is larger than 100 bytes" });
  });

  it("is told apart by stream, in whatever pieces it arrives", () => {
    const frame = (stream: number, text: string): Buffer => {
      const header = Buffer.alloc(8);
      header.writeUInt8(stream, 0);
      header.writeUInt32BE(Buffer.byteLength(text), 4);
      return Buffer.concat([header, Buffer.from(text)]);
    };
    const sent = Buffer.concat([frame(1, "one"), frame(2, "two"), frame(1, ""), frame(1, "three")]);
    for (let size = 1; size <= sent.length; size += 1) {
      const said = { stdout: "", stderr: "" };
      const take = demultiplexer((stream, bytes) => {
        said[stream] += Buffer.from(bytes).toString();
      });
      for (let at = 0; at < sent.length; at += size) take(sent.subarray(at, at + size));
      expect(said).toEqual({ stdout: "onethree", stderr: "two" });
    }
    expect(() => demultiplexer(() => {})(frame(9, "x"))).toThrow("no known stream");
  });
});
