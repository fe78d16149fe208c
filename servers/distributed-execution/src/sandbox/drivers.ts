/** The drivers of this package, each loaded when something is to run on it: a process that runs nothing holds none of them. */
import type { OperatorFile } from "../operator-file.ts";
import type { Driver, DriverName } from "./driver.ts";

export interface DriverOptions {
  /** How many runs it is given at once, and so how much it may keep warm. */
  readonly slots: number;
  readonly operator: OperatorFile;
  /** Told of what goes wrong without a run that could be told: a warm process that died. */
  readonly onError: (error: unknown, message: string) => void;
}

export type OpenDriver = (options: DriverOptions) => Driver | Promise<Driver>;
/** How each driver is loaded; one that is missing is not there in this worker. */
export type DriverLoaders = Readonly<Partial<Record<DriverName, () => Promise<OpenDriver>>>>;

/** Where the drivers of this package are. */
export const LOADERS: DriverLoaders = {
  bwrap: async () => (await import("./bwrap/driver.ts")).openBwrap,
  docker: async () => (await import("./docker/driver.ts")).openDocker,
  kubernetes: async () => (await import("./kubernetes/driver.ts")).openKubernetes,
  pyodide: async () => (await import("./pyodide/driver.ts")).openPyodideDriver,
  quickjs: async () => (await import("./quickjs/driver.ts")).openQuickJs,
  "sandbox-runtime": async () => (await import("./sandbox-runtime/driver.ts")).openSandboxRuntime,
  mcp: async () => (await import("../mcp/mcp-driver.ts")).openMcpDriver,
};

/** The drivers that one worker has opened. */
export class Drivers {
  readonly #loaders: DriverLoaders;
  readonly #options: DriverOptions;
  readonly #open = new Map<DriverName, Promise<Driver>>();

  constructor(options: DriverOptions, loaders: DriverLoaders = LOADERS) {
    this.#options = options;
    this.#loaders = loaders;
  }

  /** Undefined when this worker has no such driver. What opening throws is thrown again at the next asking. */
  async get(name: DriverName): Promise<Driver | undefined> {
    const load = this.#loaders[name];
    if (!load) return undefined;
    const known = this.#open.get(name);
    if (known) return await known;
    const opening = load().then((open) => open(this.#options));
    this.#open.set(name, opening);
    opening.catch(() => {
      if (this.#open.get(name) === opening) this.#open.delete(name); // the caller is told
    });
    return await opening;
  }

  /** Ends what they keep warm. Whoever asks for one afterwards gets it opened anew. */
  async close(): Promise<void> {
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { reason } of (await Promise.allSettled(open.map(closeOne))).filter((one) => one.status === "rejected")) {
      this.#options.onError(reason, "A driver did not close as it should");
    }
  }
}

async function closeOne(opening: Promise<Driver>): Promise<void> {
  const driver = await opening.catch(() => undefined); // one that never opened keeps nothing
  await driver?.close();
}
