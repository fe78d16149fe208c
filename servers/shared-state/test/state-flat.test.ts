/** No operation on values touches more entries because there are more of them. SWARM_TEST_LONG=1 makes it a million. */
import { manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { counted } from "../../../test/support/counted-store.ts";
import { LOG_REVISIONS_MAX } from "../src/state-record.ts";
import { hostOn } from "./support/state.ts";

const FEW = 400;
const MANY = process.env.SWARM_TEST_LONG ? 1_000_000 : 20_000;
const BATCH = 100;
const AGE_BATCH = 500;

/** How many entries each operation touches in a space with so many keys, a tenth of which were deleted, and so many revisions. */
async function costs(count: number, revisions: number): Promise<Record<string, number>> {
  const clock = manualClock();
  const { store, touched } = counted(new MemoryStore({ clock }));
  const { values, changes, call, maintain } = hostOn(store, clock, "a");
  const key = (at: number) => `area-${at % 10}/part-${at % 7}/k${String(at).padStart(7, "0")}`;
  for (let from = 0; from < count; from += BATCH) {
    await values.transact(call, { writes: Array.from({ length: BATCH }, (_, at) => ({ key: key(from + at), value: { at } })) });
    const deleted = Array.from({ length: BATCH / 10 }, (_, at) => ({ key: key(from + at * 10 + 9), delete: true as const }));
    await values.transact(call, { writes: deleted });
  }
  for (let from = 0; from < revisions; from += AGE_BATCH) {
    for (let at = 0; at < AGE_BATCH; at++) await values.patch(call, { key: "counter", increment: 1 });
  }
  const cost: Record<string, number> = {};
  const measure = async (name: string, work: () => Promise<unknown>) => {
    const before = touched();
    await work();
    cost[name] = touched() - before;
  };
  const { revision } = await values.list(call, { prefix: "none" });
  await measure("get", () => values.get(call, { key: key(11) }));
  await measure("get as of a revision", () => values.get(call, { key: "counter", atRev: revision - 10 }));
  await measure("set", () => values.set(call, { key: "new", value: 1 }));
  await measure("set again", () => values.set(call, { key: "counter", value: 1, ttlMs: 1_000 }));
  await measure("patch", () => values.patch(call, { key: key(11), mergePatch: { b: 1 } }));
  await measure("delete", () => values.delete(call, { key: key(12) }));
  await measure("restore", () => values.restore(call, { key: key(12), rev: revision }));
  await measure("transact", () =>
    values.transact(call, {
      writes: [
        { key: "x", value: 1 },
        { key: key(11), delete: true },
      ],
    }),
  );
  await measure("list", () => values.list(call, { prefix: "area-3/part-2/", limit: 3 }));
  await measure("list everything", () => values.list(call, { limit: 20 }));
  await measure("history", () => values.history(call, { key: "counter" }));
  await measure("changes", () => changes.wait(call, { sinceRev: revision }));
  await clock.advance(1_000);
  await measure("maintain", () => maintain());
  return cost;
}

test("no operation touches more entries because there are more keys, deleted ones, or revisions", {
  timeout: 600_000,
}, async () => {
  verifies("STATE-15", "STATE-05");
  const few = await costs(FEW, AGE_BATCH);
  const many = await costs(MANY, LOG_REVISIONS_MAX + AGE_BATCH);
  // behind its window the log loses a row for each that it gains, and that is all that is different
  for (const name of ["set", "set again", "patch", "delete", "restore", "transact", "maintain"]) few[name] = (few[name] ?? 0) + 1;
  expect(many).toEqual(few);
  expect(Math.max(...Object.values(many))).toBeLessThan(80);
});
