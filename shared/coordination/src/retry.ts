import { SwarmError } from "@mcp-swarm/core";

/** Exponential back-off: how long to wait before another attempt. All times in ms. */
export interface BackoffPolicy {
  readonly initialMs: number;
  /** Each wait is this many times the one before. */
  readonly factor: number;
  readonly maxMs: number;
  /** Part of each wait that chance may take away, 0 to 1; none when absent. */
  readonly jitter?: number;
}

export const BACKOFF_MS_MAX = 7 * 24 * 60 * 60 * 1000;
export const BACKOFF_FACTOR_MAX = 10;

/** @throws SwarmError invalid_argument */
export function checkBackoff(policy: BackoffPolicy): BackoffPolicy {
  const { initialMs, factor, maxMs, jitter = 0 } = policy;
  const ok =
    Number.isInteger(initialMs) &&
    Number.isInteger(maxMs) &&
    initialMs >= 0 &&
    initialMs <= maxMs &&
    maxMs <= BACKOFF_MS_MAX &&
    factor >= 1 &&
    factor <= BACKOFF_FACTOR_MAX &&
    jitter >= 0 &&
    jitter <= 1;
  if (ok) return policy;
  throw new SwarmError("invalid_argument", "Not a back-off policy.", {
    hint: `Use 0 <= initialMs <= maxMs <= ${BACKOFF_MS_MAX}, a factor of 1 to ${BACKOFF_FACTOR_MAX} and a jitter of 0 to 1.`,
  });
}

/**
 * The wait after `attempt` failed attempts (1 or more), whole ms. `chance`, 0 <= chance < 1, is drawn outside so that plans
 * stay pure; it matters only to a policy with jitter.
 */
export function backoffDelay(policy: BackoffPolicy, attempt: number, chance = 0): number {
  const growth = Math.min(Number.MAX_VALUE, policy.factor ** Math.max(0, attempt - 1)); // finite, so that 0 stays 0
  const full = Math.min(policy.maxMs, policy.initialMs * growth);
  return Math.round(full * (1 - (policy.jitter ?? 0) * chance));
}
