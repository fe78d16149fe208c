/**
 * Where code runs in containers: a disk in memory, of a fixed size and number of files, and a container for each run.
 *
 * Two containers, so that all code is dead when its files are read: the one that holds the disk runs nothing of the task; the one that the
 * code is in is killed first. The first process of each waits for the end of its input, which is this worker's connection: when the
 * worker dies, however it does, the engine sees the connection end, that process ends, and the kernel kills all that is left in the
 * container's PID namespace. Code cannot prevent it, because it has another user than that process.
 */
import { hostname } from "node:os";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { assert, type JsonObject, newId, SwarmError, systemRandom } from "@mcp-swarm/core";
import { type Collected, OUT_FOLDER } from "../collector.ts";
import type { Limits, SandboxTask } from "../driver.ts";
import { identityOf } from "../process-tree.ts";
import { collectArchive, packFiles } from "./archive.ts";
import { type Engine, EngineRefusal } from "./engine.ts";
import { demultiplexer } from "./output.ts";

/** Who made it: the machine, the process and when that started. */
export const WORKER_LABEL = "mcp-swarm.worker";
/** What the code runs as, and what waits for the worker's end: neither is a user of any image. */
const CODE_USER = { uid: 65_534, gid: 65_534 } as const;
const FIRST_USER = "65533:65533";
const USER = `${CODE_USER.uid}:${CODE_USER.gid}`;
/** The only folder that can be written; what is in it counts for the limits of disk and of memory. */
const DISK = "/tmp";
export const WORK = `${DISK}/work`;
/** Waits for the end of its input, and meanwhile for processes that lost their parent, so that none of them stays a zombie. */
const FIRST = "exec 3<&0; cat <&3 >/dev/null & exec 3<&-; wait $!";
/** The container's own: the shell above and what reads its input. */
export const OWN_PROCESSES = 2;
/** What the kernel refuses lies a little above the limit at which the run is ended, so that the answer can name it. */
const KERNEL_PROCESSES_MORE = 8;
const HOLDER_MEMORY_MIB = 32;
const HOLDER_PROCESSES = 16;
const OPEN_FILES_MAX = 256;
/** Of all containers together, as the kernel counts them by user: said only because what an engine says by itself may be more than it may have. */
const USER_PROCESSES_MAX = 4_096;
/** A file takes at least this much of what the limit counts. It is also what the kernel's pages have. */
const BYTES_PER_FILE = 4_096;
const FILES_MIN = 64;
const FILES_MAX = 65_536;
const MIB = 1_048_576;
/** What processes of ours in a container may say, in characters, and how long they may take, in ms. */
const SAID_MAX = 1_000;
const OWN_MS_MAX = 5_000;
/** How often the kernel killed something there for memory: in cgroup v1, and in v2. */
const OOM_KILLS = `for file in /sys/fs/cgroup/memory/memory.oom_control /sys/fs/cgroup/memory.events; do
  [ -r $file ] && while read -r name count; do [ "$name" = oom_kill ] && echo "$count"; done < $file; done`;
const EXIT_TRIES = 40;
const EXIT_AGAIN_MS = 25;
const DELETE_TRIES = 20;
const DELETE_AGAIN_MS = 100;

export type Confinement = Pick<SandboxTask, "limits" | "network" | "mounts">;

/** A process in a container. */
export interface Started {
  readonly stream: Duplex;
  /** To be asked when its output has ended. Undefined when its container was killed under it. */
  exitCode(): Promise<number | undefined>;
}

export interface Container {
  exec(command: readonly string[], options: { env: Readonly<Record<string, string>>; cwd: string }): Promise<Started>;
  usage(): Promise<{ cpuMs: number; memoryMiB: number; processes: number } | undefined>;
  /** All in it is dead when this settles. */
  kill(): Promise<void>;
  /** Whether the kernel killed something in it because its memory was used up, before or after it is dead. */
  outOfMemory(): Promise<boolean>;
}

/** Marks what this process makes. */
export async function workerLabel(): Promise<string> {
  const id = await identityOf(process.pid);
  assert(id !== undefined, "a process can see itself");
  return `${hostname()} ${id.pid} ${id.startedAt}`;
}

export interface PlaceOptions {
  readonly engine: Engine;
  /** The image's id: a name may mean another image by now. */
  readonly image: string;
  readonly label: string;
  /** Podman reads the size of a volume as something else. */
  readonly isPodman: boolean;
}

export class Place {
  readonly #options: PlaceOptions;
  readonly #name: string = `mcp-swarm-${newId("run", systemRandom).replaceAll("_", "-").toLowerCase()}`;
  readonly #made: (() => Promise<void>)[] = [];
  #holder: Container | undefined;
  #holderId = "";
  #hasVolume = false;

  private constructor(options: PlaceOptions) {
    this.#options = options;
  }

  /** @throws SwarmError unavailable; nothing is left then */
  static async make(options: PlaceOptions, diskBytes: number): Promise<Place> {
    const place = new Place(options);
    try {
      await place.#makeDisk(diskBytes);
      return place;
    } catch (error) {
      await place.remove();
      throw error;
    }
  }

  async #makeDisk(bytes: number): Promise<void> {
    const { engine, isPodman, label } = this.#options;
    const files = Math.min(Math.max(Math.ceil(bytes / BYTES_PER_FILE), FILES_MIN), FILES_MAX);
    const size = isPodman ? `nr_blocks=${Math.ceil(bytes / BYTES_PER_FILE)}` : `size=${bytes}`;
    this.#hasVolume = true;
    await engine.call("POST", "/volumes/create", {
      Name: this.#name,
      Driver: "local",
      DriverOpts: {
        type: "tmpfs",
        device: "tmpfs",
        o: `${size},nr_inodes=${files},uid=${CODE_USER.uid},gid=${CODE_USER.gid},mode=0755,nosuid,nodev`,
      },
      Labels: { [WORKER_LABEL]: label },
    });
    const { container, id } = await this.#start(USER, {
      ...bounds(HOLDER_MEMORY_MIB, HOLDER_PROCESSES),
      NetworkMode: "none",
      Mounts: [this.#disk()],
    });
    this.#holder = container;
    this.#holderId = id;
  }

  /** Brings files into the working folder. */
  async write(files: SandboxTask["files"]): Promise<void> {
    const bytes = await packFiles(WORK.slice(DISK.length + 1), files, CODE_USER);
    await this.#options.engine.call("PUT", `/containers/${this.#holderId}/archive?path=${DISK}`, {
      type: "application/x-tar",
      bytes,
    });
  }

  /** A container on this disk, in which nothing runs yet. */
  async container({ limits, network, mounts }: Confinement): Promise<Container> {
    const { container } = await this.#start(FIRST_USER, {
      ...bounds(limits.memoryMiB, limits.processes + OWN_PROCESSES + KERNEL_PROCESSES_MORE),
      NetworkMode: network.mode === "none" ? "none" : "bridge",
      Mounts: [
        this.#disk(),
        ...mounts.map(({ from, to, readOnly }) => ({ Type: "bind", Source: from, Target: to, ReadOnly: readOnly })),
      ],
    });
    return container;
  }

  /** Removes the containers of runs. */
  async clear(): Promise<void> {
    await Promise.all(this.#made.splice(1).map((remove) => remove()));
  }

  /** To be called when all containers on it are dead. */
  async collect(limits: Limits): Promise<Collected> {
    const archive = await this.#options.engine.stream(`/containers/${this.#holderId}/archive?path=${WORK}/${OUT_FOLDER}`);
    return archive === undefined ? { files: [], refused: [] } : await collectArchive(archive, limits);
  }

  /** Whether no more can be written to it. */
  async isFull(): Promise<boolean> {
    assert(this.#holder !== undefined, "it was made");
    const name = `${DISK}/.${newId("room", systemRandom)}`;
    const tried = await this.#holder.exec(["sh", "-c", `printf x > ${name} && rm -f ${name}`], { env: {}, cwd: "/" });
    await ended(tried.stream);
    return (await tried.exitCode()) !== 0;
  }

  /** All of it is dead and gone when this settles. */
  async remove(): Promise<void> {
    await Promise.all(this.#made.splice(0).map((remove) => remove()));
    if (this.#hasVolume) await deleted(this.#options.engine, `/volumes/${this.#name}?force=true`);
  }

  #disk(): JsonObject {
    return { Type: "volume", Source: this.#name, Target: DISK, VolumeOptions: { NoCopy: true } };
  }

  async #start(user: string, host: JsonObject): Promise<{ container: Container; id: string }> {
    const { engine, image, label } = this.#options;
    const made = await engine.call("POST", "/containers/create", {
      Image: image,
      Entrypoint: [],
      Cmd: ["sh", "-c", FIRST],
      User: user,
      WorkingDir: "/",
      OpenStdin: true,
      StdinOnce: true,
      AttachStdin: true,
      NetworkDisabled: host.NetworkMode === "none",
      Healthcheck: { Test: ["NONE"] },
      Labels: { [WORKER_LABEL]: label },
      HostConfig: {
        ReadonlyRootfs: true,
        CapDrop: ["ALL"],
        SecurityOpt: ["no-new-privileges"],
        IpcMode: "none",
        LogConfig: { Type: "none" },
        ...host,
      },
    });
    const id = member(made, "Id");
    if (typeof id !== "string") throw new SwarmError("unavailable", "The container engine made a container without an id.");
    let attached: Duplex | undefined;
    const remove = async (): Promise<void> => {
      try {
        await kill(engine, id);
        await deleted(engine, `/containers/${id}?force=true&v=true`);
      } finally {
        attached?.destroy();
      }
    };
    this.#made.push(remove);
    attached = await engine.hijack(`/containers/${id}/attach?stream=1&stdin=1`);
    attached.on("error", ignoreClosed);
    await engine.call("POST", `/containers/${id}/start`);
    return { id, container: containerOf(engine, id) };
  }
}

function ignoreClosed(): void {
  // a connection that ends badly ends the container, which is seen by whoever waits for it
}

function containerOf(engine: Engine, id: string): Container {
  const path = `/containers/${id}`;
  const start = async (
    command: readonly string[],
    user: string,
    env: Readonly<Record<string, string>>,
    cwd: string,
  ): Promise<Started> => {
    const made = await engine.call("POST", `${path}/exec`, {
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      User: user,
      WorkingDir: cwd,
      Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
      Cmd: [...command],
    });
    const execId = String(member(made, "Id"));
    const stream = await engine.hijack(`/exec/${execId}/start`, { Detach: false, Tty: false });
    return { stream, exitCode: () => exitCodeOf(engine, execId) };
  };
  return {
    exec: (command, { env, cwd }) => start(command, USER, env, cwd),
    usage: async () => {
      const stats = await engine.call("GET", `${path}/stats?stream=false&one-shot=true`, undefined, [404, 409, 500]);
      const cpu = member(member(member(stats, "cpu_stats"), "cpu_usage"), "total_usage");
      const memory = member(stats, "memory_stats");
      const used = member(memory, "max_usage") ?? member(memory, "usage");
      const processes = member(member(stats, "pids_stats"), "current");
      if (typeof cpu !== "number" || typeof used !== "number") return undefined;
      return { cpuMs: Math.round(cpu / 1e6), memoryMiB: used / MIB, processes: typeof processes === "number" ? processes : 0 };
    },
    kill: () => kill(engine, id),
    outOfMemory: async () => {
      const state = member(await engine.call("GET", `${path}/json`, undefined, [404]), "State");
      if (member(state, "OOMKilled") === true) return true;
      if (member(state, "Running") !== true) return false;
      const asked = await start(["sh", "-c", OOM_KILLS], FIRST_USER, {}, "/"); // engines tell of the first process alone
      return (await ended(asked.stream)).split("\n").some((count) => Number(count) > 0);
    },
  };
}

async function exitCodeOf(engine: Engine, execId: string): Promise<number | undefined> {
  for (let tries = EXIT_TRIES; tries > 0; tries -= 1) {
    // 404 and 409: its container is dead
    const seen = await engine.call("GET", `/exec/${execId}/json`, undefined, [404, 409, 500]);
    const code = member(seen, "ExitCode");
    if (member(seen, "Running") === false) return typeof code === "number" ? code : undefined;
    await delay(EXIT_AGAIN_MS); // its output ends a moment before it has
  }
  return undefined;
}

async function kill(engine: Engine, id: string): Promise<void> {
  await engine.call("POST", `/containers/${id}/kill`, undefined, [404, 409, 500]); // it may have ended by itself
  await engine.call("POST", `/containers/${id}/wait`, undefined, [404]);
}

/** An engine may still be busy with the end of what it is to remove. */
async function deleted(engine: Engine, path: string): Promise<void> {
  for (let tries = DELETE_TRIES; ; tries -= 1) {
    try {
      await engine.call("DELETE", path, undefined, [404]);
      return;
    } catch (error) {
      if (!(error instanceof EngineRefusal) || tries <= 1) throw error;
    }
    await delay(DELETE_AGAIN_MS);
  }
}

/** Of an answer of the engine, whatever it is. */
export function member(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
  return (value as Record<string, unknown>)[name];
}

function bounds(memoryMiB: number, processes: number): JsonObject {
  const ulimits = { nofile: OPEN_FILES_MAX, nproc: USER_PROCESSES_MAX, core: 0, memlock: 0, msgqueue: 0 };
  return {
    Memory: memoryMiB * MIB,
    MemorySwap: memoryMiB * MIB,
    PidsLimit: processes,
    Ulimits: Object.entries(ulimits).map(([Name, most]) => ({ Name, Soft: most, Hard: most })),
  };
}

/** What a process of ours says, once it has no more to say; it has so long, in a container whose code may still run. */
async function ended(stream: Duplex): Promise<string> {
  let said = "";
  const take = demultiplexer((_, bytes) => {
    said = (said + Buffer.from(bytes).toString()).slice(0, SAID_MAX);
  });
  stream.on("data", take);
  stream.end();
  stream.resume();
  const late = setTimeout(() => stream.destroy(), OWN_MS_MAX);
  await new Promise<void>((resolve) => {
    for (const event of ["close", "end", "error"]) stream.once(event, () => resolve());
  });
  clearTimeout(late);
  return said;
}

/**
 * Removes what workers left that live no more: of this machine at once, of others (an engine can be shared) what has not run for an hour.
 * @returns how many containers and volumes it removed
 */
export async function sweep(engine: Engine): Promise<number> {
  const filters = encodeURIComponent(JSON.stringify({ label: [WORKER_LABEL] }));
  const containers = await engine.call("GET", `/containers/json?all=true&filters=${filters}`);
  const volumes = member(await engine.call("GET", `/volumes?filters=${filters}`), "Volumes");
  let removed = 0;
  for (const one of listOf(containers).slice(0, SWEPT_MAX)) {
    const created = member(one, "Created");
    const old = member(one, "State") !== "running" && typeof created === "number" && Date.now() - created * 1_000 > OTHERS_MS;
    if (!(await isLeft(one, old))) continue;
    await engine.call("DELETE", `/containers/${String(member(one, "Id"))}?force=true&v=true`, undefined, [404, 409]);
    removed += 1;
  }
  for (const one of listOf(volumes).slice(0, SWEPT_MAX)) {
    const old = Date.now() - Date.parse(String(member(one, "CreatedAt"))) > OTHERS_MS;
    if (!(await isLeft(one, old))) continue;
    await engine.call("DELETE", `/volumes/${String(member(one, "Name"))}`, undefined, [404, 409]); // 409: it is in use after all
    removed += 1;
  }
  return removed;
}

const SWEPT_MAX = 256;
const OTHERS_MS = 3_600_000;

async function isLeft(one: unknown, old: boolean): Promise<boolean> {
  const [host, pid, ...startedAt] = String(member(member(one, "Labels"), WORKER_LABEL) ?? "").split(" ");
  if (host !== hostname()) return old;
  const maker = await identityOf(Number(pid));
  return maker === undefined || maker.startedAt !== startedAt.join(" ");
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
