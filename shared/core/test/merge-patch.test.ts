import fc from "fast-check";
import { expect, test } from "vitest";
import { type Json, type JsonObject, mergePatch } from "../src/index.ts";

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

test("reaches no prototype, whatever members are called", () => {
  const names = ["__proto__", "constructor", "prototype", "hasOwnProperty", "toString"];
  for (const name of names) {
    const patch = JSON.parse(`{"${name}":{"polluted":true},"a":1}`) as Json;
    const merged = mergePatch(JSON.parse(`{"${name}":{"kept":1}}`) as Json, patch) as JsonObject;
    expect(JSON.stringify(merged)).toBe(`{"${name}":{"kept":1,"polluted":true},"a":1}`);
    expect(mergePatch(merged, JSON.parse(`{"${name}":null}`) as Json)).toEqual({ a: 1 });
  }
  expect("polluted" in {}).toBe(false);
});

test("made twice is the same as made once", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), fc.jsonValue({ maxDepth: 4 }), (target, patch) => {
      const merged = mergePatch(target as Json, patch as Json);
      expect(mergePatch(merged, patch as Json)).toEqual(merged);
    }),
  );
});
