/** Where time comes from. Leases never use it: they use the engine's clock (`Transaction.now`). */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls `fire` once after `delayMs`; disposing cancels. The timer does not keep the process alive. */
  timer(delayMs: number, fire: () => void): Disposable;
}

/** The longest delay a Node timer takes; a longer one would fire at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  timer(delayMs, fire) {
    const handle = setTimeout(fire, Math.min(Math.max(0, delayMs), TIMER_MAX_MS));
    handle.unref();
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  },
};
