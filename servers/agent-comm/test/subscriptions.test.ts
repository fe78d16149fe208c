import { manualClock } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { prefixRange } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  dropSubscriptions,
  SUBSCRIPTION_MS,
  SUBSCRIPTIONS_MAX,
  TOPIC_IDLE_MS,
  TOPIC_MESSAGES_MAX,
  TOPICS_MAX,
} from "../src/topic-layer.ts";
import { forgetIdleTopics } from "../src/topics.ts";
import { type CommProcess, commOn } from "./support/comm.ts";
import { Crashed, crashing } from "./support/crashing.ts";

const code = (expected: string, message?: RegExp) =>
  expect.objectContaining({ code: expected, ...(message ? { message: expect.stringMatching(message) } : {}) });

const DAY_MS = 24 * 3_600_000;

function swarm() {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  let processes = 0;
  return { clock, store, process: (agentId: string) => commOn(store, clock, agentId, { process: ++processes }) };
}

interface Publish {
  keep?: boolean;
  messageType?: string;
  payload?: number;
  priority?: number;
  ttlMs?: number;
}

async function publish(by: CommProcess, topic: string, { messageType = "news", payload = 0, ...rest }: Publish = {}) {
  const { published } = await by.broadcasts.send(by.call, { scope: "topic", name: topic, messageType, payload, ...rest });
  return published;
}

const payloads = async (reader: CommProcess) => (await reader.readAll()).map(({ message }) => message.payload);

describe("a subscription", () => {
  test("brings what is published from then on, to whoever subscribed, in order and once", async () => {
    verifies("COMM-04", "COMM-07");
    const { process } = swarm();
    const [ann, bob, cat] = [await process("ann"), await process("bob"), await process("cat")];
    await publish(ann, "build", { payload: 1 });
    await bob.subscriptions.subscribe(bob.call, { topics: ["build"] });
    for (const payload of [2, 3, 4]) await publish(ann, "build", { payload });
    await publish(ann, "other", { payload: 5 });
    expect(await payloads(bob)).toEqual([2, 3, 4]);
    expect(await payloads(bob)).toEqual([]);
    expect(await payloads(cat)).toEqual([]);
  });

  test("publishing costs the same however many have subscribed", async () => {
    verifies("COMM-07");
    const { process, store } = swarm();
    const ann = await process("ann");
    const rows = async () => {
      let count = 0;
      await store.snapshot(async (view) => {
        for (const namespace of await view.namespaces()) count += (await view.scan(prefixRange(`${namespace}/`, 1_000))).length;
      });
      return count;
    };
    await publish(ann, "build");
    const before = await rows();
    await publish(ann, "build");
    const alone = (await rows()) - before;
    for (let n = 0; n < 30; n++) {
      const reader = await process(`reader-${n}`);
      await reader.subscriptions.subscribe(reader.call, { topics: ["build"] });
    }
    const crowded = await rows();
    await publish(ann, "build");
    expect((await rows()) - crowded).toBe(alone);
  });

  test("is counted for the publisher when it takes what is published: each agent once, the publisher itself not", async () => {
    verifies("COMM-04");
    const { process } = swarm();
    const [ann, bob, cat, dan] = [await process("ann"), await process("bob"), await process("cat"), await process("dan")];
    const published = async (topic: string, messageType = "news") => {
      const { delivered, failed } = await ann.broadcasts.send(ann.call, { scope: "topic", name: topic, messageType, payload: 0 });
      expect(failed).toBe(0);
      return delivered;
    };
    expect(await published("build.linux")).toBe(0);
    await ann.subscriptions.subscribe(ann.call, { topics: ["build.linux"] });
    await bob.subscriptions.subscribe(bob.call, { topics: ["build.*"] });
    await bob.subscriptions.subscribe(bob.call, { topics: ["build.linux"] });
    await cat.subscriptions.subscribe(cat.call, { topics: ["build.linux"], types: ["alarm"] });
    await dan.subscriptions.subscribe(dan.call, { topics: ["build.linux"], from: "bob" });
    expect(await published("build.linux")).toBe(1);
    expect(await published("build.linux", "alarm")).toBe(2);
    expect(await published("other")).toBe(0);
    expect(await payloads(bob)).toHaveLength(2);
    expect(await payloads(cat)).toHaveLength(1);
    expect(await payloads(dan)).toEqual([]);
  });

  test("outlives its agent's processes: another goes on where the last one was", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const ann = await process("ann");
    const before = await process("bob");
    await before.subscriptions.subscribe(before.call, { topics: ["build"] });
    await publish(ann, "build", { payload: 1 });
    expect(await payloads(before)).toEqual([1]);
    before.die();
    await publish(ann, "build", { payload: 2 });
    const after = await process("bob");
    expect(await payloads(after)).toEqual([2]);
  });

  test("who comes later gets what the topic keeps, from the start or from a time, and nothing else", async () => {
    verifies("COMM-04", "COMM-07");
    const { process, clock } = swarm();
    const ann = await process("ann");
    await publish(ann, "build", { payload: 1 });
    const times: number[] = [];
    for (const payload of [2, 3, 4, 5]) {
      await clock.advance(1_000);
      times.push(clock.now());
      await publish(ann, "build", { payload, ...(payload === 2 ? { keep: true } : {}) });
    }
    await clock.advance(1_000);
    await publish(ann, "build", { payload: 6, keep: false });
    const readers = [];
    for (const replayFrom of ["now", "start", times[2] ?? 0, clock.now() + 1] as const) {
      const reader = await process(`from-${replayFrom}`);
      await reader.subscriptions.subscribe(reader.call, { topics: ["build"], replayFrom });
      readers.push(reader);
    }
    await publish(ann, "build", { payload: 7 });
    const got = [];
    for (const reader of readers) got.push(await payloads(reader));
    expect(got).toEqual([[7], [2, 3, 4, 5, 7], [4, 5, 7], [7]]);
  });

  test("takes only types, a sender or senders' capabilities that it names, and never the agent's own", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob, cat] = [await process("ann"), await process("bob"), await process("cat")];
    await ann.agents.register(ann.call, { agentType: "coder", capabilities: ["ts"] });
    const filters = [{ types: ["news"] }, { from: "bob" }, { senderCapability: "ts" }, { types: ["news"], from: "ann" }, {}];
    const readers = [];
    for (const [at, filter] of filters.entries()) {
      const reader = await process(`reader-${at}`);
      await reader.subscriptions.subscribe(reader.call, { topics: ["build"], ...filter });
      readers.push(reader);
    }
    await ann.subscriptions.subscribe(ann.call, { topics: ["build"] });
    await publish(ann, "build", { payload: 1 });
    await publish(ann, "build", { payload: 2, messageType: "chat" });
    await publish(bob, "build", { payload: 3 });
    // what the sender could do counts when it published
    await ann.agents.register(ann.call, { agentType: "coder", capabilities: ["go"] });
    await cat.agents.register(cat.call, { agentType: "coder", capabilities: ["ts"] });
    await publish(ann, "build", { payload: 4, messageType: "chat" });
    await publish(cat, "build", { payload: 5, messageType: "chat" });
    const got = [];
    for (const reader of readers) got.push(await payloads(reader));
    expect(got).toEqual([[1, 3], [3], [1, 2, 5], [1], [1, 2, 3, 4, 5]]);
    expect(await payloads(ann)).toEqual([3, 5]);
  });

  test("to a beginning of names takes in topics that come later, from their beginning", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await publish(ann, "build.web", { payload: 1 });
    await bob.subscriptions.subscribe(bob.call, { topics: ["build.*", "exact"] });
    await publish(ann, "build.web", { payload: 2 });
    await publish(ann, "build.api", { payload: 3 });
    await publish(ann, "builder", { payload: 4 });
    await publish(ann, "exact", { payload: 5 });
    await publish(ann, "exactly", { payload: 6 });
    expect(await payloads(bob)).toEqual([2, 3, 5]);
  });

  test("two that want the same message bring it once", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await bob.subscriptions.subscribe(bob.call, { topics: ["build"] });
    await bob.subscriptions.subscribe(bob.call, { topics: ["*"], types: ["news"] });
    await publish(ann, "build", { payload: 1 });
    expect(await payloads(bob)).toEqual([1]);
    const { subscriptions } = await bob.subscriptions.list(bob.call);
    expect(subscriptions.map(({ received }) => received).sort()).toEqual([0, 1]);
  });

  test("made again is the one there is; set back, it brings what was not got before", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    for (const payload of [1, 2]) await publish(ann, "build", { payload, keep: true });
    const wanted = { topics: ["build", "test"], types: ["news", "chat"] };
    const { subscription } = await bob.subscriptions.subscribe(bob.call, wanted);
    await publish(ann, "build", { payload: 3 });
    expect(await payloads(bob)).toEqual([3]);
    const again = await bob.subscriptions.subscribe(bob.call, { topics: ["test", "build"], types: ["chat", "news"] });
    expect(again.subscription.id).toBe(subscription.id);
    await publish(ann, "build", { payload: 4 });
    expect(await payloads(bob)).toEqual([4]);
    await bob.subscriptions.subscribe(bob.call, { ...wanted, replayFrom: "start" });
    expect(await payloads(bob)).toEqual([1, 2]);
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toMatchObject([
      { id: subscription.id, behind: 0, received: 4 },
    ]);
  });

  test("ends when it is ended; what it brought is still in the inbox", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const { subscription } = await bob.subscriptions.subscribe(bob.call, { topics: ["build"] });
    await publish(ann, "build", { payload: 1 });
    await bob.subscriptions.pull(bob.call.store, "bob");
    const ended = { subscriptionId: subscription.id };
    await expect(ann.subscriptions.unsubscribe(ann.call, { ...ended, agentId: "bob" })).rejects.toEqual(code("not_found"));
    await expect(ann.subscriptions.unsubscribe(ann.call, { ...ended, agentId: "bob/x" })).rejects.toEqual(
      code("permission_denied"),
    );
    await bob.subscriptions.unsubscribe(bob.call, ended);
    await publish(ann, "build", { payload: 2 });
    expect(await payloads(bob)).toEqual([1]);
    await expect(bob.subscriptions.unsubscribe(bob.call, ended)).rejects.toEqual(code("not_found", /bob/));
  });

  test("is read by one process at a time: what another took, or ended, between a look and its commit, stays so", async () => {
    verifies("COMM-07");
    const { process, store } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const { subscription } = await bob.subscriptions.subscribe(bob.call, { topics: ["build"] });
    const meanwhile = (first: () => Promise<unknown>): Store => {
      let done = false;
      return new Proxy(store, {
        get(target, name) {
          const member: unknown = Reflect.get(target, name, target);
          if (typeof member !== "function") return member;
          if (name !== "transact" || done) return member.bind(target);
          return async (plan: Parameters<Store["transact"]>[0]) => {
            done = true;
            await first();
            return target.transact(plan);
          };
        },
      });
    };
    await publish(ann, "build", { payload: 1 });
    await bob.subscriptions.pull(
      meanwhile(async () => {
        await bob.subscriptions.pull(store, "bob");
        await publish(ann, "build", { payload: 2 });
        await bob.subscriptions.pull(store, "bob");
      }),
      "bob",
    );
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toMatchObject([{ received: 2, missed: 0, behind: 0 }]);
    await publish(ann, "build", { payload: 3 });
    const end = () => bob.subscriptions.unsubscribe(bob.call, { subscriptionId: subscription.id });
    await bob.subscriptions.pull(meanwhile(end), "bob");
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toEqual([]);
    expect(await payloads(bob)).toEqual([1, 2]);
  });

  test("that nobody reads for a month ends; one that is read goes on", async () => {
    verifies("COMM-07");
    const { process, clock } = swarm();
    const [bob, cat] = [await process("bob"), await process("cat")];
    for (const reader of [bob, cat]) {
      await reader.subscriptions.subscribe(reader.call, { topics: ["build"] });
      reader.die(); // a month of renewals of presence is not what this is about
    }
    for (let day = 0; day < SUBSCRIPTION_MS / DAY_MS; day += 10) {
      await clock.advance(10 * DAY_MS);
      await cat.readAll();
    }
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toHaveLength(0);
    expect((await cat.subscriptions.list(cat.call)).subscriptions).toHaveLength(1);
  });

  test("is refused beyond what an agent may have, and goes when its agent is forgotten", async () => {
    const { process, store } = swarm();
    const bob = await process("bob");
    for (let n = 0; n < SUBSCRIPTIONS_MAX; n++) await bob.subscriptions.subscribe(bob.call, { topics: [`t${n}`] });
    await expect(bob.subscriptions.subscribe(bob.call, { topics: ["more"] })).rejects.toEqual(code("limit_exceeded"));
    await bob.subscriptions.subscribe(bob.call, { topics: ["t7"] });
    await store.transact((tx) => dropSubscriptions(tx, "bob"));
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toEqual([]);
  });

  test("a backlog longer than one transaction takes comes whole and in order", async () => {
    verifies("COMM-07");
    const { process } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await bob.subscriptions.subscribe(bob.call, { topics: ["a", "b"], types: ["news"] });
    const expected: { [topic: string]: number[] } = { a: [], b: [] };
    for (let n = 0; n < 1_500; n++) {
      const topic = n % 3 === 0 ? "a" : "b";
      const wanted = n % 7 !== 0;
      if (wanted) expected[topic]?.push(n);
      await publish(ann, topic, { payload: n, messageType: wanted ? "news" : "noise" });
    }
    const got = await bob.readAll();
    for (const topic of ["a", "b"]) {
      expect(got.flatMap(({ message }) => (message.audience.name === topic ? [message.payload] : []))).toEqual(expected[topic]);
    }
  });

  test("whose cursor fell behind what a topic keeps skips to its start, and says how many were missed", async () => {
    verifies("COMM-07");
    const { process, store, clock } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await bob.subscriptions.subscribe(bob.call, { topics: ["a"] });
    await publish(ann, "a", { payload: 1, ttlMs: 1_000 });
    await publish(ann, "a", { payload: 2 });
    await clock.advance(2_000);
    expect(await payloads(bob)).toEqual([2]);
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toMatchObject([{ missed: 1, behind: 0 }]);
    // as if many more had been published: the log keeps a window
    await store.transact((tx) => {
      const topic = tx.get("topic/a")?.value as object;
      tx.put("topic/a", { ...topic, last: TOPIC_MESSAGES_MAX + 1 });
    });
    await publish(ann, "a", { payload: 3 });
    expect(await store.get(`topic-log/a/${String(2).padStart(16, "0")}`)).toBeUndefined();
    expect(await payloads(bob)).toEqual([3]);
    expect((await bob.subscriptions.list(bob.call)).subscriptions).toMatchObject([{ missed: TOPIC_MESSAGES_MAX, behind: 0 }]);
  });
});

describe("topics", () => {
  test("are listed by page, are bounded, and one that is idle is forgotten and may begin anew", async () => {
    verifies("COMM-07");
    const { process, store, clock } = swarm();
    const [ann, bob] = [await process("ann"), await process("bob")];
    await bob.subscriptions.subscribe(bob.call, { topics: ["t1"] });
    for (let n = 0; n < 5; n++) for (const topic of ["t1", "t2", "u1"]) await publish(ann, topic, { payload: n });
    const first = await ann.topics.list(ann.call, { prefix: "t", limit: 1 });
    expect(first.topics).toMatchObject([{ name: "t1", messages: 5, keep: false }]);
    const second = await ann.topics.list(ann.call, {
      prefix: "t",
      limit: 1,
      ...(first.nextCursor ? { cursor: first.nextCursor } : {}),
    });
    expect(second).toMatchObject({ topics: [{ name: "t2" }] });
    expect(second).not.toHaveProperty("nextCursor");
    await expect(ann.topics.list(ann.call, { prefix: "u", cursor: first.nextCursor ?? "" })).rejects.toEqual(
      code("invalid_argument"),
    );
    expect(await payloads(bob)).toEqual([0, 1, 2, 3, 4]);

    // time for messages to be forgotten, but not for the subscription to end
    for (const one of [ann, bob]) one.die();
    for (let n = 0; n < 3; n++) {
      await clock.advance(TOPIC_IDLE_MS / 3 + 1_000);
      await bob.readAll();
    }
    await publish(ann, "u1");
    await forgetIdleTopics(store);
    expect((await ann.topics.list(ann.call)).topics.map(({ name }) => name)).toEqual(["u1"]);
    await publish(ann, "t1", { payload: 9 });
    expect((await ann.topics.list(ann.call, { prefix: "t" })).topics).toMatchObject([{ name: "t1", messages: 1 }]);
    expect(await payloads(bob)).toEqual([9]);

    await store.transact((tx) => tx.put("topic-directory/state", { created: TOPICS_MAX + 3, count: TOPICS_MAX }));
    await expect(publish(ann, "one-more")).rejects.toEqual(code("limit_exceeded", /topics/));
    await publish(ann, "t1");
  });
});

/** Rounds of the random program below, and its words. */
const TOPICS = ["t.a", "t.b", "u"];
const PATTERNS = [...TOPICS, "t.*", "*"];
const TYPES = ["x", "y"];
const AGENTS = ["ann", "bob"];

type Step =
  | { do: "publish"; by: string; topic: string; type: string; keep: boolean | undefined }
  | { do: "subscribe"; by: string; topics: string[]; types: string[]; replay: "now" | "start" }
  | { do: "unsubscribe"; by: string; which: number }
  | { do: "read"; by: string }
  | { do: "two read"; by: string }
  | { do: "crash"; by: string; commits: number; when: "before" | "after" };

const agent = fc.constantFrom(...AGENTS);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("publish" as const),
      by: agent,
      topic: fc.constantFrom(...TOPICS),
      type: fc.constantFrom(...TYPES),
      keep: fc.constantFrom(undefined, undefined, undefined, true, false),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("subscribe" as const),
      by: agent,
      topics: fc.subarray(PATTERNS, { minLength: 1, maxLength: 2 }),
      types: fc.subarray(TYPES),
      replay: fc.constantFrom("now" as const, "start" as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("unsubscribe" as const), by: agent, which: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom("read" as const, "two read" as const), by: agent }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("crash" as const),
      by: agent,
      commits: fc.nat(1),
      when: fc.constantFrom("before" as const, "after" as const),
    }),
  },
);

interface Row {
  topic: string;
  number: number;
  payload: number;
  by: string;
  type: string;
  keep: boolean;
}

/** What subscriptions bring, said as simply as can be: a log, and for each subscription what was there when it began. */
class Model {
  readonly log: Row[] = [];
  readonly keeps = new Map<string, boolean>();
  readonly subscriptions: { by: string; topics: string[]; types: string[]; since: number; replay: boolean; seen: number }[] = [];
  readonly got = new Map(AGENTS.map((name) => [name, new Set<number>()]));

  publish({ by, topic, type, keep }: Extract<Step, { do: "publish" }>): number {
    if (keep !== undefined) this.keeps.set(topic, keep);
    const number = this.log.filter((row) => row.topic === topic).length + 1;
    const row = { topic, number, payload: this.log.length, by, type, keep: this.keeps.get(topic) ?? false };
    this.log.push(row);
    return row.payload;
  }

  subscribe({ by, topics, types, replay }: Extract<Step, { do: "subscribe" }>): void {
    const same = this.subscriptions.find(
      (one) =>
        one.by === by && String(one.topics) === String([...topics].sort()) && String(one.types) === String([...types].sort()),
    );
    if (same && replay === "now") return;
    const begun = { since: this.log.length, seen: replay === "now" ? this.log.length : 0, replay: replay === "start" };
    if (same) Object.assign(same, begun);
    else this.subscriptions.push({ by, topics: [...topics].sort(), types: [...types].sort(), ...begun });
  }

  /** Payloads that an agent is to read now. */
  read(by: string): number[] {
    const fresh = new Set<number>();
    for (const one of this.subscriptions.filter((subscription) => subscription.by === by)) {
      for (const row of this.log.slice(one.seen)) {
        const matches = one.topics.some((p) => (p.endsWith("*") ? row.topic.startsWith(p.slice(0, -1)) : p === row.topic));
        const wanted = matches && row.by !== by && (one.types.length === 0 || one.types.includes(row.type));
        if (wanted && (row.keep || row.payload >= one.since) && !this.got.get(by)?.has(row.payload)) fresh.add(row.payload);
      }
      one.seen = this.log.length;
    }
    for (const payload of fresh) this.got.get(by)?.add(payload);
    return [...fresh].sort((a, b) => a - b);
  }
}

test("whatever is published, subscribed, read and crashed, each agent gets exactly what its subscriptions want, in order", async () => {
  verifies("COMM-07");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
      const { process, store } = swarm();
      const processes = new Map<string, CommProcess>();
      for (const name of AGENTS) processes.set(name, await process(name));
      const of = (name: string) => processes.get(name) ?? expect.unreachable();
      const model = new Model();
      /** In the inbox by way of a pull, and not read: an end of the subscription does not take it away. */
      const taken = new Map(AGENTS.map((name) => [name, [] as number[]]));
      const pull = async (name: string, through: Store) => {
        await of(name).subscriptions.pull(through, name);
      };
      for (const one of [...steps, ...AGENTS.map((by): Step => ({ do: "read", by }))]) {
        const me = of(one.by);
        if (one.do === "publish") {
          const payload = model.publish(one);
          await publish(me, one.topic, { payload, messageType: one.type, ...(one.keep === undefined ? {} : { keep: one.keep }) });
        } else if (one.do === "subscribe") {
          // what the agent wants so far is settled first, so that the model need not know when a cursor is set back
          await pull(one.by, store);
          taken.get(one.by)?.push(...model.read(one.by));
          model.subscribe(one);
          await me.subscriptions.subscribe(me.call, { topics: one.topics, types: one.types, replayFrom: one.replay });
        } else if (one.do === "unsubscribe") {
          await pull(one.by, store);
          taken.get(one.by)?.push(...model.read(one.by));
          const mine = model.subscriptions.filter(({ by }) => by === one.by);
          const ends = mine[one.which];
          if (!ends) continue;
          const { subscriptions } = await me.subscriptions.list(me.call);
          const found = subscriptions.find(
            ({ topics, types = [] }) => String(topics) === String(ends.topics) && String(types) === String(ends.types),
          );
          await me.subscriptions.unsubscribe(me.call, { subscriptionId: found?.id ?? "" });
          model.subscriptions.splice(model.subscriptions.indexOf(ends), 1);
        } else if (one.do === "crash") {
          await pull(one.by, crashing(store, one.commits, one.when)).catch((error: unknown) => {
            if (!(error instanceof Crashed)) throw error;
          });
        } else {
          if (one.do === "two read") await Promise.all([pull(one.by, store), pull(one.by, store)]);
          const expected = [...(taken.get(one.by) ?? []), ...model.read(one.by)].sort((a, b) => a - b);
          taken.set(one.by, []);
          expect(await payloads(me)).toEqual(expected);
        }
      }
    }),
    { numRuns: 150 },
  );
});
