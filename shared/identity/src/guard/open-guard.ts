import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { onceCall } from "../idempotency.ts";
import { BUNDLE_KEY } from "../trust/bundle-key.ts";
import type { Admission, Guard } from "./guard.ts";

/** How often a process looks whether the swarm was secured meanwhile. */
const LOOK_EVERY_MS = 5_000;
/** A process that looked longer ago (it was stopped) looks before it lets anybody in. */
const LOOK_AGE_MS_MAX = LOOK_EVERY_MS + 1_000;

export interface OpenGuardOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** Told of a look that failed; it is repeated. */
  readonly onError: (error: unknown) => void;
}

const settled = Promise.resolve();
const settle = () => settled;

/**
 * The guard of an open swarm: names are taken on trust, everything is let in, nothing is written down. Once the store holds the
 * bundle of a secured swarm it refuses everything, because this process pins no root key to check it against.
 */
export class OpenGuard implements Guard {
  readonly secured = false;
  readonly #options: OpenGuardOptions;
  readonly #listeners = new Set<() => void>();
  #swarmIsSecured = false;
  /** When the last look that found out began. */
  #lookedAt = 0;
  #timer: Disposable | undefined;
  #closed = false;

  private constructor(options: OpenGuardOptions) {
    this.#options = options;
  }

  /** Knows already whether the swarm is secured. @throws SwarmError unavailable */
  static async open(options: OpenGuardOptions): Promise<OpenGuard> {
    const guard = new OpenGuard(options);
    await guard.#look();
    guard.#arm();
    return guard;
  }

  checkProcess(): void {
    if (this.#swarmIsSecured) throw swarmIsSecured();
  }

  onChange(told: () => void): Disposable {
    this.#listeners.add(told);
    return { [Symbol.dispose]: () => void this.#listeners.delete(told) };
  }

  async admit(...[caller, , once]: Parameters<Guard["admit"]>): Promise<Admission> {
    await this.#lookAgain();
    this.checkProcess();
    return { call: onceCall({ store: this.#options.store, caller }, once), settle };
  }

  async admitList(): Promise<void> {
    await this.#lookAgain();
    this.checkProcess();
  }

  stillAdmits(): boolean {
    return !this.#swarmIsSecured;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
  }

  /** @throws SwarmError unavailable */
  async #lookAgain(): Promise<void> {
    if (Math.abs(this.#options.clock.now() - this.#lookedAt) > LOOK_AGE_MS_MAX) await this.#look();
  }

  async #look(): Promise<void> {
    const startedAt = this.#options.clock.now();
    const bundle = await this.#options.store.get(BUNDLE_KEY);
    this.#lookedAt = startedAt;
    if (bundle === undefined) return;
    this.#swarmIsSecured = true; // and stays so: whoever takes the bundle away opens no process that was shut
    for (const told of this.#listeners) told();
  }

  #arm(): void {
    if (this.#closed || this.#swarmIsSecured) return;
    this.#timer = this.#options.clock.timer(LOOK_EVERY_MS, () => {
      this.#look()
        .catch((error: unknown) => {
          if (!this.#closed) this.#options.onError(error);
        })
        .finally(() => this.#arm());
    });
  }
}

function swarmIsSecured(): SwarmError {
  return new SwarmError("failed_precondition", "This swarm is secured, and this server was started without a key.", {
    hint: "Set SWARM_KEY_FILE to the key file of your agent. Whoever keeps the root key makes one with: mcp-swarm-security enroll <agent>.",
  });
}
