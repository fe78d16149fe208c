/**
 * Which environments one worker can run, and on which driver: by what the drivers showed when they were tried on this machine, and
 * within what the worker's own operator lets environments ask for, whatever the store says.
 */
import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Environment, Offer } from "../environment.ts";
import type { Requires } from "../execution-record.ts";
import { type Capabilities, type Driver, type DriverName, LIMIT_NAMES, type Probe } from "../sandbox/driver.ts";
import type { Drivers } from "../sandbox/drivers.ts";
import type { Demand } from "./work-source.ts";

/**
 * What failed is tried again after so long, ms, and each time after twice as long, up to the most: the machine may have been too busy, or
 * somebody may have installed what was missing.
 */
const PROBE_AGAIN_MS_MIN = 2_000;
export const PROBE_AGAIN_MS = 60_000;
/** Most environments, a version each, that a worker remembers what came of. */
const KNOWN_MAX = 500;

export interface OffersOptions {
  readonly drivers: Drivers;
  readonly clock: Clock;
  readonly arch: string;
  readonly labels: readonly string[];
  /** The only environments it offers; all when absent. */
  readonly only?: readonly string[];
  /** What the worker's operator forbids of an environment, as a sentence; undefined when it is within what is permitted. */
  readonly beyond: (environment: Environment) => string | undefined;
  /** The environment of a name as it is now. */
  readonly find: (name: string) => Promise<Environment | undefined>;
  /** Told of what no reason in words says: a driver that failed in being tried. */
  readonly onError: (error: unknown, message: string) => void;
}

/** What came of an environment that somebody asked for. */
interface Known {
  readonly name: string;
  readonly version: number;
  /** Undefined when there is no such environment, or not of this version. */
  readonly offer: Offer | undefined;
  readonly at: number;
  /** How often in a row it did not run here. */
  readonly failures: number;
}

interface Probed {
  readonly probe: Promise<Probe>;
  readonly at: number;
  /** How often in a row it was not available, before this. */
  readonly failures: number;
  /** Set when it is known. */
  settled?: Probe;
}

export class Offers {
  readonly #options: OffersOptions;
  readonly #probed = new Map<DriverName, Probed>();
  readonly #known = new Map<string, Known>();
  /** What is being tried, and whether it turns out to run here. */
  readonly #looking = new Map<string, Promise<boolean>>();
  readonly #told = new Set<(runs: boolean) => void>();

  constructor(options: OffersOptions) {
    this.#options = options;
  }

  /** Tries what has not been tried, and says whether the environment runs here. */
  async of(environment: Environment): Promise<Offer> {
    const { name, version } = environment;
    const chosen = await this.#choose(environment);
    if ("reason" in chosen) return { environment: name, version, available: false, reason: chosen.reason };
    const { driver, capabilities } = chosen;
    const runtimeVersion = capabilities.runtimes[environment.runtime]?.version ?? "";
    return { environment: name, version, available: true, driver, runtimeVersion };
  }

  /** What is wanted that is not known yet, or failed so long ago that it is looked at again; of each environment once. */
  unknown(demands: readonly Demand[], workerId: string): Demand[] {
    const unknown = new Map<string, Demand>();
    for (const demand of demands) {
      const key = keyOf(demand);
      if (!this.#isFor(demand, workerId) || this.#remembered(demand)) continue;
      unknown.set(key, demand);
    }
    return [...unknown.values()];
  }

  /** Whether it is being tried just now. */
  isLookedAt(demand: Demand): boolean {
    return this.#looking.has(keyOf(demand));
  }

  /** Whether any of this might be run here, as far as is known without trying anything. */
  mightServe(demands: readonly Demand[], workerId: string): boolean {
    return demands.some((demand) => this.#isFor(demand, workerId) && this.#remembered(demand)?.offer?.available !== false);
  }

  /** Finds out about these together, so that none waits for a slow driver of another, and remembers it. Answers whether any runs here. */
  async look(demands: readonly Pick<Demand, "environment" | "version">[]): Promise<boolean> {
    return (await Promise.all(demands.map((demand) => this.#look(demand)))).includes(true);
  }

  /** `look`, which goes on when this returns: as soon as one is found to run here, or none does. */
  async lookForAny(demands: readonly Pick<Demand, "environment" | "version">[]): Promise<boolean> {
    return await new Promise((resolve, reject) => {
      for (const demand of demands) this.#look(demand).then((runs) => runs && resolve(true), reject);
      this.look(demands).then(resolve, reject);
    });
  }

  /** Tells whenever more is known of an environment: whether it runs here. */
  onFound(told: (runs: boolean) => void): Disposable {
    this.#told.add(told);
    return { [Symbol.dispose]: () => void this.#told.delete(told) };
  }

  #look(demand: Pick<Demand, "environment" | "version">): Promise<boolean> {
    const key = keyOf(demand);
    const begun = this.#looking.get(key);
    if (begun) return begun;
    const looking = this.#lookNow(demand).finally(() => this.#looking.delete(key));
    this.#looking.set(key, looking);
    return looking;
  }

  async #lookNow({ environment: name, version }: Pick<Demand, "environment" | "version">): Promise<boolean> {
    const environment = await this.#options.find(name);
    const offer = environment?.version === version ? await this.of(environment) : undefined;
    const key = keyOf({ environment: name, version });
    const runs = offer?.available === true;
    const failures = runs ? 0 : (this.#known.get(key)?.failures ?? 0) + 1;
    this.#known.delete(key);
    this.#known.set(key, { name, version, offer, failures, at: this.#options.clock.now() });
    const oldest = this.#known.keys().next();
    if (this.#known.size > KNOWN_MAX && !oldest.done) this.#known.delete(oldest.value);
    for (const told of [...this.#told]) told(runs);
    return runs;
  }

  /** All that was looked at and runs here. */
  served(): Pick<Environment, "name" | "version">[] {
    return [...this.#known.values()].flatMap(({ name, version, offer }) => (offer?.available ? [{ name, version }] : []));
  }

  /** Everything that was looked at. */
  known(): Offer[] {
    return [...this.#known.values()].flatMap(({ offer }) => (offer ? [offer] : []));
  }

  #isFor({ requires, workerId }: Demand, own: string): boolean {
    return (workerId === undefined || workerId === own) && this.unmet(requires) === undefined;
  }

  #remembered(demand: Demand): Known | undefined {
    const known = this.#known.get(keyOf(demand));
    return known && this.#freshMs(known) > 0 ? known : undefined;
  }

  /** For how long it is not looked at again, ms. */
  #freshMs({ offer, at, failures }: Known): number {
    return offer?.available === true ? Number.POSITIVE_INFINITY : at + againMs(failures) - this.#options.clock.now();
  }

  /** In how many ms the first of these is `unknown` again, if nobody asks for it before; undefined when none will be. */
  unknownInMs(demands: readonly Demand[], workerId: string): number | undefined {
    const known = demands.flatMap((demand) => (this.#isFor(demand, workerId) ? (this.#remembered(demand) ?? []) : []));
    const least = Math.min(...known.map((one) => this.#freshMs(one)));
    return Number.isFinite(least) ? least : undefined;
  }

  /** What runs it here now; undefined when it does not run here. */
  async driverOf(environment: Environment): Promise<Driver | undefined> {
    const chosen = await this.#choose(environment);
    return "reason" in chosen ? undefined : await this.#options.drivers.get(chosen.driver);
  }

  /** Every driver that was tried so far, with what it showed. */
  probes(): Partial<Record<DriverName, Probe>> {
    return Object.fromEntries([...this.#probed].flatMap(([name, { settled }]) => (settled ? [[name, settled]] : [])));
  }

  /** Something could not be started on it, which it had shown that it can: it is tried anew before it is next relied on. */
  doubt(driver: DriverName): void {
    this.#probed.delete(driver);
    for (const [key, { offer }] of this.#known) if (offer?.available && offer.driver === driver) this.#known.delete(key);
  }

  async #choose(environment: Environment): Promise<{ driver: DriverName; capabilities: Capabilities } | { reason: string }> {
    const outside = this.#refusal(environment);
    if (outside !== undefined) return { reason: outside };
    const reasons: string[] = [];
    for (const driver of environment.drivers) {
      const probe = await this.#probe(driver);
      const lacking = probe.available
        ? (lackingFor(environment, probe.capabilities) ?? (await this.#lacks(driver, environment)))
        : probe.reason;
      if (lacking === undefined && probe.available) return { driver, capabilities: probe.capabilities };
      reasons.push(environment.drivers.length === 1 ? `${lacking}` : `${driver}: ${lacking}`);
    }
    return { reason: reasons.join(" ") };
  }

  /** Why it is not for this worker, whatever its drivers can do. */
  #refusal(environment: Environment): string | undefined {
    const { only, beyond } = this.#options;
    if (only && !only.includes(environment.name)) return "This worker was started for other environments.";
    return this.unmet(environment.requires) ?? beyond(environment);
  }

  /** What of these requirements this worker does not meet, as a sentence. */
  unmet({ arch, labels = [] }: Requires): string | undefined {
    const { arch: own, labels: has } = this.#options;
    if (arch !== undefined && arch !== own) return `It wants the architecture ${arch}; this worker has ${own}.`;
    const missing = labels.filter((label) => !has.includes(label));
    return missing.length === 0 ? undefined : `This worker has not the labels it wants: ${missing.join(", ")}.`;
  }

  async #probe(name: DriverName): Promise<Probe> {
    const now = this.#options.clock.now();
    const known = this.#probed.get(name);
    const failures = known?.settled?.available === false ? known.failures + 1 : 0;
    if (known && (failures === 0 || now - known.at < againMs(failures))) return await known.probe;
    const probed: Probed = { at: now, failures, probe: this.#tried(name) };
    this.#probed.set(name, probed);
    probed.settled = await probed.probe;
    return probed.settled;
  }

  /** What only this environment needs, such as an image. Never rejects. */
  async #lacks(name: DriverName, environment: Environment): Promise<string | undefined> {
    try {
      const driver = await this.#options.drivers.get(name);
      return await driver?.lacks?.(environment);
    } catch (error) {
      this.#options.onError(error, `The driver ${name} failed when an environment was tried on it`);
      return error instanceof SwarmError ? error.message : "It failed when it was tried; the worker's log says more.";
    }
  }

  /** Never rejects: a driver that fails in being tried is not available. */
  async #tried(name: DriverName): Promise<Probe> {
    try {
      const driver = await this.#options.drivers.get(name);
      return driver ? await driver.probe() : { available: false, reason: "This worker has no such driver." };
    } catch (error) {
      this.#options.onError(error, `The driver ${name} failed when it was tried`);
      const said = error instanceof SwarmError ? error.message : "It failed when it was tried; the worker's log says more.";
      return { available: false, reason: said };
    }
  }
}

function againMs(failures: number): number {
  return Math.min(PROBE_AGAIN_MS, PROBE_AGAIN_MS_MIN * 2 ** Math.max(0, failures - 1));
}

function keyOf({ environment, version }: Pick<Demand, "environment" | "version">): string {
  return `${environment}@${version}`;
}

/** What the environment asks of a driver that it has not here, as a sentence. */
export function lackingFor(environment: Environment, has: Capabilities): string | undefined {
  const { runtime, network, mounts, packages, session } = environment;
  if (!Object.hasOwn(has.runtimes, runtime)) return `There is no ${runtime} that it can run.`;
  const unheld = LIMIT_NAMES.filter((limit) => has.limits[limit] === "none");
  if (unheld.length > 0) return `It cannot hold the limits ${unheld.join(", ")} here.`;
  if (!NETWORKS_OPENED[has.opens.network].includes(network.mode)) return `It cannot open the network to ${network.mode} here.`;
  if (mounts.length > 0 && !has.opens.mounts) return "It cannot mount folders here.";
  if (packages.length > 0 && !has.opens.packages) return "It cannot add packages here.";
  if (session !== "none" && session !== has.session)
    return `Sessions on it keep ${has.session === "none" ? "nothing" : has.session}.`;
  return undefined;
}

/** What can be opened includes less. */
const NETWORKS_OPENED: Readonly<Record<Capabilities["opens"]["network"], readonly Environment["network"]["mode"][]>> = {
  none: ["none"],
  hosts: ["none", "hosts"],
  all: ["none", "hosts", "all"],
};
