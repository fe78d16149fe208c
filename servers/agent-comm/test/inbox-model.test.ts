/** Random lives of one inbox against a model: nothing lost, nothing twice while it is in somebody's hands, order and counts. */
import { type ManualClock, manualClock } from "@mcp-swarm/core";
import { liveProcesses } from "@mcp-swarm/identity";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { countInbox, OUTCOMES } from "../src/inbox.ts";
import { type CommProcess, commOn } from "./support/comm.ts";
import { inboxProblems } from "./support/inbox-invariants.ts";
import { InboxModel } from "./support/inbox-model.ts";

const READER = "bob";
const SENDERS = ["alice", "carol"] as const;
const TYPES = ["note", "order"] as const;
const COUNT_MAX = 1_000;

/** One run: the inbox and its model, and the processes that are at work on it. */
interface Run {
  readonly store: MemoryStore;
  readonly clock: ManualClock;
  readonly model: InboxModel;
  readonly ids: string[];
  /** Two processes of each sender, so that order is not that of one process. */
  readonly senders: ReadonlyMap<string, CommProcess[]>;
  readonly readers: CommProcess[];
  processes: number;
}

async function begin(): Promise<Run> {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let processes = 0;
  const join = (agent: string, remote: boolean) => commOn(store, clock, agent, { process: ++processes, remote });
  const senders = new Map<string, CommProcess[]>();
  for (const sender of SENDERS) senders.set(sender, [await join(sender, true), await join(sender, true)]);
  const readers = [await join(READER, false), await join(READER, false)];
  return { store, clock, model: new InboxModel(clock.now()), ids: [], senders, readers, processes };
}

async function replaceReader(run: Run, at: number): Promise<void> {
  run.processes += 1;
  run.readers[at] = await commOn(run.store, run.clock, READER, { process: run.processes });
}

type Step = (run: Run) => Promise<void>;

const pick = <T>(items: readonly T[], at: number): T | undefined => items[at % Math.max(1, items.length)];

const send = fc
  .record({
    sender: fc.constantFrom(...SENDERS),
    process: fc.nat(1),
    type: fc.constantFrom(...TYPES),
    priority: fc.nat(9),
    ttlMs: fc.option(fc.integer({ min: 100_000, max: 2_000_000 }), { nil: undefined, freq: 4 }),
    delayMs: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 90_000 })),
    ackWithinMs: fc.option(fc.integer({ min: 1, max: 600_000 }), { nil: undefined }),
  })
  .map(
    ({ process, ...given }): Step =>
      async ({ senders, clock, model, ids }) => {
        const sender = pick(senders.get(given.sender) ?? [], process);
        if (!sender) throw new Error("No sender");
        const { type, delayMs, ttlMs, ...rest } = given;
        const sent = await sender.sending.send(sender.call, {
          ...rest,
          ttlMs: ttlMs === undefined ? undefined : ttlMs + delayMs,
          targetAgent: READER,
          messageType: type,
          payload: { n: ids.length },
          notBefore: delayMs === 0 ? undefined : clock.now() + delayMs,
        });
        const message = model.send(sent.id, { ...given, ttlMs: ttlMs === undefined ? undefined : ttlMs + delayMs });
        ids.push(sent.id);
        expect(sent).toMatchObject({ status: message.state, sentAt: message.sentAt, from: given.sender, hops: 0 });
      },
  );

interface Reading {
  readonly process: number;
  readonly limit: number;
  readonly type: string | undefined;
  readonly acknowledge: boolean;
}

async function readOnce({ readers, store, model }: Run, { process, limit, type, acknowledge }: Reading): Promise<void> {
  const reader = pick(readers, process);
  if (!reader) throw new Error("No reader");
  const living = await liveProcesses(store, READER);
  const { messages } = await reader.inbox.get(reader.call, { limit, acknowledge, ...(type ? { types: [type] } : {}) });
  const expected = model.read({ process: reader.caller.processId, alive: (id) => living.has(id) }, { limit, type, acknowledge });
  expect(messages.map(({ message, deliveries }) => [message.id, deliveries])).toEqual(
    expected.map(({ id, deliveries }) => [id, deliveries]),
  );
}

async function pass({ clock, model }: Run, ms: number): Promise<void> {
  await clock.advance(ms);
  model.now = clock.now();
}

const reading = fc.record({
  process: fc.nat(1),
  limit: fc.integer({ min: 1, max: 6 }),
  type: fc.option(fc.constantFrom(...TYPES), { nil: undefined, freq: 3 }),
  acknowledge: fc.boolean(),
});

const read = reading.map(
  (given): Step =>
    (run) =>
      readOnce(run, given),
);

/** Messages that are read again and again, and never acknowledged. */
const neglect = fc.record({ reading, times: fc.integer({ min: 1, max: 6 }), process: fc.nat(1) }).map(
  ({ reading, times, process }): Step =>
    async (run) => {
      for (let turn = 0; turn < times; turn++) {
        await readOnce(run, { ...reading, type: undefined, acknowledge: false, process: process + turn });
        await pass(run, Math.min(3_600_000, 300_000 * 2 ** turn));
      }
    },
);

const acknowledge = fc
  .record({
    process: fc.nat(1),
    message: fc.nat(),
    outcome: fc.constantFrom(...OUTCOMES),
    delayMs: fc.option(fc.integer({ min: 1, max: 100_000 }), { nil: undefined }),
  })
  .map(
    ({ process, message, outcome, delayMs }): Step =>
      async ({ readers, model, ids }) => {
        const reader = pick(readers, process);
        if (!reader) throw new Error("No reader");
        const id = pick(ids, message) ?? "msg-nobody";
        const delay = outcome === "later" ? delayMs : undefined;
        const { messages } = await reader.inbox.acknowledge(reader.call, { messageIds: [id], outcome, delayMs: delay });
        expect(messages).toEqual([{ id, ...model.acknowledge(id, outcome, delay) }]);
      },
  );

const redeliver = fc.record({ message: fc.nat(), bySender: fc.boolean() }).map(
  ({ message, bySender }): Step =>
    async ({ readers, senders, model, ids }) => {
      const id = pick(ids, message) ?? "msg-nobody";
      const sender = model.messages.find((one) => one.id === id)?.sender;
      const by = bySender && sender !== undefined ? senders.get(sender)?.[0] : readers[0];
      if (!by) throw new Error("Nobody");
      const { messages } = await by.deadLetters.redeliver(by.call, { messageIds: [id] });
      expect(messages).toEqual([{ id, ...model.redeliver(id) }]);
    },
);

const wait = fc
  .oneof(
    fc.integer({ min: 0, max: 5 }),
    fc.integer({ min: 1_000, max: 20_000 }),
    fc.constantFrom(29_999, 30_000, 60_000, 299_999, 300_000, 300_001, 600_000),
  )
  .map(
    (ms): Step =>
      (run) =>
        pass(run, ms),
  );

/** A killed process says nothing; its presence ends with its lease. */
const crash = fc.nat(1).map(
  (process): Step =>
    async (run) => {
      run.readers[process]?.die();
      await replaceReader(run, process);
    },
);

const stop = fc.nat(1).map(
  (process): Step =>
    async (run) => {
      const reader = run.readers[process];
      if (!reader) throw new Error("No reader");
      await reader.inbox.close();
      await reader.presence.leave();
      run.model.stop(reader.caller.processId ?? "");
      await replaceReader(run, process);
    },
);

async function agree({ store, model, readers, senders }: Run): Promise<void> {
  const [reader] = readers;
  if (!reader) throw new Error("No reader");
  expect(await inboxProblems(store)).toEqual([]);
  const counts = await countInbox(store, READER, COUNT_MAX);
  expect([counts.ready.count, counts.due.count, counts.dead.count]).toEqual([
    model.inState("ready").length,
    model.inState("delayed", "in_flight").length,
    model.inState("dead").length,
  ]);
  const ids = (messages: readonly { readonly id: string }[]) => messages.map(({ id }) => id).sort();
  const dead = await reader.deadLetters.list(reader.call, { limit: 200 });
  expect(ids(dead.deadLetters.map(({ message }) => message))).toEqual(ids(model.inState("dead")));
  const overdue = await reader.overdue.list(reader.call, { limit: 200 });
  expect(ids(overdue.messages.map(({ message }) => message))).toEqual(ids(model.overdue()));
  for (const [name, [sender]] of senders) {
    if (!sender) throw new Error("No sender");
    const theirs = (messages: readonly { readonly id: string; readonly sender: string }[]) =>
      ids(messages.filter((message) => message.sender === name));
    const sent = await sender.deadLetters.list(sender.call, { sent: true, limit: 200 });
    expect(ids(sent.deadLetters.map(({ message }) => message))).toEqual(theirs(model.inState("dead")));
    const awaited = await sender.overdue.list(sender.call, { limit: 200 });
    expect(ids(awaited.messages.map(({ message }) => message))).toEqual(theirs(model.overdue()));
  }
}

const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: send },
    { weight: 6, arbitrary: read },
    { weight: 5, arbitrary: acknowledge },
    { weight: 2, arbitrary: redeliver },
    { weight: 2, arbitrary: neglect },
    { weight: 4, arbitrary: wait },
    { weight: 1, arbitrary: crash },
    { weight: 1, arbitrary: stop },
  ),
  { maxLength: 60, size: "max" },
);

test("an inbox does what a plain list of messages would, whatever its senders and readers do and whoever of them dies", async () => {
  verifies("COMM-05", "COMM-06", "COMM-12", "COMM-13", "COMM-14");
  await fc.assert(
    fc.asyncProperty(steps, async (program) => {
      const run = await begin();
      for (const step of program) {
        await step(run);
        await agree(run);
      }
      // at the end all that is open comes to a reader that stays: nothing was lost
      const [reader] = run.readers;
      if (!reader) throw new Error("No reader");
      const open = run.model
        .inState("ready", "delayed", "in_flight")
        .filter(({ expiresAt }) => expiresAt === Number.POSITIVE_INFINITY);
      await run.clock.advance(3_700_000);
      const got = new Set<string>();
      for (const { message } of await reader.readAll()) got.add(message.id);
      for (const { deadLetters } of [await reader.deadLetters.list(reader.call, { limit: 200 })]) {
        for (const { message } of deadLetters) got.add(message.id);
      }
      expect(open.filter(({ id }) => !got.has(id))).toEqual([]);
      expect(await inboxProblems(run.store)).toEqual([]);
    }),
    { numRuns: 60 },
  );
}, 120_000);
