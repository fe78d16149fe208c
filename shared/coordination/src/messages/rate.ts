/** How fast one agent may send: a burst is fine and a flood is not. */
import { SwarmError } from "@mcp-swarm/core";
import { type Bucket, takeRate } from "@mcp-swarm/identity";

export type { Bucket };

/** Messages a minute when `SWARM_MESSAGE_RATE` does not say: 100 a second. */
export const MESSAGE_RATE_DEFAULT = 6_000;
/** A full bucket holds what comes in so long: so much may be sent at once after a pause. */
const BURST_MS = 10_000;
/** A slow rate still allows a few messages in a row. */
const BURST_MIN = 10;
const MINUTE_MS = 60_000;

/**
 * The sender's bucket after `cost` messages.
 * @throws SwarmError limit_exceeded with when there is enough again
 */
export function take(bucket: Bucket | undefined, now: number, perMinute: number, cost: number): Bucket {
  const burst = Math.max(BURST_MIN, Math.floor((perMinute * BURST_MS) / MINUTE_MS));
  const took = takeRate(bucket, now, { max: burst, perMs: (burst * MINUTE_MS) / perMinute }, cost);
  if (took.taken) return took.bucket;
  throw new SwarmError("limit_exceeded", `You send more than ${perMinute} messages a minute.`, {
    hint: `Try again in ${took.waitMs} ms, and say in one message what you would say in many.`,
    retryable: true,
  });
}
