/** Code in containers of Docker or Podman, of images that the operator permits and that are on the machine: none is ever fetched. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { permitsImage } from "../../manifest.ts";
import type { Capabilities, Driver, Probe, RunHooks, SandboxOutcome, SandboxSession, SandboxTask } from "../driver.ts";
import type { DriverOptions, OpenDriver } from "../drivers.ts";
import { Engine, EngineRefusal } from "./engine.ts";
import { member, Place, type PlaceOptions, sweep, workerLabel } from "./place.ts";
import { lackingIn } from "./probe.ts";
import { runInContainer } from "./run.ts";
import { CONTAINER_RUNTIMES } from "./runtimes.ts";

/** Most images and their runtimes that are remembered. */
const KNOWN_MAX = 200;

export class DockerDriver implements Driver {
  readonly name = "docker";
  readonly #options: Pick<DriverOptions, "operator" | "onError">;
  readonly #env: Readonly<Record<string, string | undefined>>;
  readonly #sessions = new Set<ContainerSession>();
  /** By image and runtime, whether the image has it. */
  readonly #runtimes = new Map<string, boolean>();
  #label: Promise<string> | undefined;
  #ready: Promise<{ engine: Engine; isPodman: boolean }> | undefined;

  /** @param env where DOCKER_HOST and folders of sockets are named */
  constructor(
    options: Pick<DriverOptions, "operator" | "onError">,
    env: Readonly<Record<string, string | undefined>> = process.env,
  ) {
    this.#options = options;
    this.#env = env;
  }

  async probe(): Promise<Probe> {
    this.#ready = undefined; // another engine may have been started
    this.#runtimes.clear();
    try {
      const { engine } = await this.#engine();
      const image = await this.#someImage(engine);
      if (image === undefined) return { available: false, reason: NO_IMAGE };
      const lacking = await lackingIn((task, hooks, command) => this.#alone({ ...task, options: { image } }, hooks, command));
      if (lacking !== undefined) return { available: false, reason: lacking };
      return { available: true, capabilities: HOLDS };
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      if (error.cause !== undefined) this.#options.onError(error, "A container engine could not be used");
      return { available: false, reason: [error.message, error.hint].join(" ") };
    }
  }

  async lacks({ runtime, network, options }: Pick<SandboxTask, "runtime" | "network" | "options">): Promise<string | undefined> {
    if (network.mode === "hosts") return "Containers are open to no network or to all of it, not to some hosts alone.";
    const image = options.image ?? "";
    const { engine } = await this.#engine();
    const id = await imageId(engine, image);
    if (id === undefined) return absent(image);
    const key = `${id} ${runtime}`;
    const known = this.#runtimes.get(key) ?? (await this.#has(runtime, image));
    if (this.#runtimes.size >= KNOWN_MAX) this.#runtimes.clear();
    this.#runtimes.set(key, known);
    return known ? undefined : `The image has no ${runtime}.`;
  }

  run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    return this.#alone(task, hooks);
  }

  async openSession(task: Pick<SandboxTask, "limits" | "options">): Promise<SandboxSession> {
    const place = await this.#place(task);
    const session = new ContainerSession(place, () => this.#sessions.delete(session));
    this.#sessions.add(session);
    return session;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#sessions].map((session) => session.close()));
  }

  async #alone(task: SandboxTask, hooks: RunHooks, command?: readonly string[]): Promise<SandboxOutcome> {
    const place = await this.#place(task);
    try {
      return await runInContainer(place, task, hooks, command);
    } finally {
      await place.remove();
    }
  }

  async #place({ limits, options }: Pick<SandboxTask, "limits" | "options">): Promise<Place> {
    const { engine, isPodman } = await this.#engine();
    const name = options.image ?? "";
    const image = await imageId(engine, name);
    if (image === undefined)
      throw new SwarmError("unavailable", "The environment's image is not on this machine.", { hint: absent(name) });
    this.#label ??= workerLabel();
    const placed: PlaceOptions = { engine, image, isPodman, label: await this.#label };
    return await Place.make(placed, limits.diskBytes);
  }

  #engine(): Promise<{ engine: Engine; isPodman: boolean }> {
    const opening = this.#ready ?? this.#open();
    this.#ready = opening;
    opening.catch(() => {
      if (this.#ready === opening) this.#ready = undefined; // the caller is told
    });
    return opening;
  }

  async #open(): Promise<{ engine: Engine; isPodman: boolean }> {
    const engine = new Engine(socketOf(this.#options.operator.worker.containerEngine ?? this.#env.DOCKER_HOST, this.#env));
    const components = member(await engine.call("GET", "/version"), "Components");
    const isPodman = Array.isArray(components) && components.some((one) => String(member(one, "Name")).startsWith("Podman"));
    await sweep(engine);
    return { engine, isPodman };
  }

  /** One that is here to try containers with: of the operator's environments, or any that the ceiling permits. */
  async #someImage(engine: Engine): Promise<string | undefined> {
    const { environments, ceiling } = this.#options.operator;
    for (const { options } of environments) {
      if (options.image !== undefined && (await imageId(engine, options.image)) !== undefined) return options.image;
    }
    const images = await engine.call("GET", "/images/json");
    const names = (Array.isArray(images) ? images : []).flatMap((one) => member(one, "RepoTags") ?? []).map(String);
    return names.find((name) => permitsImage(ceiling, name));
  }

  async #has(runtime: string, image: string): Promise<boolean> {
    const program = CONTAINER_RUNTIMES[runtime]?.command({ memoryMiB: PROGRAM_LIMITS.memoryMiB })[0] ?? "";
    const hooks: RunHooks = { signal: new AbortController().signal, onOutput: () => {} };
    const task: SandboxTask = { ...PROGRAM_TASK, options: { image } };
    const { ending } = await this.#alone(task, hooks, ["sh", "-c", 'command -v "$1"', "find", program]);
    return ending.kind === "exit" && ending.code === 0;
  }
}

export const openDocker: OpenDriver = (options) => new DockerDriver(options);

const PROGRAM_LIMITS = {
  wallMs: 10_000,
  cpuMs: 5_000,
  memoryMiB: 32,
  processes: 8,
  outputBytes: 4_096,
  fileBytes: 4_096,
  diskBytes: 65_536,
  files: 0,
};
const PROGRAM_TASK: Omit<SandboxTask, "options"> = {
  runId: "find",
  runtime: "sh",
  code: "",
  args: [],
  stdin: new Uint8Array(),
  files: [],
  env: {},
  limits: PROGRAM_LIMITS,
  network: { mode: "none" },
  mounts: [],
  packages: [],
};

/** @throws SwarmError unavailable */
function socketOf(named: string | undefined, env: Readonly<Record<string, string | undefined>>): string {
  if (named !== undefined && named !== "") {
    if (named.startsWith("unix://")) return named.slice("unix://".length);
    throw new SwarmError("unavailable", "Container engines are reached by a UNIX socket alone.", {
      hint: "Name it as unix:///path in DOCKER_HOST, or in worker.containerEngine of the operator's file.",
    });
  }
  const folder = env.XDG_RUNTIME_DIR;
  const usual = [
    "/var/run/docker.sock",
    "/run/podman/podman.sock",
    ...(folder === undefined ? [] : [join(folder, "docker.sock"), join(folder, "podman/podman.sock")]),
    join(homedir(), ".docker/run/docker.sock"),
  ];
  const found = usual.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new SwarmError("unavailable", "There is no container engine here.", {
    hint: "Start Docker, or Podman's service (systemctl start podman.socket), or name its socket in DOCKER_HOST.",
  });
}

/** Undefined when it is not on the machine. */
async function imageId(engine: Engine, image: string): Promise<string | undefined> {
  try {
    const id = member(await engine.call("GET", `/images/${encodeURIComponent(image)}/json`), "Id");
    return typeof id === "string" ? id : undefined;
  } catch (error) {
    if (error instanceof EngineRefusal && error.status === 404) return undefined;
    throw error;
  }
}

function absent(image: string): string {
  return `Its image is not on this machine, and none is fetched by itself: run docker pull ${image}, or podman pull ${image}.`;
}

const NO_IMAGE =
  "No image is here to try containers with: fetch one that the ceiling's images permit, with docker pull or podman pull.";

/** Files stay from task to task; processes do not. */
class ContainerSession implements SandboxSession {
  readonly #place: Place;
  readonly #closed: () => void;
  #closing: Promise<void> | undefined;

  constructor(place: Place, closed: () => void) {
    this.#place = place;
    this.#closed = closed;
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    if (this.#closing !== undefined) {
      throw new SwarmError("unavailable", "The session's sandbox is gone.", { hint: "Start a new session.", retryable: false });
    }
    try {
      return await runInContainer(this.#place, task, hooks);
    } finally {
      await this.#place.clear();
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#place.remove().finally(this.#closed);
    return this.#closing;
  }
}

const HOLDS: Capabilities = {
  limits: {
    wallMs: "enforced",
    cpuMs: "watched",
    memoryMiB: "enforced",
    processes: "enforced",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "enforced",
    files: "enforced",
  },
  isolates: [
    "Files: only the image, read-only, and /tmp in memory, which counts as memory too; no file of the machine but what is mounted",
    "Network: none, unless the operator permits all of it",
    "Processes: sees its own alone; all die with the container's first process, which ends with the worker's connection",
    "Rights: a user of no image, no capability, no new privileges, the engine's own filter of system calls",
    "Memory and processes are limited by cgroups, all together; CPU time of each process too, that of all is looked at four times a second",
  ],
  runtimes: Object.fromEntries(Object.keys(CONTAINER_RUNTIMES).map((name) => [name, { version: "the image's" }])),
  opens: { network: "all", mounts: true, packages: false },
  session: "files",
};
