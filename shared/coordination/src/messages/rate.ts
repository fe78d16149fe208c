/** How fast one agent may send: a token bucket, so that a burst is fine and a flood is not. */
import { SwarmError } from "@mcp-swarm/core";

/** Messages a minute when `SWARM_MESSAGE_RATE` does not say: 100 a second. */
export const MESSAGE_RATE_DEFAULT = 6_000;
/** A full bucket holds what comes in so long: so much may be sent at once after a pause. */
const BURST_MS = 10_000;
/** A slow rate still allows a few messages in a row. */
const BURST_MIN = 10;
const MINUTE_MS = 60_000;

/** What is left in a bucket, and when that was so. */
export type Bucket = { readonly left: number; readonly at: number };

/**
 * The bucket after `cost` messages. More than a whole bucket at once takes all of it.
 * @throws SwarmError limit_exceeded with when there is enough again
 */
export function take(bucket: Bucket | undefined, now: number, perMinute: number, cost: number): Bucket {
  const burst = Math.max(BURST_MIN, Math.floor((perMinute * BURST_MS) / MINUTE_MS));
  const at = Math.max(now, bucket?.at ?? 0);
  const left = bucket ? Math.min(burst, bucket.left + ((at - bucket.at) * perMinute) / MINUTE_MS) : burst;
  const price = Math.min(cost, burst);
  if (left >= price) return { left: left - price, at };
  const waitMs = Math.ceil(((price - left) * MINUTE_MS) / perMinute);
  throw new SwarmError("limit_exceeded", `You send more than ${perMinute} messages a minute.`, {
    hint: `Try again in ${waitMs} ms, and say in one message what you would say in many.`,
    retryable: true,
  });
}
