import { type Clock, SwarmError, WAIT_MS_MAX } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";

/**
 * What one attempt came to: a value, or nothing yet. `againInMs`: when something falls due. `behindMs`, where there is a line: how long
 * after a wake it looks, so that those before it do not contend with all who wait behind them; 0 of the one whose turn is next.
 */
export type Attempt<T> = { value: T } | { value?: never; againInMs?: number; behindMs?: number };

export interface WaitOptions<T> {
  store: Pick<Store, "watch">;
  clock: Clock;
  /** Prefixes under which a commit may bring what is waited for. */
  prefixes: readonly string[];
  /** Looks for it, in a transaction of its own; at most one runs at a time. It should read before it takes a write lock. */
  attempt: () => Promise<Attempt<T>>;
  /** 0 attempts once and does not wait. At most `WAIT_MS_MAX`. */
  waitMs: number;
  signal?: AbortSignal | undefined;
  /** Told every few seconds that the wait goes on, and how long it has. */
  onProgress?: ((waitedMs: number) => void) | undefined;
}

/**
 * Farthest apart that attempts are held: a flood of commits must not become a busy loop. The first wake after a quiet of this
 * long is followed at once, because it may well bring what is waited for; each that comes sooner widens the gap.
 */
const ATTEMPT_GAP_MS_MAX = 10;
/** The same of the one whose turn is next: the more others do, the likelier it is that a wake is for it. */
const NEXT_GAP_MS_MAX = 1;
const PROGRESS_EVERY_MS = 5_000;

/**
 * Attempts until there is a value; undefined once `waitMs` passed. It watches before the first attempt, so nothing that is
 * committed between an attempt and the wait is missed.
 *
 * When `signal` aborts, no further attempt starts and the wait rejects with the signal's reason. An attempt already under way
 * is awaited first: if it brought a value, that is returned all the same, because it may have been written; a caller that
 * must not keep what nobody receives looks at `signal.aborted` then.
 * @throws SwarmError invalid_argument, or what `attempt` throws
 */
export async function waitFor<T>(options: WaitOptions<T>): Promise<T | undefined> {
  const { clock, signal, waitMs } = options;
  if (!Number.isInteger(waitMs) || waitMs < 0 || waitMs > WAIT_MS_MAX) {
    throw new SwarmError("invalid_argument", "waitMs is out of bounds.", { hint: `Use 0 to ${WAIT_MS_MAX}.` });
  }
  signal?.throwIfAborted();
  if (waitMs === 0) {
    const result = await options.attempt();
    return result.value;
  }

  using whole = disposables();
  const startedAt = clock.now();
  let over = false;
  let woken = false;
  let wokenAt = startedAt;
  let gapMs = 0;
  let rouse = () => {};
  const wake = () => {
    if (!woken) wokenAt = clock.now();
    woken = true;
    rouse();
  };
  for (const prefix of options.prefixes) whole.use(options.store.watch(prefix, wake));
  whole.use(
    clock.timer(waitMs, () => {
      over = true;
      rouse();
    }),
  );
  const onAbort = () => rouse();
  signal?.addEventListener("abort", onAbort, { once: true });
  whole.use({ [Symbol.dispose]: () => signal?.removeEventListener("abort", onAbort) });
  if (options.onProgress) whole.use(every(clock, PROGRESS_EVERY_MS, () => options.onProgress?.(clock.now() - startedAt)));

  /** Until `until` says so, looked at whenever something happened. */
  const pause = (until: () => boolean) =>
    new Promise<void>((resolve) => {
      rouse = () => {
        if (until()) resolve();
      };
      rouse();
    });

  for (;;) {
    woken = false;
    const result = await options.attempt();
    if (result.value !== undefined) return result.value;
    signal?.throwIfAborted();
    if (over) return undefined;

    const lookedAt = clock.now();
    const isNext = "behindMs" in result && result.behindMs === 0;
    if (isNext) gapMs = Math.min(gapMs, NEXT_GAP_MS_MAX);
    let rested = gapMs === 0;
    let due = false;
    using timers = disposables();
    if (!rested) {
      timers.use(
        clock.timer(gapMs, () => {
          rested = true;
          rouse();
        }),
      );
    }
    const againInMs = "againInMs" in result ? result.againInMs : undefined;
    if (againInMs !== undefined && againInMs < waitMs) {
      timers.use(
        clock.timer(Math.max(ATTEMPT_GAP_MS_MAX, againInMs), () => {
          due = true;
          rouse();
        }),
      );
    }
    const behindMs = "behindMs" in result ? (result.behindMs ?? 0) : 0;
    let passed = behindMs === 0;
    let letPass = false;
    /** Whether those before it have had their time since the wake. */
    const turn = () => {
      if (passed || letPass) return passed;
      letPass = true;
      timers.use(
        clock.timer(behindMs, () => {
          passed = true;
          rouse();
        }),
      );
      return false;
    };
    await pause(() => over || signal?.aborted === true || (rested && (due || (woken && turn()))));
    signal?.throwIfAborted();
    // at the very end one more look costs little, and a wake that the gap held back is not lost
    if (over && !woken && !due) return undefined;
    const quiet = !woken || wokenAt - lookedAt >= ATTEMPT_GAP_MS_MAX;
    gapMs = quiet ? 0 : Math.min(ATTEMPT_GAP_MS_MAX, 2 * gapMs + 1);
  }
}

/** Disposes what it was given, the last first. It is `DisposableStack`, which Node 22 does not have. */
function disposables(): Disposable & { use(one: Disposable): void } {
  const given: Disposable[] = [];
  return {
    use: (one) => void given.push(one),
    [Symbol.dispose]: () => {
      for (const one of given.reverse()) one[Symbol.dispose]();
    },
  };
}

function every(clock: Clock, periodMs: number, fire: () => void): Disposable {
  let timer = clock.timer(periodMs, function tick() {
    fire();
    timer = clock.timer(periodMs, tick);
  });
  return { [Symbol.dispose]: () => timer[Symbol.dispose]() };
}
