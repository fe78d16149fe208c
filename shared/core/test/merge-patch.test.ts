import { expect, test } from "vitest";
import { type Json, mergePatch } from "../src/index.ts";

/** RFC 7396, appendix A: original, patch, result. */
const VECTORS: readonly [Json, Json, Json][] = [
  [{ a: "b" }, { a: "c" }, { a: "c" }],
  [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }],
  [{ a: "b" }, { a: null }, {}],
  [{ a: "b", b: "c" }, { a: null }, { b: "c" }],
  [{ a: ["b"] }, { a: "c" }, { a: "c" }],
  [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
  [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }],
  [{ a: [{ b: "c" }] }, { a: [1] }, { a: [1] }],
  [
    ["a", "b"],
    ["c", "d"],
    ["c", "d"],
  ],
  [{ a: "b" }, ["c"], ["c"]],
  [{ a: "foo" }, null, null],
  [{ a: "foo" }, "bar", "bar"],
  [{ e: null }, { a: 1 }, { e: null, a: 1 }],
  [[1, 2], { a: "b", c: null }, { a: "b" }],
  [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
];

test.each(VECTORS)("%j patched with %j is %j", (target, patch, result) => {
  const before = structuredClone([target, patch]);
  expect(mergePatch(target, patch)).toEqual(result);
  expect([target, patch]).toEqual(before);
});

test("members may have the names of an object's own methods", () => {
  expect(mergePatch({ hasOwnProperty: 1, a: 1 }, { a: null, toString: 2 })).toEqual({ hasOwnProperty: 1, toString: 2 });
  const patched = mergePatch({}, JSON.parse('{"__proto__": {"polluted": true}}')) as { polluted?: boolean };
  expect(patched.polluted).toBeUndefined();
  expect(Object.hasOwn(patched, "__proto__")).toBe(true);
});
