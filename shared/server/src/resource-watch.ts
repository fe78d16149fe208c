import type { Clock } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import type { ResourceWatching } from "./resource.ts";

/** Looks are at least this far apart, however many commits wake: a flood must not become a busy loop, nor a flood of updates. */
const LOOK_GAP_MS = 50;
/** When to look again after a look that failed. */
const RETRY_MS = 5_000;

export interface ResourceWatchOptions {
  store: Pick<Store, "watch">;
  clock: Clock;
  watching: ResourceWatching;
  onChange(): void;
  /** Told of a look that failed; it is tried again. */
  onError(error: unknown): void;
}

/** Looks at a resource's version after each wake and says when it is another than before. */
export class ResourceWatch implements Disposable {
  readonly #options: ResourceWatchOptions;
  readonly #wakes: Disposable[] = [];
  #version: string | undefined;
  #timer: Disposable | undefined;
  /** A look is under way, or the last one is less than the gap ago. */
  #resting = false;
  #woken = false;
  #over = false;

  private constructor(options: ResourceWatchOptions) {
    this.#options = options;
  }

  /** Resolves when a first version is known: whatever is committed from then on is noticed. @throws what `version` throws */
  static async open(options: ResourceWatchOptions): Promise<ResourceWatch> {
    const watch = new ResourceWatch(options);
    try {
      // watched first, so that nothing is missed between the first look and the first wake
      for (const prefix of options.watching.prefixes) {
        watch.#wakes.push(options.store.watch(prefix, () => watch.#wake()));
      }
      watch.#resting = true;
      const { version, againInMs } = await options.watching.version();
      watch.#version = version;
      watch.#rest(againInMs);
      return watch;
    } catch (error) {
      watch[Symbol.dispose]();
      throw error;
    }
  }

  #wake(): void {
    this.#woken = true;
    if (!this.#resting) void this.#look();
  }

  /** Never rejects. */
  async #look(): Promise<void> {
    this.#resting = true;
    this.#woken = false;
    this.#timer?.[Symbol.dispose]();
    let againInMs: number | undefined;
    try {
      const found = await this.#options.watching.version();
      againInMs = found.againInMs;
      if (this.#over) return;
      if (found.version !== this.#version) {
        this.#version = found.version;
        this.#options.onChange();
      }
    } catch (error) {
      againInMs = RETRY_MS;
      if (!this.#over) this.#options.onError(error);
    }
    this.#rest(againInMs);
  }

  /** Looks again after the gap when something woke meanwhile, else at the next wake or in `againInMs`. */
  #rest(againInMs: number | undefined): void {
    if (this.#over) return;
    const { clock } = this.#options;
    this.#timer = clock.timer(LOOK_GAP_MS, () => {
      this.#resting = false;
      if (this.#woken) void this.#look();
      else if (againInMs !== undefined) {
        this.#timer = clock.timer(againInMs - LOOK_GAP_MS, () => void this.#look());
      }
    });
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#timer?.[Symbol.dispose]();
    for (const wake of this.#wakes.splice(0)) wake[Symbol.dispose]();
  }
}
