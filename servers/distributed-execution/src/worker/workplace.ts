/** All that one process needs to work: drivers, what they let it offer, sessions, its row, and a worker while it works. */
import { hostname } from "node:os";
import type { LeaseKeeper } from "@mcp-swarm/coordination";
import type { Clock } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { Environment } from "../environment.ts";
import type { Environments } from "../environments.ts";
import type { OperatorFile } from "../operator-file.ts";
import { type DriverLoaders, Drivers } from "../sandbox/drivers.ts";
import { Offers } from "./offers.ts";
import { SessionHost } from "./session-host.ts";
import type { WorkSource } from "./work-source.ts";
import { Worker } from "./worker.ts";
import { WORKER_NAME_MAX, type WorkerDescription, WorkerPresence, type WorkerRow } from "./worker-row.ts";

/** What an operator decides of a worker. */
export interface WorkerSettings {
  readonly kind: WorkerRow["kind"];
  /** The machine's name when absent. */
  readonly name?: string;
  readonly labels: readonly string[];
  readonly slots: number;
  /** Names of the only environments that it offers; all when absent. */
  readonly environments?: readonly string[];
}

export interface WorkplaceOptions {
  readonly workerId: string;
  readonly settings: WorkerSettings;
  readonly store: Store;
  readonly clock: Clock;
  readonly leaseMs: number;
  readonly leases: LeaseKeeper;
  readonly source: WorkSource;
  readonly environments: Pick<Environments, "all" | "find" | "keyOf" | "ready" | "refusal">;
  readonly operator: OperatorFile;
  /** Ends a session whose worker lets go of it. */
  readonly letGo: (tx: Transaction, sessionId: string, workerId: string) => void;
  /** Whether policy lets this worker run tasks of an environment, asked anew each time. */
  readonly mayRun: (environment: string) => boolean;
  readonly onError: (error: unknown, message: string) => void;
  /** The package's own drivers when absent. */
  readonly loaders?: DriverLoaders;
}

export class Workplace {
  readonly offers: Offers;
  readonly #options: WorkplaceOptions;
  readonly #drivers: Drivers;
  readonly #sessions: SessionHost;
  /** It was stopped and has not been started again. */
  #stopped = false;
  #working: { readonly worker: Worker; readonly presence: WorkerPresence; readonly watch: Disposable } | undefined;

  constructor(options: WorkplaceOptions) {
    const { workerId, settings, store, clock, leases, letGo, environments, operator, onError, loaders } = options;
    this.#options = options;
    this.#drivers = new Drivers({ slots: settings.slots, operator, onError }, loaders);
    this.#sessions = new SessionHost({
      ...{ store, clock, leases, workerId, letGo },
      onError: (error) => onError(error, "A session's sandbox was not looked after as it should be"),
    });
    this.offers = new Offers({
      drivers: this.#drivers,
      clock,
      arch: process.arch,
      labels: settings.labels,
      ...(settings.environments ? { only: settings.environments } : {}),
      beyond: (environment) => {
        const refusal = environments.refusal(environment);
        return refusal && `This worker's operator does not permit it: ${refusal}.`;
      },
      find: (name) => this.#find(name),
      onError: (error, message) => {
        if (!this.#stopped) onError(error, message); // what was being tried when it was stopped has not failed
      },
    });
  }

  /** For how long nothing has run, ms. */
  get idleMs(): number {
    return this.#working?.worker.idleMs ?? Number.POSITIVE_INFINITY;
  }

  /** Looks at every environment there is, or at these alone, with all drivers that they need; what has been looked at is not tried again. */
  async lookAtAll(only?: readonly string[]): Promise<void> {
    const { environments, store, workerId } = this.#options;
    const all = await environments.all(store);
    const asked = only === undefined ? all : all.filter(({ name }) => only.includes(name));
    const wanted = asked.map(({ name, version }) => ({ environment: name, version, requires: {} }));
    await this.offers.look(this.offers.unknown(wanted, workerId));
    await this.#working?.presence.announce();
  }

  /** Takes runs from now on. */
  async start(): Promise<void> {
    const { source, workerId, settings, store, clock, leaseMs, mayRun, onError } = this.#options;
    this.#stopped = false;
    const presence = new WorkerPresence({
      ...{ store, clock, leaseMs, describe: () => this.describe() },
      onError: (error) => onError(error, "The row of this worker was not renewed; it is tried again"),
    });
    const worker = new Worker({
      ...{ workerId, source, clock, mayRun, onError, arch: process.arch, labels: settings.labels, slots: settings.slots },
      ...{ offers: this.offers, sessions: this.#sessions },
    });
    const watch = this.offers.onFound(() => void presence.announce());
    this.#working = { worker, presence, watch };
    await presence.announce();
    worker.start();
  }

  /** Takes nothing more, gives back what runs, and ends what the drivers keep warm. It can be started again. */
  async stop(): Promise<void> {
    this.#stopped = true;
    const working = this.#working;
    this.#working = undefined;
    working?.watch[Symbol.dispose]();
    await working?.worker.stop();
    await Promise.all([working?.presence.leave(), this.#drivers.close()]);
  }

  /** What policy lets it run may be other than before. */
  standingChanged(): void {
    this.#working?.worker.offersChanged();
  }

  /** What it says of itself to those who ask where their code can run. */
  describe(): WorkerDescription {
    const { workerId, settings } = this.#options;
    const { name = hostname(), kind, labels, slots } = settings;
    return {
      ...{ id: workerId, name: name.slice(0, WORKER_NAME_MAX), kind, labels, slots },
      ...{ host: hostname().slice(0, WORKER_NAME_MAX), platform: process.platform, arch: process.arch },
      running: this.#working?.worker.running ?? 0,
      offers: this.offers.known(),
      drivers: this.offers.probes(),
    };
  }

  async #find(name: string): Promise<Environment | undefined> {
    const { environments, store } = this.#options;
    await environments.ready(store);
    const entry = await store.get(environments.keyOf(name));
    return environments.find({ get: () => entry }, name);
  }
}
