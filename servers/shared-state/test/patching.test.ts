/** Changes of a value in place: what the standards say, and what must not get in by them. */
import { type Json, type JsonObject, VALUE_BYTES_MAX } from "@mcp-swarm/core";
import fc from "fast-check";
import rfcExamples from "json-patch-test-suite/spec_tests.json" with { type: "json" };
import suite from "json-patch-test-suite/tests.json" with { type: "json" };
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { applyChange, type Change, checkChange, checkedSize, jsonBytes, sameJson, textAt } from "../src/patching.ts";

interface SuiteCase {
  comment?: string;
  doc: Json;
  patch?: Change["jsonPatch"];
  expected?: Json;
  error?: string;
  disabled?: boolean;
}

/** The public suite for RFC 6902, whose second file has the examples of the RFC. */
const SUITE = [...suite, ...rfcExamples] as SuiteCase[];

/** As a tool does it: the input is checked first. */
function change(current: Json | undefined, how: Change): Json {
  checkChange(how);
  return applyChange(current, how);
}

const patch = (current: Json, ...jsonPatch: NonNullable<Change["jsonPatch"]>) => change(current, { jsonPatch });
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  return "no error";
};

describe("JSON Patch", () => {
  test("does what the public suite for RFC 6902 says", () => {
    verifies("STATE-03");
    let ran = 0;
    for (const { comment, doc, patch, expected, error, disabled } of SUITE) {
      if (disabled || !patch || patch.some(({ op }) => !["add", "remove", "replace", "move", "copy", "test"].includes(op)))
        continue;
      const before = structuredClone(doc);
      const what = comment ?? error ?? JSON.stringify(patch);
      if (patch.length === 0) continue; // a tool takes at least one operation
      if (error !== undefined)
        expect(["failed_precondition", "invalid_argument"], what).toContain(codeOf(() => patched(doc, patch)));
      else if (expected === undefined) patched(doc, patch);
      else expect(patched(doc, patch), what).toEqual(expected);
      expect(doc, what).toEqual(before);
      ran += 1;
    }
    expect(ran).toBeGreaterThan(80);
  });
  const patched = (doc: Json, jsonPatch: NonNullable<Change["jsonPatch"]>) => change(doc, { jsonPatch });

  test("names the operation that failed and says why, and changes nothing", () => {
    verifies("STATE-03");
    const value = { a: [1, 2] };
    for (const [operations, message] of [
      [[{ op: "test", path: "/a/0", value: 2 }], "JSON Patch operation 0 (test) failed: the value at path is another."],
      [
        [
          { op: "add", path: "/b", value: 1 },
          { op: "remove", path: "/c" },
        ],
        "JSON Patch operation 1 (remove) failed: there is nothing at path.",
      ],
      [[{ op: "replace", path: "/a/2", value: 1 }], "JSON Patch operation 0 (replace) failed: there is nothing at path."],
      [[{ op: "add", path: "/a/3", value: 1 }], "JSON Patch operation 0 (add) failed: the list has no such index."],
      [[{ op: "add", path: "/a/01", value: 1 }], "JSON Patch operation 0 (add) failed: the list has no such index."],
      [
        [{ op: "add", path: "/a/0/b", value: 1 }],
        "JSON Patch operation 0 (add) failed: there is no object or list to put it in.",
      ],
      [[{ op: "move", from: "/a/0", path: "/a/2" }], "JSON Patch operation 0 (move) failed: the list has no such index."],
      [[{ op: "copy", from: "/x", path: "/y" }], "JSON Patch operation 0 (copy) failed: there is nothing at from."],
    ] as const) {
      expect(() => patch(value, ...operations), message).toThrow(
        expect.objectContaining({ code: "failed_precondition", message }),
      );
    }
    expect(value).toEqual({ a: [1, 2] });
  });

  test("sees a value's own members only, and reaches no prototype", () => {
    verifies("STATE-03");
    for (const name of ["toString", "valueOf", "hasOwnProperty", "__defineGetter__"]) {
      for (const op of ["remove", "replace", "test"] as const) {
        expect(codeOf(() => patch({}, { op, path: `/${name}`, value: null }))).toBe("failed_precondition");
      }
      expect(codeOf(() => patch({}, { op: "copy", from: `/${name}`, path: "/x" }))).toBe("failed_precondition");
      expect(codeOf(() => patch({}, { op: "add", path: `/${name}/x`, value: 1 }))).toBe("failed_precondition");
      expect(patch({}, { op: "add", path: `/${name}`, value: 1 })).toEqual({ [name]: 1 });
    }
    for (const name of ["__proto__", "constructor", "prototype"]) {
      for (const path of [`/${name}`, `/${name}/polluted`, `/a/${name}`, `/${name.replace("_", "_")}/x`]) {
        expect(
          codeOf(() => patch({ a: {} }, { op: "add", path, value: 1 })),
          path,
        ).toBe("invalid_argument");
        expect(
          codeOf(() => patch({ a: {} }, { op: "copy", from: path, path: "/b" })),
          path,
        ).toBe("invalid_argument");
      }
    }
    expect("polluted" in {}).toBe(false);
  });

  test("is refused when an operation is not whole", () => {
    for (const operation of [
      { op: "add", path: "/a" },
      { op: "test", path: "" },
      { op: "copy", path: "/a" },
      { op: "move", path: "/a/b", from: "/a" },
      { op: "add", path: "a", value: 1 },
      { op: "add", path: "/a~2", value: 1 },
      { op: "remove", path: "" },
    ] as const) {
      expect(
        codeOf(() => patch({ a: 1 }, operation)),
        JSON.stringify(operation),
      ).toBe("invalid_argument");
    }
    expect(codeOf(() => change(undefined, { jsonPatch: [{ op: "add", path: "", value: 1 }] }))).toBe("failed_precondition");
  });

  test("cannot blow a value up, or keep others waiting by its work", () => {
    verifies("STATE-03", "STATE-15");
    // doubled a hundred times it would be larger than the world
    const doubling = Array.from({ length: 100 }, (_, at) => ({ op: "copy" as const, from: "", path: `/${at}` }));
    expect(codeOf(() => patch({ text: "x".repeat(100) }, ...doubling))).toBe("limit_exceeded");
    const large = { text: "x".repeat(700_000) };
    const compared = Array.from({ length: 100 }, () => ({ op: "test" as const, path: "", value: large }));
    expect(codeOf(() => patch(large, ...compared))).toBe("limit_exceeded");
    // what replaces something large may be as large
    const other = "y".repeat(700_000);
    expect(patch(large, { op: "replace", path: "/text", value: other })).toEqual({ text: other });
  });
});

describe("increment and append", () => {
  test("count from 0 and begin a list where there is nothing", () => {
    verifies("STATE-03");
    expect(change(undefined, { increment: 5 })).toBe(5);
    expect(change(2.5, { increment: -0.5 })).toBe(2);
    expect(change(undefined, { append: null })).toEqual([null]);
    expect(change([1, 2, 3], { append: 4, maxItems: 2 })).toEqual([3, 4]);
  });

  test("refuse what is no number, no list, or too large", () => {
    verifies("STATE-03");
    expect(codeOf(() => change("7", { increment: 1 }))).toBe("failed_precondition");
    expect(codeOf(() => change(null, { increment: 1 }))).toBe("failed_precondition");
    expect(codeOf(() => change({}, { append: 1 }))).toBe("failed_precondition");
    expect(codeOf(() => change(Number.MAX_SAFE_INTEGER, { increment: 1 }))).toBe("limit_exceeded");
  });
});

test("exactly one way to change a value is given", () => {
  expect(codeOf(() => checkChange({}))).toBe("invalid_argument");
  expect(codeOf(() => checkChange({ increment: 1, append: 1 }))).toBe("invalid_argument");
  expect(codeOf(() => checkChange({ increment: 1, maxItems: 1 }))).toBe("invalid_argument");
  expect(codeOf(() => checkChange({ mergePatch: null }))).toBe("no error");
});

test("a value may have 1 MiB of JSON and nest 32 levels deep", () => {
  verifies("STATE-15");
  expect(checkedSize("x".repeat(VALUE_BYTES_MAX - 2))).toBe(VALUE_BYTES_MAX);
  expect(codeOf(() => checkedSize("x".repeat(VALUE_BYTES_MAX - 1)))).toBe("limit_exceeded");
  expect(codeOf(() => checkedSize("ä".repeat(VALUE_BYTES_MAX / 2)))).toBe("limit_exceeded");
  const nested = (levels: number): Json => (levels === 0 ? 1 : [nested(levels - 1)]);
  expect(checkedSize(nested(32))).toBe(65);
  expect(codeOf(() => checkedSize(nested(33)))).toBe("limit_exceeded");
});

test("a JSON pointer names a part of a value, read as text", () => {
  const value = { "a/b": { "~": [10, "text"] }, "": 1 };
  expect(textAt(value, "/a~1b/~0/1")).toEqual({ value: "text", text: "text" });
  expect(textAt(value, "/a~1b/~0/0").text).toBe("10");
  expect(textAt(value, "/")).toEqual({ value: 1, text: "1" });
  expect(textAt(value).text).toBe(JSON.stringify(value));
  for (const path of ["/x", "/a~1b/~0/2", "/a~1b/~0/-", "/toString", "//x"]) {
    expect(
      codeOf(() => textAt(value, path)),
      path,
    ).toBe("invalid_argument");
  }
});

test("two values are the same whatever the order of their members", () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })), (members) => {
      const value = JSON.parse(JSON.stringify(members)) as JsonObject;
      const reversed = Object.fromEntries(Object.entries(value).reverse()) as JsonObject;
      expect(sameJson(value, reversed)).toBe(true);
      expect(sameJson(value, [value])).toBe(false);
      expect(jsonBytes(value)).toBe(jsonBytes(reversed));
    }),
  );
});
