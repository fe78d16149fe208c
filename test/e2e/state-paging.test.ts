/** Long lists of long and awkward values: everything can be read, each once, and no answer is long. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";

const server = "shared-state";
/** The bound in tokens; no tokenizer makes more tokens than bytes. */
const ANSWER_BYTES_MAX = 20_000;
const PAGES_MAX = 600;
const KEYS = 240;
const PER_CALL = 40;
const LOCKS = 120;
const RESERVATIONS = 60;

const fill = (unit: string, length: number) =>
  unit.repeat(Math.ceil(length / unit.length)).slice(0, length - (length % unit.length));
/** Values whose JSON is long in bytes, short of being kept apart, and kept apart. */
const VALUES: readonly unknown[] = [
  fill("任務を実行して結果を報告する。", 1_300),
  fill("👩‍👩‍👧‍👦", 900),
  fill('"\\\n\t', 2_000),
  fill("\u0001\u001b[31m", 600),
  { title: fill("ᓀᓂᓄᓇ𒀀𒁀", 400), list: Array.from({ length: 60 }, (_, at) => ({ at, note: "結果" })) },
  fill("plain words, ", 9_000),
  "short",
  null,
  199,
];
const keyOf = (at: number) => `list/${"long-key-".repeat(11)}${String(at).padStart(4, "0")}`;
const valueAt = (at: number) => VALUES[at % VALUES.length];

type Page = Record<string, unknown> & { nextCursor?: string };

const folder = temporaryFolder();
let host: Host;

beforeAll(async () => {
  host = await Host.start({ server, store: folder.store, agent: "a", env: { SWARM_DURABILITY: "normal" } });
  for (let from = 0; from < KEYS; from += PER_CALL) {
    const writes = Array.from({ length: PER_CALL }, (_, at) => ({ key: keyOf(from + at), value: valueAt(from + at) }));
    await host.call("transact_state", { writes });
  }
  // every key changes once more, so that each change has an old value too
  for (let from = 0; from < KEYS; from += PER_CALL) {
    const writes = Array.from({ length: PER_CALL }, (_, at) => ({ key: keyOf(from + at), value: valueAt(from + at + 1) }));
    await host.call("transact_state", { writes });
  }
});
afterAll(async () => {
  await host.close();
  folder[Symbol.dispose]();
});

/** One answer, which is within the bound. */
async function bounded<T = Page>(tool: string, args: Record<string, unknown>): Promise<T> {
  const answer = await host.try(tool, args);
  expect(answer.isError, answer.text).toBe(false);
  expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
  return answer.structured as T;
}

async function readAll<T>(tool: string, args: Record<string, unknown>, of: string): Promise<T[]> {
  const all: T[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const answer: Page = await bounded(tool, { ...args, ...(cursor === undefined ? {} : { cursor }) });
    const items = answer[of] as T[];
    expect(items.length).toBeLessThanOrEqual(Number(args.limit ?? 50));
    all.push(...items);
    if (answer.nextCursor === undefined) return all;
    expect(items.length).toBeGreaterThan(0);
    cursor = answer.nextCursor;
  }
  throw new Error("The list does not end");
}

describe(`${KEYS} keys with long values`, () => {
  test.each([[{}], [{ limit: 200 }], [{ limit: 7, prefix: "list/" }]])(
    "list_state %j gives each key once, in order, no answer over the bound, and short values whole",
    async (args) => {
      verifies("CORE-11", "STATE-01");
      const entries = await readAll<{ key: string; value?: unknown; preview?: string; size: number }>(
        "list_state",
        args,
        "entries",
      );
      expect(entries.map(({ key }) => key)).toEqual(Array.from({ length: KEYS }, (_, at) => keyOf(at)));
      for (const [at, { value, preview, size }] of entries.entries()) {
        const whole = valueAt(at + 1);
        expect(size).toBe(Buffer.byteLength(JSON.stringify(whole)));
        if (value !== undefined) expect(value).toEqual(whole);
        else if (preview !== undefined) expect(JSON.stringify(whole).startsWith(preview.slice(0, 50))).toBe(true);
        else expect(size).toBeGreaterThan(4_096);
      }
    },
  );

  test.each([[{ limit: 200 }], [{}], [{ limit: 3 }]])(
    "wait_for_state %j gives each change once and in order, also those of one transaction over several answers",
    async (args) => {
      verifies("CORE-11", "STATE-05");
      const seen: { key: string; rev: number; value?: unknown; oldValue?: unknown }[] = [];
      let from: Record<string, unknown> = { sinceRev: 0 };
      for (let page = 0; page < PAGES_MAX; page++) {
        const answer = await bounded<{ changes: typeof seen; nextRev: number; nextCursor?: string; revision: number }>(
          "wait_for_state",
          { prefix: "list/", ...args, ...from },
        );
        seen.push(...answer.changes);
        if (answer.nextCursor === undefined && answer.nextRev >= answer.revision) break;
        expect(answer.changes.length).toBeGreaterThan(0);
        from = answer.nextCursor === undefined ? { sinceRev: answer.nextRev } : { cursor: answer.nextCursor };
      }
      const made = [0, 1].flatMap((turn) =>
        Array.from({ length: KEYS }, (_, at) => `${turn * (KEYS / PER_CALL) + Math.floor(at / PER_CALL) + 1} ${keyOf(at)}`),
      );
      expect(seen.map(({ rev, key }) => `${rev} ${key}`)).toEqual(made);
      for (const [at, { value, oldValue }] of seen.entries()) {
        const turn = Math.floor(at / KEYS);
        if (value !== undefined) expect(value).toEqual(valueAt((at % KEYS) + turn));
        if (oldValue !== undefined) expect(oldValue).toEqual(valueAt(at % KEYS));
      }
    },
  );

  test("a history of long values, a prefix as a resource and what an agent must know stay within the bound", async () => {
    verifies("CORE-11", "STATE-07", "STATE-13");
    for (let turn = 0; turn < 25; turn++) await host.call("set_state", { key: "history", value: valueAt(turn), scope: "agent" });
    const { revisions } = await bounded<{ revisions: { rev: number; value?: unknown }[] }>("get_state_history", {
      key: "history",
      scope: "agent",
    });
    expect(revisions.length).toBeGreaterThan(15);
    expect(revisions.map(({ rev }) => rev)).toEqual(revisions.map((_, at) => 25 - at));
    const { contents } = await host.client.readResource({ uri: "state://global/list/*" });
    expect(Buffer.byteLength(contents[0]?.text ?? "")).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
    const keys = Array.from({ length: 20 }, (_, at) => ({ key: keyOf(at) }));
    await bounded("get_context", { keys, maxTokens: 15_000 });
  });

  test("a cursor that is forged, cut, or of another list is refused", async () => {
    verifies("CORE-11", "CORE-05");
    const { nextCursor = "" } = await bounded("list_state", { limit: 5 });
    const other = await bounded("list_state", { limit: 5, prefix: "list/" });
    const changes = await bounded("wait_for_state", { sinceRev: 0, limit: 3 });
    const forged = [
      other.nextCursor,
      changes.nextCursor,
      nextCursor.slice(0, -3),
      `${nextCursor}AAAA`,
      "",
      ".",
      "a.b",
      "../../etc/passwd",
      "A".repeat(513),
    ];
    for (const cursor of forged) {
      const answer = await host.try("list_state", { cursor, limit: 5 });
      expect(answer.isError, cursor).toBe(true);
      expect(answer.text, cursor).toMatch(/^invalid_argument: .*cursor/);
    }
    for (const cursor of [nextCursor, "zzzzzzzzzzzz.1", "1.zzzz", "-1.0", "1", "1.0.0"]) {
      const answer = await host.try("wait_for_state", { cursor });
      expect(answer.text, cursor).toMatch(/^invalid_argument: /);
    }
    expect((await host.try("list_state", { cursor: nextCursor, limit: 5 })).isError).toBe(false);
  });
});

test("lists of locks and of reservations give each once, no answer over the bound", async () => {
  verifies("CORE-11", "STATE-08", "STATE-12");
  const nameOf = (at: number) => `${"lock-".repeat(11)}${String(at).padStart(4, "0")}`;
  await Promise.all(Array.from({ length: LOCKS }, (_, at) => host.call("acquire_lock", { name: nameOf(at) })));
  for (const limit of [200, 11]) {
    const locks = await readAll<{ name: string }>("list_locks", { limit }, "locks");
    expect(locks.map(({ name }) => name)).toEqual(Array.from({ length: LOCKS }, (_, at) => nameOf(at)));
  }
  const globsOf = (at: number) => Array.from({ length: 8 }, (_, part) => `area-${at}/${"folder-名前/".repeat(6)}${part}/**`);
  await Promise.all(
    Array.from({ length: RESERVATIONS }, (_, at) =>
      host.call("reserve_files", { globs: globsOf(at), reason: fill("理由", 400) }),
    ),
  );
  for (const limit of [200, 7]) {
    const reservations = await readAll<{ globs: string[] }>("list_reservations", { limit }, "reservations");
    expect(reservations.map(({ globs }) => globs[0]).sort()).toEqual(
      Array.from({ length: RESERVATIONS }, (_, at) => globsOf(at)[0]).sort(),
    );
  }
  const { released, count } = await bounded<{ released: unknown[]; count: number }>("release_files", { all: true });
  expect(count).toBe(RESERVATIONS);
  expect(released.length).toBeGreaterThan(0);
});
