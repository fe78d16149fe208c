/**
 * A container engine of the tests' own: Podman, with its storage in a folder that is removed, and an image made here of programs of this
 * machine. Nothing is fetched, and no engine that may run here already is touched.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
export const IMAGE = "localhost/swarm-test:1";
const START_MS_MAX = 30_000;
const TOOL_MS_MAX = 120_000;
const PROGRAMS = ["podman", "crun", "busybox", "bash"];

/** What is missing for an engine, as a sentence; undefined when there can be one. */
export function noEngineBecause(): string | undefined {
  if (process.platform !== "linux" || process.getuid?.() !== 0) return "it needs Linux, and root";
  const missing = PROGRAMS.filter((name) => find(name) === undefined);
  return missing.length === 0 ? undefined : `install ${missing.join(", ").replace("busybox", "busybox-static")}`;
}

function find(program: string): string | undefined {
  return ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map((folder) => join(folder, program)).find((path) => existsSync(path));
}

export class TestEngine {
  readonly folder: string = mkdtempSync(join(tmpdir(), "swarm-engine-"));
  readonly socket: string = join(this.folder, "engine.sock");
  #service: ChildProcess | undefined;
  #said = "";

  get host(): string {
    return `unix://${this.socket}`;
  }

  static async start(): Promise<TestEngine> {
    const engine = new TestEngine();
    try {
      await engine.#image();
      await engine.serve();
      return engine;
    } catch (error) {
      await engine.stop();
      throw error;
    }
  }

  get #storage(): string[] {
    return ["--root", join(this.folder, "root"), "--runroot", join(this.folder, "run"), "--storage-driver", "vfs"];
  }

  /** busybox under all its names, and bash with its libraries. */
  async #image(): Promise<void> {
    const root = join(this.folder, "image");
    for (const folder of ["bin", "tmp", "proc", "dev", "sys", "etc", "mnt"]) mkdirSync(join(root, folder), { recursive: true });
    chmodSync(join(root, "tmp"), 0o1777);
    copyFileSync(find("busybox") ?? "", join(root, "bin/busybox"));
    const { stdout: names } = await run("busybox", ["--list"], { timeout: TOOL_MS_MAX });
    for (const name of names.split("\n").filter((one) => /^\w+$/.test(one) && one !== "busybox")) {
      symlinkSync("busybox", join(root, "bin", name));
    }
    const bash = find("bash") ?? "";
    copyFileSync(bash, join(root, "bin/bash"));
    const { stdout: libraries } = await run("ldd", [bash], { timeout: TOOL_MS_MAX });
    for (const [library] of libraries.matchAll(/\/[^ ]+/g)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(realpathSync(library), join(root, library));
    }
    const archive = join(this.folder, "image.tar");
    await run("tar", ["-C", root, "-cf", archive, "."], { timeout: TOOL_MS_MAX });
    await run("podman", [...this.#storage, "import", archive, IMAGE], { timeout: TOOL_MS_MAX });
  }

  /** Where both versions of cgroups are mounted, crun wants one: the engine gets mounts of its own. */
  async serve(): Promise<void> {
    const script = 'if [ -d /sys/fs/cgroup/unified ]; then umount /sys/fs/cgroup/unified; fi; exec "$@"';
    const command = ["podman", ...this.#storage, "--cgroup-manager", "cgroupfs", "system", "service", "--time", "0", this.host];
    const service = spawn("unshare", ["--mount", "sh", "-c", script, "engine", ...command], {
      cwd: this.folder, // its monitors write files where they are
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#service = service;
    service.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-4_000);
    });
    const until = performance.now() + START_MS_MAX;
    while (!(await this.#answers())) {
      if (service.exitCode !== null || performance.now() > until) throw new Error(`the engine did not start: ${this.#said}`);
      await delay(50);
    }
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const asking = request({ socketPath: this.socket, path: "/_ping" }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      });
      asking.once("error", () => resolve(false));
      asking.end();
    });
  }

  /** Names of what is there of a kind: containers of any state, or volumes. */
  async list(kind: "container" | "volume"): Promise<string[]> {
    const args = kind === "container" ? ["ps", "-a", "--format", "{{.Names}}"] : ["volume", "ls", "--format", "{{.Name}}"];
    const { stdout } = await run("podman", [...this.#storage, ...args], { timeout: TOOL_MS_MAX });
    return stdout.split("\n").filter((name) => name !== "");
  }

  /** Ends the service as a crash would. Containers live on. */
  async crash(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    if (service === undefined || service.exitCode !== null || service.signalCode !== null) return;
    const gone = once(service, "exit");
    service.kill("SIGKILL");
    await gone;
    rmSync(this.socket, { force: true });
  }

  /** Whatever containers and volumes there are. */
  async removeAll(): Promise<void> {
    await run("podman", [...this.#storage, "rm", "--all", "--force", "--time", "0"], { timeout: TOOL_MS_MAX });
    await run("podman", [...this.#storage, "volume", "rm", "--all", "--force"], { timeout: TOOL_MS_MAX });
  }

  async stop(): Promise<void> {
    if (this.#service !== undefined) await this.removeAll();
    await this.crash();
    await this.#endMonitors();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Podman's monitors wait five minutes after each exec, and then look into the folder, which makes it again. */
  async #endMonitors(): Promise<void> {
    const until = performance.now() + START_MS_MAX;
    for (;;) {
      const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && commandOf(name).includes(this.folder));
      if (pids.length === 0) return;
      if (performance.now() > until) throw new Error(`monitors of the engine do not end: ${pids.join(", ")}`);
      for (const pid of pids) {
        try {
          process.kill(Number(pid), "SIGKILL");
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error; // it has just ended
        }
      }
      await delay(50);
    }
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return ""; // it has ended meanwhile
  }
}
