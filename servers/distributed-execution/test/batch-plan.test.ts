import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  BATCH_CODE_BYTES_MAX,
  BATCH_EDGES_MAX,
  BATCH_INPUT_CHARS_MAX,
  BATCH_TASKS_MAX,
  type BatchTask,
  planBatch,
} from "../src/batch-plan.ts";

const js = { code: "1 + 1", environment: "javascript" };

describe("a batch as it is handed over", () => {
  test("a field that a task leaves out is the default's, and one that it has is its own", () => {
    verifies("EXEC-11");
    const [a, b] = planBatch(
      [
        { key: "a", args: ["1"] },
        { key: "b", code: "2", priority: 9, requires: { arch: "x64" } },
      ],
      {
        ...js,
        args: ["0"],
        priority: 3,
        timeout: 5_000,
      },
    );
    expect(a).toMatchObject({ key: "a", ...js, args: ["1"], priority: 3, timeout: 5_000, dependencies: [], after: "success" });
    expect(b).toMatchObject({ code: "2", environment: "javascript", args: ["0"], priority: 9, requires: { arch: "x64" } });
  });

  test("who takes a file from another depends on it without saying so, once", () => {
    const members = planBatch(
      [
        { key: "make" },
        { key: "other" },
        { key: "use", dependencies: ["other", "make"], files: [{ path: "in.csv", from: "make", output: "table.csv" }] },
        { key: "only", files: [{ path: "table.csv", from: "make" }] },
      ],
      js,
    );
    expect(members.map(({ dependencies }) => dependencies)).toEqual([[], [], ["make", "other"], ["make"]]);
  });

  test.each<{ what: string; tasks: BatchTask[]; says: RegExp }>([
    { what: "no task", tasks: [], says: /1 to 500/ },
    {
      what: "more tasks than a batch holds",
      tasks: Array.from({ length: BATCH_TASKS_MAX + 1 }, (_, n) => ({ key: `t${n}`, ...js })),
      says: /1 to 500/,
    },
    {
      what: "a key twice",
      tasks: [
        { key: "a", ...js },
        { key: "a", ...js },
      ],
      says: /have the id a\b/,
    },
    { what: "a dependency that is not there", tasks: [{ key: "a", ...js, dependencies: ["z"] }], says: /a depends on z/ },
    {
      what: "a file of a task that is not there",
      tasks: [{ key: "a", ...js, files: [{ path: "f", from: "z" }] }],
      says: /a depends on z/,
    },
    { what: "a task that waits for itself", tasks: [{ key: "a", ...js, dependencies: ["a"] }], says: /circle: a → a/ },
    {
      what: "a circle",
      tasks: [
        { key: "a", ...js, dependencies: ["c"] },
        { key: "b", ...js, dependencies: ["a"] },
        { key: "c", ...js, files: [{ path: "f", from: "b" }] },
      ],
      says: /circle: a → c → b → a/,
    },
    { what: "a task without code", tasks: [{ key: "a", environment: "javascript" }], says: /a has no code/ },
    { what: "a task without environment", tasks: [{ key: "a", code: "1" }], says: /a has no environment/ },
  ])("$what is refused, with what is wrong by name", ({ tasks, says }) => {
    expect(() => planBatch(tasks)).toThrow(
      expect.objectContaining({ code: "invalid_argument", message: expect.stringMatching(says) }),
    );
  });

  test("code that all tasks share counts once, distinct code adds up", () => {
    const large = "x".repeat(BATCH_CODE_BYTES_MAX / 2 + 1);
    const keys = Array.from({ length: BATCH_TASKS_MAX }, (_, n) => ({ key: `t${n}` }));
    expect(planBatch(keys, { code: large, environment: "javascript" })).toHaveLength(BATCH_TASKS_MAX);
    expect(() =>
      planBatch(
        [
          { key: "a", code: large },
          { key: "b", code: `${large}y` },
        ],
        { environment: "javascript" },
      ),
    ).toThrow(expect.objectContaining({ code: "limit_exceeded", message: expect.stringContaining("code of a batch") }));
  });

  test("input and edges are bounded together", () => {
    const half = "x".repeat(BATCH_INPUT_CHARS_MAX / 2 + 1);
    const two: BatchTask[] = [
      { key: "a", ...js, stdin: half },
      { key: "b", ...js, files: [{ path: "f", text: half }] },
    ];
    expect(() => planBatch(two)).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
    const wide = Math.ceil(BATCH_EDGES_MAX / 200) + 1;
    const sources = Array.from({ length: 200 }, (_, n) => ({ key: `s${n}`, ...js }));
    const sinks = Array.from({ length: wide }, (_, n) => ({ key: `k${n}`, ...js, dependencies: sources.map(({ key }) => key) }));
    expect(() => planBatch([...sources, ...sinks])).toThrow(
      expect.objectContaining({ code: "limit_exceeded", message: expect.stringContaining("dependencies") }),
    );
  });

  test("whatever goes through has a beginning, and no member waits for what is not there", () => {
    const task = fc.record({
      key: fc.constantFrom("a", "b", "c", "d", "e"),
      dependencies: fc.uniqueArray(fc.constantFrom("a", "b", "c", "d", "e", "f"), { maxLength: 2 }),
    });
    fc.assert(
      fc.property(fc.array(task, { minLength: 1, maxLength: 6 }), (tasks) => {
        let members: ReturnType<typeof planBatch>;
        try {
          members = planBatch(tasks, js);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_argument" });
          return;
        }
        const done = new Set<string>();
        for (let round = 0; round < members.length; round++) {
          for (const { key, dependencies } of members) if (dependencies.every((on) => done.has(on))) done.add(key);
        }
        expect(done.size).toBe(members.length);
      }),
    );
  });
});
