import type { Clock } from "@mcp-swarm/core";
import type { Guard } from "@mcp-swarm/identity";

/** When to try again to open what did not open. */
const RETRY_MS = 5_000;

export interface GuardedWatchOptions {
  guard: Guard;
  clock: Clock;
  /** Whether its reader may be told now. */
  admitted(): boolean;
  /** Opens what tells the reader; called anew when the reader is admitted again. */
  open(): Promise<Disposable>;
  /** Called when it tells again after a silence, in which it may have missed anything. */
  onReopened?(): void;
  /** Told when it could not be opened again; it is tried again. */
  onError(error: unknown): void;
}

/**
 * What goes on after it was let in: a subscription, a channel. While its reader is not admitted it is silent, and what it was
 * opened with is gone; it tells again when the reader is admitted again, because a host would not ask a second time.
 */
export class GuardedWatch implements Disposable {
  readonly #options: GuardedWatchOptions;
  readonly #changes: Disposable;
  #opened: Disposable | undefined;
  #opening = false;
  #retry: Disposable | undefined;
  #over = false;

  constructor(options: GuardedWatchOptions) {
    this.#options = options;
    this.#changes = options.guard.onChange(() => {
      if (this.check()) void this.begin();
    });
  }

  /** @throws what `open` throws; then it is over */
  async open(): Promise<void> {
    try {
      await this.#open();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens it, unless it is open, and tries again when it does not open. Never rejects. */
  async begin(): Promise<void> {
    if (this.#opening || this.#opened || this.#over) return;
    try {
      await this.#open();
      if (this.#opened) this.#options.onReopened?.();
    } catch (error) {
      if (!this.#over) this.#options.onError(error);
      this.#tryLater();
    }
  }

  /** Whether the reader may be told now; if not, what tells it is closed until it may. */
  check(): boolean {
    if (this.#over) return false;
    if (this.#options.admitted()) return true;
    this.#close();
    this.#tryLater();
    return false;
  }

  async #open(): Promise<void> {
    this.#opening = true;
    try {
      const opened = await this.#options.open();
      this.#opened = opened;
      if (this.#over) this.#close();
      else this.check();
    } finally {
      this.#opening = false;
    }
  }

  #tryLater(): void {
    this.#retry?.[Symbol.dispose]();
    if (this.#over) return;
    this.#retry = this.#options.clock.timer(RETRY_MS, () => {
      if (this.check()) void this.begin();
    });
  }

  #close(): void {
    this.#opened?.[Symbol.dispose]();
    this.#opened = undefined;
  }

  [Symbol.dispose](): void {
    this.#over = true;
    this.#changes[Symbol.dispose]();
    this.#retry?.[Symbol.dispose]();
    this.#close();
  }
}
