/** Environments as agents find, make and delete them. */
import { type Clock, type Json, SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import type { Store, Transaction } from "@mcp-swarm/store";
import { BUILTIN_ENVIRONMENTS } from "./builtin-environments.ts";
import type { Ceiling, Environment, Manifest } from "./environment.ts";
import {
  ENVIRONMENTS_MAX,
  type EnvironmentRow,
  environmentKey,
  putRow,
  ROW_TTL_MS,
  readAll,
  readRow,
  rowsRange,
} from "./environment-layer.ts";
import { beyond, type ManifestInput, wholeManifest } from "./manifest.ts";
import { NO_OPERATOR_FILE, type OperatorFile } from "./operator-file.ts";

/** How often a process makes sure that its operator's environments stand in the store. */
const PUBLISH_EVERY_MS = 3_600_000;
/** They are written again when less than this is left of their time. */
const RENEW_BELOW_MS = ROW_TTL_MS - 24 * 3_600_000;

const BUILTIN: ReadonlyMap<string, Environment> = new Map(BUILTIN_ENVIRONMENTS.map((one) => [one.name, one]));

/** Where an environment is looked up by those who only need to know it. */
export interface EnvironmentBook {
  /** Inside a plan or out of what was read; undefined when there is none of this name. */
  find(tx: Pick<Transaction, "get">, name: string): Environment | undefined;
  /** The key that `find` reads, to fetch it ahead. */
  keyOf(name: string): string;
  /** Makes sure that what this process's operator named can be found; cheap after the first time. */
  ready(store: Store): Promise<void>;
  /** All there are: those from the start, then the others by name. */
  all(store: Store): Promise<Environment[]>;
}

export interface EnvironmentsOptions {
  clock: Clock;
  /** Of this process's machine. */
  operator?: OperatorFile | undefined;
}

export class Environments implements EnvironmentBook {
  readonly #clock: Clock;
  readonly #operator: OperatorFile;
  #published: { at: number; done: Promise<void> } | undefined;

  constructor({ clock, operator = NO_OPERATOR_FILE }: EnvironmentsOptions) {
    this.#clock = clock;
    this.#operator = operator;
  }

  /** Of this process's machine: what its workers keep to. */
  get ceiling(): Ceiling {
    return this.#operator.ceiling;
  }

  find(tx: Pick<Transaction, "get">, name: string): Environment | undefined {
    return BUILTIN.get(name) ?? readRow(tx, name)?.environment;
  }

  keyOf(name: string): string {
    return environmentKey(name);
  }

  async all(store: Store): Promise<Environment[]> {
    await this.ready(store);
    return [...BUILTIN_ENVIRONMENTS, ...(await readAll(store))];
  }

  async ready(store: Store): Promise<void> {
    if (this.#operator.environments.length === 0) return;
    const now = this.#clock.now();
    if (!this.#published || now - this.#published.at >= PUBLISH_EVERY_MS) {
      const done = this.#publish(store);
      this.#published = { at: now, done };
      done.catch(() => {
        this.#published = undefined; // whoever waits for it is told; the next tries again
      });
    }
    await this.#published.done;
  }

  /** Writes what the operator's file names where it does not stand yet; of two files that differ the later process's holds. */
  async #publish(store: Store): Promise<void> {
    const named = this.#operator.environments;
    await store.transact(
      (tx) => {
        for (const manifest of named) {
          const entry = tx.get(environmentKey(manifest.name));
          const row = entry?.value as EnvironmentRow | undefined;
          const known = row?.environment;
          const same = known?.origin === "operator" && sameManifest(known, manifest);
          if (same && (entry?.expiresAt ?? 0) - tx.now > RENEW_BELOW_MS) continue;
          const version = same ? known.version : (row?.version ?? 0) + 1;
          putRow(tx, manifest.name, { version, environment: { ...manifest, origin: "operator", version } }, "ends");
        }
      },
      { prefetch: { keys: named.map(({ name }) => environmentKey(name)) } },
    );
  }

  /**
   * Why workers of this process may not run it, as the end of a sentence; undefined when they may. What the operator's
   * own file names needs no permission; everything else lies within the ceiling, whoever let it into the store.
   */
  refusal(environment: Environment): string | undefined {
    const own = this.#operator.environments.find(({ name }) => name === environment.name);
    if (own && sameManifest(own, environment)) return undefined;
    const found = beyond(environment, this.ceiling);
    return found && `${found.field} ${found.because}`;
  }

  /**
   * @throws SwarmError invalid_argument (what does not fit together), permission_denied (beyond the ceiling: the field, and what there
   * is to have), already_exists, limit_exceeded
   */
  async create(call: Call, input: ManifestInput): Promise<Environment> {
    const manifest = wholeManifest(input);
    const found = beyond(manifest, this.ceiling);
    if (found) {
      throw new SwarmError("permission_denied", `"${found.field}" ${found.because}.`, {
        hint: "Ask for less, or have the operator raise the ceiling in the file that SWARM_EXEC_CONFIG names.",
      });
    }
    await this.ready(call.store);
    const { name } = manifest;
    return await call.transact(
      (tx) => {
        if (this.find(tx, name)) {
          throw new SwarmError("already_exists", `There is an environment ${name} already.`, {
            hint: "Use another name, or delete that one first if it was made by create_environment.",
          });
        }
        const rows = tx.scan(rowsRange());
        if (rows.filter(({ value }) => (value as EnvironmentRow).environment).length >= ENVIRONMENTS_MAX) {
          throw new SwarmError("limit_exceeded", `There are ${ENVIRONMENTS_MAX} environments already.`, {
            hint: "Delete one that nobody needs with delete_environment.",
          });
        }
        const version = (readRow(tx, name)?.version ?? 0) + 1;
        const made = { createdBy: call.caller.agentId, createdAt: tx.now };
        const environment: Environment = { ...manifest, origin: "created", version, ...made };
        putRow(tx, name, { version, environment }, "stays");
        return environment as Environment & Json;
      },
      { prefetch: { keys: [environmentKey(name)], ranges: [rowsRange()] } },
    );
  }

  /** @throws SwarmError not_found, failed_precondition (builtin, or an operator's) */
  async delete(call: Call, { name }: { readonly name: string }): Promise<{ readonly name: string; readonly version: number }> {
    if (BUILTIN.has(name)) throw notDeletable(name, "is there from the start");
    return await call.transact(
      (tx) => {
        const environment = readRow(tx, name)?.environment;
        if (!environment) throw noSuchEnvironment(name);
        if (environment.origin === "operator") throw notDeletable(name, "stands in an operator's file");
        const { version } = environment;
        putRow(tx, name, { version }, "ends");
        return { name, version };
      },
      { prefetch: { keys: [environmentKey(name)] } },
    );
  }
}

function sameManifest(a: Manifest, b: Manifest): boolean {
  return JSON.stringify(asWritten(a)) === JSON.stringify(asWritten(b));
}

/** In one order, without what an environment has besides. */
function asWritten({ name, description, drivers, runtime, limits, network, mounts, packages, env, ...rest }: Manifest): Json {
  const { session, requires, options } = rest;
  const { wallMs, cpuMs, memoryMiB, processes, outputBytes, fileBytes, diskBytes, files } = limits;
  const shape = [wallMs, cpuMs, memoryMiB, processes, outputBytes, fileBytes, diskBytes, files];
  const hosts = network.mode === "hosts" ? network.hosts : [];
  const places = mounts.map(({ from, to, readOnly }) => [from, to, readOnly]);
  const sorted = (record: Readonly<Record<string, string>>) => Object.entries(record).sort(([x], [y]) => (x < y ? -1 : 1));
  return [
    ...[name, description ?? null, drivers, runtime, shape, network.mode, hosts, places, packages, sorted(env), session],
    ...[requires.arch ?? null, requires.labels ?? [], sorted(options)],
  ];
}

/** The name was checked to be plain. */
export function noSuchEnvironment(name: string): SwarmError {
  return new SwarmError("not_found", `There is no environment ${name}.`, { hint: "list_environments names those there are." });
}

function notDeletable(name: string, because: string): SwarmError {
  return new SwarmError("failed_precondition", `Environment ${name} ${because}.`, {
    hint: "Only what create_environment made can be deleted.",
  });
}
