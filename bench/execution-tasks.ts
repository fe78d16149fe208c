/** What benchmarks let run in sandboxes: as little as there can be, and of each task something else comes out, so that none passes for another. */
import type { Json } from "@mcp-swarm/core";
import { BUILTIN_ENVIRONMENTS } from "../servers/distributed-execution/src/builtin-environments.ts";
import { NO_OPERATOR_FILE } from "../servers/distributed-execution/src/operator-file.ts";
import type { Driver, DriverName } from "../servers/distributed-execution/src/sandbox/driver.ts";
import { Drivers } from "../servers/distributed-execution/src/sandbox/drivers.ts";

/** Environments, by name. */
export type Kind = "javascript" | "python" | "bash" | "node" | "python3";

export interface EmptyTask {
  code: string;
  /** Absent where code has no value. */
  value?: Json;
  stdout: string;
}

const RUN_MS = 30_000;

export function emptyTask(kind: Kind, n: number): EmptyTask {
  switch (kind) {
    case "javascript":
    case "python":
      return { code: `${n} * 2`, value: 2 * n, stdout: "" };
    case "bash":
      return { code: `echo ${n}`, stdout: `${n}\n` };
    case "node":
      return { code: `console.log(${n})`, stdout: `${n}\n` };
    case "python3":
      return { code: `print(${n})`, stdout: `${n}\n` };
  }
}

/** Drivers as a worker with so many slots opens them. */
export function openDrivers(slots: number): Drivers {
  return new Drivers({ slots, operator: NO_OPERATOR_FILE, onError: (error, message) => console.error(message, error) });
}

/** The driver that is tried first for its environment, or the one that is named. */
export async function driverFor(drivers: Drivers, kind: Kind, name = environmentOf(kind).drivers[0]): Promise<Driver> {
  const driver = name === undefined ? undefined : await drivers.get(name satisfies DriverName);
  if (!driver) throw new Error(`There is no driver ${name}`);
  return driver;
}

/** Runs the n-th task within its environment's limits: the ms that it took. @throws Error when it came to something else than it should */
export async function runEmpty(driver: Driver, kind: Kind, n: number): Promise<number> {
  const { code, value, stdout } = emptyTask(kind, n);
  const { runtime, limits, network, mounts, packages, env, options } = environmentOf(kind);
  let said = "";
  const started = performance.now();
  const outcome = await driver.run(
    {
      ...{ runId: `bench-${process.pid}-${n}`, runtime, code, args: [], stdin: new Uint8Array(), files: [] },
      ...{ env, limits: { ...limits, wallMs: RUN_MS }, network, mounts, packages, options },
    },
    {
      signal: new AbortController().signal,
      onOutput: (_stream, bytes) => {
        said += Buffer.from(bytes).toString();
      },
    },
  );
  const tookMs = performance.now() - started;
  const { ending } = outcome;
  if (ending.kind !== "exit" || ending.code !== 0 || outcome.value !== value || said !== stdout) {
    throw new Error(`${kind} on ${driver.name} came to ${JSON.stringify({ ending, value: outcome.value, said })}`);
  }
  return tookMs;
}

function environmentOf(kind: Kind): (typeof BUILTIN_ENVIRONMENTS)[number] {
  const environment = BUILTIN_ENVIRONMENTS.find(({ name }) => name === kind);
  if (!environment) throw new Error(`There is no environment ${kind}`);
  return environment;
}
