/** How often something may happen: a token bucket, so that a burst is fine and a flood is not. */

/** What is left in a bucket, and when that was so, in ms since the epoch. */
export type Bucket = { readonly left: number; readonly at: number };

/** `max` at once, and in the long run `max` in each `perMs`: after a burst one more comes in every `perMs / max`. In no `perMs` more than twice `max`. */
export interface Rate {
  readonly max: number;
  readonly perMs: number;
}

/** Taken: the bucket to keep. Not taken: how long until there is enough again, and nothing to keep. */
export type Take = { readonly taken: true; readonly bucket: Bucket } | { readonly taken: false; readonly waitMs: number };

/** What is missing by rounding alone: who waited as told is let in. */
const ROUNDING = 1e-6;

/**
 * Takes `cost` from the bucket; no bucket is a full one, and more than a whole bucket takes all of it. Time that went back, as it
 * may between processes, brings nothing in.
 */
export function takeRate(bucket: Bucket | undefined, now: number, { max, perMs }: Rate, cost = 1): Take {
  const at = Math.max(now, bucket?.at ?? 0);
  const left = bucket ? Math.min(max, bucket.left + ((at - bucket.at) * max) / perMs) : max;
  const price = Math.min(cost, max);
  if (left >= price - ROUNDING) return { taken: true, bucket: { left: Math.max(0, left - price), at } };
  return { taken: false, waitMs: Math.ceil(((price - left) * perMs) / max) + (at - now) };
}

/** Rates that one process keeps by itself, by its own clock: when that is set back, they fill from then on. */
export class OwnRates {
  readonly #rate: Rate;
  readonly #keptMax: number;
  /** Who → what is left, the least recent first. */
  readonly #buckets = new Map<string, Bucket>();

  /** One of more than `keptMax` is forgotten, and begins anew. */
  constructor(rate: Rate, keptMax: number) {
    this.#rate = rate;
    this.#keptMax = keptMax;
  }

  take(who: string, now: number): Take {
    const known = this.#buckets.get(who);
    const before = known && { left: known.left, at: Math.min(known.at, now) };
    const taken = takeRate(before, now, this.#rate);
    const after = taken.taken ? taken.bucket : before;
    this.#buckets.delete(who);
    if (after) this.#buckets.set(who, after);
    const oldest = this.#buckets.keys().next();
    if (this.#buckets.size > this.#keptMax && !oldest.done) this.#buckets.delete(oldest.value);
    return taken;
  }
}
