import { SQL_VIEW_NAMES, SQL_VIEWS_VERSION } from "@mcp-swarm/coordination";
import { type Clock, newId, type Random, SwarmError, systemClock, systemRandom } from "@mcp-swarm/core";
import { type Guard, OpenGuard, Presence } from "@mcp-swarm/identity";
import { openStore, type Store } from "@mcp-swarm/store";
import type { Config } from "./config.ts";
import { type Log, openLog } from "./log.ts";
import type { Security } from "./security.ts";

/** The store, the presence of this process's agents in it, and what every call passes. */
export interface Ground {
  readonly store: Store;
  readonly presence: Presence;
  readonly guard: Guard;
  /** Undefined while the swarm is open. */
  readonly security?: Security;
}

/**
 * What all servers of one process share: configuration, log, and the store, which is opened by whoever first needs it. A
 * store that cannot be opened fails the call that needed it, with the reason; the next call tries again.
 */
export class SwarmProcess {
  readonly config: Config;
  readonly log: Log;
  readonly clock: Clock = systemClock;
  readonly random: Random = systemRandom;
  readonly #agentId: (() => string) | undefined;
  #processId: string | undefined;
  #ground: Promise<Ground> | undefined;
  /** What gives back what this process holds when it is shut out; in the order in which it is run. */
  readonly #givesBack = new Set<() => Promise<void>>();
  /** The last of the steps that follow a change of standing; they never run side by side. */
  #following: Promise<void> = Promise.resolve();
  #shutOut = false;
  #closed = false;

  /** `agentId` names the agent whose host started this process, when the store is opened; over HTTP there is none. */
  constructor(config: Config, name: string, agentId?: () => string) {
    this.config = config;
    this.log = openLog(name, config.logLevel);
    this.#agentId = agentId;
  }

  /** Made when it is first asked for: the first answer does not wait for what chance comes from. */
  get processId(): string {
    this.#processId ??= newId("process", this.random);
    return this.#processId;
  }

  /** @throws SwarmError unavailable, failed_precondition (newer format, unsafe SQLite, network drive), invalid_argument (URL) */
  ground(): Promise<Ground> {
    if (this.#closed) return Promise.reject(new SwarmError("unavailable", "The server is shutting down."));
    if (this.#ground) return this.#ground;
    const opening = this.#open();
    this.#ground = opening;
    opening.catch((error: unknown) => {
      this.#ground = undefined;
      this.log.error({ err: error }, "The store, or what this process goes by, did not open");
    });
    return opening;
  }

  async #open(): Promise<Ground> {
    const { keyFile, rootKey } = this.config;
    const securing = keyFile === undefined && rootKey === undefined ? undefined : await import("./security.ts");
    const pinned = await securing?.readPinned(this.config);
    const store = await openStore(this.config.storeUrl, {
      durability: this.config.durability,
      views: {
        names: SQL_VIEW_NAMES,
        version: SQL_VIEWS_VERSION,
        load: async () => (await import("@mcp-swarm/coordination/views")).sqlViews,
        onError: (error) => this.log.warn({ err: error }, "The SQL views could not be made; everything else works"),
      },
    });
    const { clock, random, log, processId } = this;
    let security: Security | undefined;
    let guard: Guard | undefined;
    try {
      if (securing && pinned) security = await securing.openSecurity(pinned, { store, clock, random, log, processId });
      guard = security?.guard ?? (await this.#openGuard(store));
      const presence = new Presence({
        store,
        clock,
        processId,
        leaseMs: this.config.leaseMs,
        onError: (error) => log.warn({ err: error }, "The presence of this process was not renewed"),
      });
      const ground = { store, presence, guard, ...(security ? { security } : {}) };
      guard.onChange(() => void this.#follow(ground).catch((error) => this.#notFollowed(error)));
      this.#shutOut = true; // until it is found that it is not
      await this.#follow(ground);
      return ground;
    } catch (error) {
      await closeGuard({ guard, security });
      await store.close(); // the next call opens it anew
      throw error;
    }
  }

  async #openGuard(store: Store): Promise<Guard> {
    const onError = (error: unknown) =>
      this.log.warn({ err: error }, "Whether the swarm is secured could not be looked up; it is tried again");
    return await OpenGuard.open({ store, clock: this.clock, onError });
  }

  /**
   * Runs `giveBack` whenever this process is shut out of the swarm: others get what its agent held, and what goes on for the agent
   * here ends. Calls that come later are let in or refused by the guard.
   */
  whenShutOut(giveBack: () => Promise<void>): void {
    this.#givesBack.add(giveBack);
  }

  /** Does what a change of this process's standing asks for. */
  #follow(ground: Ground): Promise<void> {
    const followed = this.#following.then(() => this.#followNow(ground));
    this.#following = followed.catch(() => {}); // whoever asked for it is told
    return followed;
  }

  async #followNow({ guard, presence }: Ground): Promise<void> {
    const refusal = refusalOf(guard);
    const shutOut = refusal !== undefined;
    if (shutOut === this.#shutOut || this.#closed) return;
    if (!shutOut) {
      if (this.#agentId) await presence.announce({ agentId: this.#agentId(), processId: this.processId });
      this.#shutOut = false;
      return;
    }
    this.#shutOut = true;
    this.log.warn({ err: refusal }, "This process is shut out of the swarm; it gives back what it holds");
    for (const giveBack of this.#givesBack) await giveBack().catch((error) => this.#notFollowed(error));
    await presence.leave();
  }

  #notFollowed(error: unknown): void {
    this.log.error({ err: error }, "Not all was given back; leases free the rest");
  }

  async close(): Promise<void> {
    this.#closed = true;
    const ground = await this.#ground?.catch(() => undefined); // a failed opening was logged and holds nothing
    try {
      await this.#following;
      await ground?.presence.leave();
      if (ground) await closeGuard(ground);
    } finally {
      await ground?.store.close();
      await this.log.flush();
    }
  }
}

async function closeGuard({ guard, security }: { guard?: Guard | undefined; security?: Security | undefined }): Promise<void> {
  if (security) await (await import("./security.ts")).closeSecurity(security);
  else await guard?.close();
}

function refusalOf(guard: Guard): unknown {
  try {
    guard.checkProcess();
    return undefined;
  } catch (error) {
    return error;
  }
}
