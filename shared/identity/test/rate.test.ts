import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type Bucket, type Rate, takeRate } from "../src/index.ts";

const START = 1_750_000_000_000;

test("so many may come at once, and then one in each share of the time", () => {
  verifies("SEC-12");
  const rate: Rate = { max: 3, perMs: 60_000 };
  let bucket: Bucket | undefined;
  for (let i = 0; i < 3; i++) {
    const took = takeRate(bucket, START, rate);
    if (!took.taken) throw new Error(`refused at ${i}`);
    bucket = took.bucket;
  }
  expect(takeRate(bucket, START, rate)).toEqual({ taken: false, waitMs: 20_000 });
  expect(takeRate(bucket, START + 19_999, rate)).toEqual({ taken: false, waitMs: 1 });
  expect(takeRate(bucket, START + 20_000, rate)).toMatchObject({ taken: true });
});

test("a time that goes back brings nothing in and asks for the longer wait", () => {
  verifies("SEC-12");
  const rate: Rate = { max: 1, perMs: 1_000 };
  const took = takeRate(undefined, START, rate);
  if (!took.taken) throw new Error("refused");
  expect(takeRate(took.bucket, START - 500, rate)).toEqual({ taken: false, waitMs: 1_500 });
});

test("more than a whole bucket takes all of it", () => {
  const rate: Rate = { max: 10, perMs: 1_000 };
  expect(takeRate(undefined, START, rate, 1_000)).toEqual({ taken: true, bucket: { left: 0, at: START } });
});

test("whatever comes when: no stretch of time sees more than a burst and its share, and who waits as told is let in", () => {
  verifies("SEC-12");
  const rates = fc.record({ max: fc.integer({ min: 1, max: 20 }), perMs: fc.integer({ min: 1_000, max: 100_000 }) });
  fc.assert(
    fc.property(rates, fc.array(fc.nat(5_000), { minLength: 1, maxLength: 200 }), (rate, pauses) => {
      const taken: number[] = [];
      let bucket: Bucket | undefined;
      let now = START;
      for (const pause of pauses) {
        now += pause;
        const took = takeRate(bucket, now, rate);
        if (took.taken) {
          bucket = took.bucket;
          taken.push(now);
        } else {
          expect(took.waitMs).toBeGreaterThan(0);
          expect(takeRate(bucket, now + took.waitMs, rate).taken).toBe(true);
        }
      }
      for (const [first, from] of taken.entries()) {
        for (let last = first; last < taken.length; last++) {
          const share = ((taken[last] ?? 0) - from) * (rate.max / rate.perMs);
          expect(last - first + 1).toBeLessThanOrEqual(rate.max + share + 1e-3);
        }
      }
    }),
  );
});
