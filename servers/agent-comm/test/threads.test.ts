import { LOOKED_AT_MAX, type MessageRecord } from "@mcp-swarm/coordination/messages";
import { type Json, manualClock } from "@mcp-swarm/core";
import { openStore, type Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { MessageSearch, type SearchMessages } from "../src/message-search.ts";
import { type MessagePage, Threads } from "../src/threads.ts";
import { type CommProcess, commOn } from "./support/comm.ts";

const threads = new Threads();
const search = new MessageSearch();
const PAGES_MAX = 1_000;

function swarm(store: Store = new MemoryStore({ clock: manualClock() }), clock = manualClock()) {
  let processes = 0;
  return { clock, store, process: (agentId: string) => commOn(store, clock, agentId, { process: ++processes }) };
}

/** A swarm of the clock's own time. */
function timed() {
  const clock = manualClock();
  return swarm(new MemoryStore({ clock }), clock);
}

async function say(from: CommProcess, to: string, payload: Json, more: object = {}): Promise<string> {
  const { id } = await from.sending.send(from.call, {
    ...{ targetAgent: to, messageType: "status_update", payload, mailbox: true },
    ...more,
  });
  return id;
}

const ids = ({ messages }: MessagePage) => messages.map(({ id }) => id);

function find({ call }: CommProcess, text: string, more: Partial<SearchMessages> = {}): Promise<MessagePage> {
  return search.find(call, { text, limit: 25, ...more });
}

function read({ call }: CommProcess, correlationId: string, more: object = {}): Promise<MessagePage> {
  return threads.read(call, { correlationId, limit: 25, ...more });
}

/** All pages. */
async function all(page: (cursor: string | undefined) => Promise<MessagePage>): Promise<MessageRecord[]> {
  const found: MessageRecord[] = [];
  let cursor: string | undefined;
  for (let pages = 0; pages < PAGES_MAX; pages++) {
    const { messages, nextCursor } = await page(cursor);
    found.push(...messages);
    if (nextCursor === undefined) return found;
    cursor = nextCursor;
  }
  throw new Error("the pages have no end");
}

describe("a message to one agent", () => {
  test("is found by its sender and its receiver, by nobody else, whether it was read or not", async () => {
    verifies("COMM-09");
    const { process } = timed();
    const [ann, bob, cat] = [await process("ann"), await process("bob"), await process("cat")];
    const id = await say(ann, "bob", { note: "The build fails in parser.ts" });
    for (const turn of ["unread", "read"]) {
      for (const reader of [ann, bob]) {
        expect(ids(await find(reader, "build parser")), turn).toEqual([id]);
        expect(ids(await read(reader, id)), turn).toEqual([id]);
      }
      expect(await find(cat, "build parser")).toEqual({ messages: [] });
      expect(await read(cat, id)).toEqual({ messages: [] });
      await bob.readAll();
    }
    expect(ids(await find(bob, "build", { from: "ann" }))).toEqual([id]);
    expect(ids(await find(ann, "build", { from: "ann" }))).toEqual([id]);
    expect(ids(await find(bob, "build", { from: "bob" }))).toEqual([]);
    expect(ids(await find(cat, "build", { from: "ann" }))).toEqual([]);
  });

  test("of a subagent is the subagent's: its parent finds it in the subagent's name, and no other agent does", async () => {
    verifies("COMM-09");
    const { process } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const sent = await say(ann, "bob", "review done", { agentId: "reviewer" });
    const got = await say(bob, "ann/reviewer", "review again", { correlationId: sent });
    for (const agentId of ["reviewer", "ann/reviewer"]) {
      expect(ids(await find(ann, "review", { agentId }))).toEqual([got, sent]);
      expect(ids(await read(ann, sent, { agentId }))).toEqual([sent, got]);
    }
    expect(ids(await find(ann, "review"))).toEqual([]);
    expect(ids(await find(bob, "review"))).toEqual([got, sent]);
    expect(ids(await find(bob, "review", { from: "ann/reviewer" }))).toEqual([sent]);
    const agentId = "ann/reviewer";
    await expect(find(bob, "review", { agentId })).rejects.toMatchObject({ code: "permission_denied" });
    await expect(read(bob, sent, { agentId })).rejects.toMatchObject({ code: "permission_denied" });
    // a bare name is a subagent of one's own
    expect(ids(await find(bob, "review", { agentId: "ann" }))).toEqual([]);
  });

  test("is its sender's alone until it is due, and nobody's once it ended", async () => {
    verifies("COMM-09");
    const { process, clock } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const id = await say(ann, "bob", "surprise", { notBefore: clock.now() + 60_000, ttlMs: 120_000 });
    expect(ids(await find(ann, "surprise"))).toEqual([id]);
    expect(ids(await read(ann, id))).toEqual([id]);
    expect(ids(await find(bob, "surprise"))).toEqual([]);
    expect(ids(await read(bob, id))).toEqual([]);
    await clock.advance(60_000);
    expect(ids(await find(bob, "surprise"))).toEqual([id]);
    expect(ids(await read(bob, id))).toEqual([id]);
    await clock.advance(60_000);
    for (const reader of [ann, bob]) {
      expect(ids(await find(reader, "surprise"))).toEqual([]);
      expect(ids(await read(reader, id))).toEqual([]);
    }
  });
});

describe("a broadcast", () => {
  test("in a topic is found by any agent; any other by its sender and those who got it", async () => {
    verifies("COMM-09");
    const { process } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const send = async (scope: "all" | "topic", name?: string) => {
      const note = { messageType: "result_sharing", payload: ["coverage", { now: "is 90%" }] };
      return (await ann.broadcasts.send(ann.call, { scope, ...(name === undefined ? {} : { name }), ...note })).message.id;
    };
    const everyone = await send("all");
    const topic = await send("topic", "quality");
    const late = await process("late");
    for (const reader of [ann, bob]) {
      expect(ids(await find(reader, "coverage"))).toEqual([topic, everyone]);
      expect(ids(await find(reader, "coverage", { from: "ann" }))).toEqual([topic, everyone]);
      expect(ids(await read(reader, everyone))).toEqual([everyone]);
    }
    expect(ids(await find(late, "coverage"))).toEqual([topic]);
    expect(ids(await find(late, "coverage", { from: "ann" }))).toEqual([topic]);
    expect(ids(await read(late, everyone))).toEqual([]);
    expect(ids(await read(late, topic))).toEqual([topic]);
  });

  test("that a reader did not get is passed over in bounded steps, and what lies behind is still found", async () => {
    verifies("COMM-09", "CORE-11");
    const { process, clock } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const first = await say(ann, "late", "needle", { correlationId: "hay" });
    for (let i = 0; i < LOOKED_AT_MAX + 60; i++) {
      await ann.broadcasts.send(ann.call, { scope: "all", messageType: "note", payload: "needle", correlationId: "hay" });
    }
    await clock.advance(1);
    const second = await say(bob, "late", "needle", { correlationId: "hay" });
    const late = await process("late");
    const page = await find(late, "needle");
    expect(ids(page)).toEqual([second]);
    expect(page.nextCursor).toBeDefined();
    expect((await all((cursor) => find(late, "needle", { cursor }))).map(({ id }) => id)).toEqual([second, first]);
    expect((await all((cursor) => read(late, "hay", { cursor }))).map(({ id }) => id)).toEqual([first, second]);
  });
});

describe("a thread", () => {
  test("shows who said what in the order of saying, page by page, and what came between two pages", async () => {
    verifies("COMM-09", "CORE-11");
    const { process, clock } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const said: string[] = [];
    for (let i = 0; i < 30; i++) {
      await clock.advance(1 + (i % 3));
      const [from, to] = i % 2 === 0 ? [ann, "bob"] : [bob, "ann"];
      said.push(await say(from, to, { i }, { correlationId: "plan:42/a", priority: i % 10 }));
    }
    const first = await read(bob, "plan:42/a", { limit: 10 });
    expect(ids(first)).toEqual(said.slice(0, 10));
    await clock.advance(1);
    said.push(await say(ann, "bob", "and one more", { correlationId: "plan:42/a" }));
    const rest = await all((cursor) => read(bob, "plan:42/a", { limit: 7, cursor: cursor ?? first.nextCursor }));
    expect(rest.map(({ id }) => id)).toEqual(said.slice(10));
    expect(await read(bob, "plan:42/b")).toEqual({ messages: [] });
    for (const reading of [
      read(ann, "plan:42/a", { cursor: first.nextCursor }),
      read(bob, "other", { cursor: first.nextCursor }),
    ]) {
      await expect(reading).rejects.toMatchObject({ code: "invalid_argument" });
    }
  });
});

describe("a search", () => {
  test("takes words anywhere in type and payload, and phrases as they were said", async () => {
    verifies("COMM-09");
    const { process } = timed();
    const ann = await process("ann");
    const one = await say(ann, "ann", { file: "src/foo_bar.ts", list: [{ deep: ["Lock TIMEOUT after 5 s"] }], count: 17 });
    const two = await say(ann, "ann", "the timeout of a lock, in foo and bar; not ts: 検出", { messageType: "lock_report" });
    expect(ids(await find(ann, "lock timeout"))).toEqual([two, one]);
    expect(ids(await find(ann, '"lock timeout"'))).toEqual([one]);
    expect(ids(await find(ann, '"lock time"'))).toEqual([]);
    expect(ids(await find(ann, '"a lock" foo'))).toEqual([two]);
    expect(ids(await find(ann, "foo_bar.ts"))).toEqual([one]);
    expect(ids(await find(ann, "foo bar ts"))).toEqual([two, one]);
    expect(ids(await find(ann, "foo_ba"))).toEqual([one]);
    expect(ids(await find(ann, "lock_report"))).toEqual([two]);
    expect(ids(await find(ann, "検出"))).toEqual([two]);
    expect(ids(await find(ann, "出検"))).toEqual([]);
    expect(ids(await find(ann, "17"))).toEqual([]); // numbers that are no text are not searched
    for (const text of ["", "?!", '""', "a ".repeat(40)]) {
      await expect(find(ann, text)).rejects.toMatchObject({ code: "invalid_argument" });
    }
    await expect(find(ann, "lock", { from: "not an agent" })).rejects.toMatchObject({ code: "invalid_argument" });
  });

  test("goes no further back than since, and is paged by cursors of its own", async () => {
    verifies("COMM-09", "CORE-11");
    const { process, clock } = timed();
    const [ann, bob] = [await process("ann"), await process("bob")];
    const said: { id: string; at: number }[] = [];
    for (let i = 0; i < 60; i++) {
      await clock.advance(i % 2);
      said.unshift({ id: await say(ann, "bob", `word ${i}`), at: clock.now() });
    }
    const since = said[37]?.at ?? 0;
    const recent = said.filter(({ at }) => at >= since).map(({ id }) => id);
    expect((await all((cursor) => find(bob, "word", { since, limit: 7, cursor }))).map(({ id }) => id)).toEqual(recent);
    const { nextCursor: cursor } = await find(bob, "word", { limit: 7 });
    expect(cursor).toBeDefined();
    for (const searching of [
      find(ann, "word", { cursor }),
      find(bob, "words", { cursor }),
      find(bob, "word", { cursor, since }),
    ]) {
      await expect(searching).rejects.toMatchObject({ code: "invalid_argument" });
    }
  });

  test("finds what stands at the beginning of a very long payload, however it is nested", async () => {
    verifies("COMM-09");
    const { process } = timed();
    const ann = await process("ann");
    const id = await say(ann, "ann", { head: "beginning", list: Array.from({ length: 100_000 }, () => 1), tail: "afterwards" });
    const long = await say(ann, "ann", ["start", "filler ".repeat(10_000), "finish"]);
    expect(ids(await find(ann, "beginning afterwards"))).toEqual([id]);
    expect(ids(await find(ann, "start filler"))).toEqual([long]);
    expect(ids(await find(ann, "finish"))).toEqual([]);
  });
});

// ── what anybody finds, against a list of all that was said ──

const AGENTS = ["ann", "bob", "cat", "ann/sub"] as const;
const WORDS = ["Élan", "elan", "elation", "status", "foo.ts", "foo", "索引", "x"];
const PARTS: Record<string, string[]> = { Élan: ["elan"], "foo.ts": ["foo", "ts"], 索引: ["索", "引"] };
const agent = fc.constantFrom(...AGENTS);
const words = fc.array(fc.constantFrom(...WORDS), { minLength: 1, maxLength: 4 });
const said = fc.record({
  from: agent,
  to: fc.oneof(agent, fc.constantFrom("#topic", "#all")),
  words,
  thread: fc.nat({ max: 2 }),
});
const asked = fc.record({
  reader: agent,
  words: fc.array(fc.constantFrom(...WORDS), { minLength: 1, maxLength: 2 }),
  from: fc.option(agent, { nil: undefined }),
  limit: fc.integer({ min: 1, max: 5 }),
});

/** What two senders say at the same ms has no order but that of the ids. */
function byOrder(a: MessageRecord, b: MessageRecord): number {
  return a.order < b.order ? -1 : a.order > b.order ? 1 : a.id < b.id ? -1 : 1;
}

interface Said {
  message: MessageRecord;
  readers: ReadonlySet<string>;
  words: readonly string[];
  thread: string;
}

async function againstAList(store: Store, clock: ReturnType<typeof manualClock>, numRuns: number): Promise<void> {
  const { process } = swarm(store, clock);
  const processes = { ann: await process("ann"), bob: await process("bob"), cat: await process("cat") };
  const speaker = (name: (typeof AGENTS)[number]) =>
    name === "ann/sub" ? { of: processes.ann, as: { agentId: "sub" } } : { of: processes[name], as: {} };
  let round = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(said, { maxLength: 25 }),
      fc.array(asked, { minLength: 1, maxLength: 4 }),
      async (saying, asking) => {
        round += 1;
        const mark = `round${round}x`; // each finds its own among all that was said before
        const list: Said[] = [];
        for (const { from, to, words, thread } of saying) {
          const { of, as } = speaker(from);
          const payload = { mark, text: words.join(" ") };
          const note = { messageType: "note", payload, correlationId: `${round}.${thread}`, ...as };
          const id = to.startsWith("#")
            ? (
                await of.broadcasts.send(
                  of.call,
                  to === "#all" ? { scope: "all", ...note } : { scope: "topic", name: "t", ...note },
                )
              ).message.id
            : await say(of, to, payload, note);
          const [message] = (
            await threads.read(of.call, { correlationId: note.correlationId, limit: 200, ...as })
          ).messages.filter((one) => one.id === id);
          if (!message) throw new Error("its sender does not find it");
          // the subagent has no presence of its own: it gets no broadcast to all
          const readers = new Set<string>(to === "#topic" ? AGENTS : to === "#all" ? [from, "ann", "bob", "cat"] : [from, to]);
          list.push({ message, readers, words: words.flatMap((word) => PARTS[word] ?? [word]), thread: note.correlationId });
        }
        for (const { reader, words, from, limit } of asking) {
          const { of, as } = speaker(reader);
          const chunks = [[mark], ...words.map((word) => PARTS[word] ?? [word])];
          const holds = (have: readonly string[]) =>
            chunks.slice(1).every((chunk, at) => {
              const open = at === chunks.length - 2 && (chunk.at(-1) ?? "").length > 1;
              return have.some((_, start) =>
                chunk.every((word, i) => {
                  const there = have[start + i];
                  return there === word || (open && i === chunk.length - 1 && there?.startsWith(word) === true);
                }),
              );
            });
          const mine = list.filter(
            ({ readers, message }) => readers.has(reader) && (from === undefined || message.from === from),
          );
          const expected = mine
            .filter((one) => holds(one.words))
            .map(({ message }) => message)
            .sort((a, b) => byOrder(b, a))
            .map(({ id }) => id);
          const found = await all((cursor) =>
            search.find(of.call, { text: [mark, ...words].join(" "), limit, from, cursor, ...as }),
          );
          expect(found.map(({ id }) => id)).toEqual(expected);
          const thread = `${round}.0`;
          const inThread = await all((cursor) => threads.read(of.call, { correlationId: thread, limit, cursor, ...as }));
          expect(inThread.map(({ id }) => id)).toEqual(
            list
              .filter((one) => one.thread === thread && one.readers.has(reader))
              .map(({ message }) => message)
              .sort(byOrder)
              .map(({ id }) => id),
          );
        }
      },
    ),
    { numRuns },
  );
}

describe("searches and threads are what a list of all that was said would show, to each agent its own", () => {
  test("on the memory engine", async () => {
    verifies("COMM-09");
    const { store, clock } = timed();
    await againstAList(store, clock, 60);
  });

  test.each(ENGINES)("on $name", async ({ meet }) => {
    verifies("COMM-09", "CORE-14");
    using meeting = await meet();
    const store = await openStore(meeting.store);
    try {
      await againstAList(store, manualClock(), 15);
    } finally {
      await store.close();
    }
  });
});
