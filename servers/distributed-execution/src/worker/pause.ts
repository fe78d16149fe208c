import type { Clock } from "@mcp-swarm/core";

/** Waits so many ms, or until the signal aborts; never rejects. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  let over = () => {};
  const done = new Promise<void>((resolve) => {
    over = resolve;
  });
  using _timer = clock.timer(ms, over);
  signal.addEventListener("abort", over);
  await done;
  signal.removeEventListener("abort", over);
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
