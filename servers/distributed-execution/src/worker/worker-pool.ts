/**
 * The worker of a server process. Until something waits that it might run it is a watch and nothing else: nothing is loaded, tried or
 * written. It goes back to that when nothing has run for a while.
 */
import { waitFor } from "@mcp-swarm/coordination";
import { type Clock, WAIT_MS_MAX } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { aborted, pause } from "./pause.ts";
import type { Demand, WorkSource } from "./work-source.ts";
import { liveWorkers, type WorkerRow } from "./worker-row.ts";
import type { Workplace } from "./workplace.ts";

/** After so long without a run it lets go of all that it keeps warm, ms. */
const POOL_IDLE_MS = 120_000;
const IDLE_LOOK_MS = 5_000;
/** The least time between two beginnings, and between two tries when the store cannot be reached, ms. */
const RESTART_MS = 1_000;

export interface WorkerPoolOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly source: Pick<WorkSource, "demand" | "onDemand">;
  readonly workerId: string;
  /** Loads what it works with; called once, when it is first needed. Undefined: this process runs nothing. */
  readonly load: (() => Promise<Workplace>) | undefined;
  readonly onError: (error: unknown, message: string) => void;
  readonly idleMs?: number;
}

export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #closing = new AbortController();
  #place: Promise<Workplace> | undefined;
  /** Set when it is loaded. */
  #loaded: Workplace | undefined;
  #loop: Promise<void> = Promise.resolve();

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#options.load) this.#loop = this.#watch();
  }

  /**
   * Every worker that lives, this process's own among them with all environments tried, or these alone; what takes longer than `waitMs` to try is
   * missing from it, and is there when it is asked for again.
   */
  async workers(waitMs: number, only?: readonly string[]): Promise<WorkerRow[]> {
    if (!this.#options.load) return await liveWorkers(this.#options.store);
    const place = await this.#workplace();
    const looked = place.lookAtAll(only);
    looked.catch((error: unknown) => this.#options.onError(error, "Not every environment could be tried"));
    await Promise.race([looked.catch(() => {}), this.#pause(waitMs)]); // told above
    return await this.known();
  }

  /** The same as far as it is known without trying anything; this process's own is missing while it has not begun to find out. */
  async known(): Promise<WorkerRow[]> {
    const { store, clock } = this.#options;
    const live = await liveWorkers(store);
    if (!this.#loaded) return live;
    const own = this.#loaded.describe();
    const row = live.find(({ id }) => id === own.id);
    const seenAt = row?.seenAt ?? clock.now();
    return [{ ...own, startedAt: row?.startedAt ?? seenAt, seenAt }, ...live.filter(({ id }) => id !== own.id)];
  }

  /** What policy lets it run may be other than before. */
  standingChanged(): void {
    this.#loaded?.standingChanged();
  }

  /** Gives back what runs. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#loop;
    const place = await this.#place?.catch(() => undefined); // whoever asked for it was told
    await place?.stop();
  }

  async #watch(): Promise<void> {
    const { onError } = this.#options;
    while (!this.#closing.signal.aborted) {
      try {
        const demands = await this.#wanted();
        if (demands) await this.#serve(demands);
      } catch (error) {
        if (!this.#closing.signal.aborted) onError(error, "This process could not work; it is tried again");
        await this.#pause(RESTART_MS);
      }
    }
  }

  /** What waits that this process might run; undefined when nothing came for a while. */
  async #wanted(): Promise<readonly Demand[] | undefined> {
    const { source, clock, workerId } = this.#options;
    return await waitFor<readonly Demand[]>({
      store: { watch: (_prefix, wake) => source.onDemand(wake) },
      clock,
      prefixes: [""],
      attempt: async () => {
        const demands = await source.demand();
        const offers = this.#loaded?.offers;
        if (offers ? offers.mightServe(demands, workerId) : demands.length > 0) return { value: demands };
        const againInMs = offers?.unknownInMs(demands, workerId);
        return againInMs === undefined ? {} : { againInMs };
      },
      waitMs: WAIT_MS_MAX,
      signal: this.#closing.signal,
    });
  }

  /** Works until nothing has run for a while; not at all when it turns out that none of this runs here. */
  async #serve(demands: readonly Demand[]): Promise<void> {
    const { workerId, idleMs = POOL_IDLE_MS } = this.#options;
    const place = await this.#workplace();
    const { signal } = this.#closing;
    await Promise.race([place.offers.lookForAny(place.offers.unknown(demands, workerId)), aborted(signal)]);
    if (signal.aborted || !place.offers.mightServe(demands, workerId)) return;
    await place.start();
    while (!this.#closing.signal.aborted && place.idleMs < idleMs) await this.#pause(Math.min(idleMs, IDLE_LOOK_MS));
    await place.stop();
  }

  #workplace(): Promise<Workplace> {
    const { load } = this.#options;
    this.#place ??= (load as () => Promise<Workplace>)().then((place) => {
      this.#loaded = place;
      return place;
    });
    this.#place.catch(() => {
      this.#place = undefined; // the caller is told; the next tries again
    });
    return this.#place;
  }

  #pause(ms: number): Promise<void> {
    return pause(this.#options.clock, ms, this.#closing.signal);
  }
}
