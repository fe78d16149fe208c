import { SQL_VIEW_NAMES, SQL_VIEWS_VERSION } from "@mcp-swarm/coordination";
import { type Clock, newId, type Random, SwarmError, systemClock, systemRandom } from "@mcp-swarm/core";
import { Presence } from "@mcp-swarm/identity";
import { openStore, type Store } from "@mcp-swarm/store";
import type { Config } from "./config.ts";
import { type Log, openLog } from "./log.ts";

/** The store, and the presence of this process's agents in it. */
export interface Ground {
  readonly store: Store;
  readonly presence: Presence;
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
      this.log.error({ err: error }, "The store did not open");
    });
    return opening;
  }

  async #open(): Promise<Ground> {
    const store = await openStore(this.config.storeUrl, {
      durability: this.config.durability,
      views: {
        names: SQL_VIEW_NAMES,
        version: SQL_VIEWS_VERSION,
        load: async () => (await import("@mcp-swarm/coordination/views")).sqlViews,
        onError: (error) => this.log.warn({ err: error }, "The SQL views could not be made; everything else works"),
      },
    });
    const presence = new Presence({
      store,
      clock: this.clock,
      processId: this.processId,
      leaseMs: this.config.leaseMs,
      onError: (error) => this.log.warn({ err: error }, "The presence of this process was not renewed"),
    });
    try {
      if (this.#agentId) await presence.announce({ agentId: this.#agentId(), processId: this.processId });
    } catch (error) {
      await store.close(); // the next call opens it anew
      throw error;
    }
    return { store, presence };
  }

  async close(): Promise<void> {
    this.#closed = true;
    const ground = await this.#ground?.catch(() => undefined); // a failed opening was logged and holds nothing
    try {
      await ground?.presence.leave();
    } finally {
      await ground?.store.close();
      await this.log.flush();
    }
  }
}
