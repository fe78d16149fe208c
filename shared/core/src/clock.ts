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

/** A clock that moves only when told, for tests and simulations. */
export interface ManualClock extends Clock {
  /**
   * Moves time forward and fires what comes due, in order of due time, each at its own time. After each it lets pending
   * promises and immediates run, so work that a timer started and the timer it sets next are part of the same move.
   */
  advance(byMs: number): Promise<void>;
}

/** Turns of the event loop given to what a fired timer started. */
const TURNS_PER_TIMER = 4;

export function manualClock(startMs = 1_750_000_000_000): ManualClock {
  let now = startMs;
  const timers = new Set<{ at: number; fire: () => void }>();
  const turns = async () => {
    for (let i = 0; i < TURNS_PER_TIMER; i++) await new Promise<void>((done) => setImmediate(done));
  };
  return {
    now: () => now,
    timer(delayMs, fire) {
      const timer = { at: now + Math.max(0, delayMs), fire };
      timers.add(timer);
      return { [Symbol.dispose]: () => void timers.delete(timer) };
    },
    async advance(byMs) {
      const end = now + byMs;
      await turns();
      for (;;) {
        let next: { at: number; fire: () => void } | undefined;
        for (const timer of timers) if (timer.at <= end && (!next || timer.at < next.at)) next = timer;
        if (!next) break;
        timers.delete(next);
        now = Math.max(now, next.at);
        next.fire();
        await turns();
      }
      now = end;
    },
  };
}
