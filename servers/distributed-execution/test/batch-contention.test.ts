/** The end of a whole batch at once, while workers of other processes are busy with it: one commit of thousands of rows among many small ones. */
import { SequenceSource } from "@mcp-swarm/coordination";
import { systemClock, systemRandom } from "@mcp-swarm/core";
import { openStore } from "@mcp-swarm/store";
import { expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { BATCH_TASKS_MAX } from "../src/batch-plan.ts";
import { Batches } from "../src/batches.ts";
import { hasEnded } from "../src/execution-record.ts";
import { executionCensus } from "./support/execution-census.ts";
import { hostOn, type QueueHost } from "./support/queue-swarm.ts";

const WORKERS = 3;
/** One that waits for all others: each of them has a dependent to be told. */
const LAST = "last";

const members = (codeOf: (at: number) => string) => [
  ...Array.from({ length: BATCH_TASKS_MAX - 1 }, (_, at) => ({ key: `k${at}`, code: codeOf(at) })),
  { key: LAST, code: "1", dependencies: Array.from({ length: BATCH_TASKS_MAX - 1 }, (_, at) => `k${at}`) },
];

test.each(ENGINES)("a batch of as many tasks as there may be ends in one commit among busy workers, on $name", async (engine) => {
  verifies("EXEC-11");
  using meeting = await engine.meet();
  const stores = await Promise.all(Array.from({ length: WORKERS }, () => openStore(meeting.store)));
  const hosts = stores.map((store, at) => hostOn(store, `w${at}`, { clock: systemClock, seed: 500 + at }));
  try {
    const [first] = hosts;
    if (!first) throw new Error("There are no hosts");
    const sequence = new SequenceSource(systemRandom);
    const batches = new Batches({ clock: systemClock, random: systemRandom, context: first.context, sequence });
    const submit = (more: { stopOnFailure?: boolean }) =>
      batches.submit(first.call, { tasks: members(() => "1"), defaults: { environment: "javascript" }, ...more });
    let busy = true;
    let fails = false;
    let taken = 0;
    const serve = async (host: QueueHost) => {
      while (busy) {
        const run = await host.take();
        if (!run) {
          await new Promise((done) => setTimeout(done, 5));
          continue;
        }
        taken += 1;
        const code = fails && taken > 20 ? 1 : 0;
        await host.finish(run, run.signal.aborted ? { ending: { kind: "killed" } } : { ending: { kind: "exit", code } });
      }
    };
    const [called, stopped] = [await submit({}), await submit({ stopOnFailure: true })];
    const serving = hosts.map(serve);
    const { open } = await batches.cancel(first.call, { batchId: called.id });
    fails = true; // and the next ends the other batch
    for (const { id } of [called, stopped]) {
      const { compiled } = await batches.get(first.call, { batchId: id, waitMs: 50_000 });
      expect(compiled.ended).toBe(true);
    }
    busy = false;
    await Promise.all(serving);
    expect(open).toBeGreaterThan(0);
    for (const { errors } of hosts) expect(errors).toEqual([]);
    const { records, problems } = await executionCensus(first.store);
    expect(problems).toEqual([]);
    expect([...records.values()].filter(({ status }) => !hasEnded(status))).toEqual([]);
    for (const { id } of [called, stopped]) {
      const of = [...records.values()].filter(({ batchId }) => batchId === id).map(({ status }) => status);
      expect(of.filter((status) => status === "cancelled").length).toBeGreaterThan(BATCH_TASKS_MAX / 2);
    }
  } finally {
    for (const store of stores) await store.close();
  }
});
