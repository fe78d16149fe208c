import { KEY_BYTES_MAX } from "@mcp-swarm/store";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decodeCursor, encodeCursor } from "../src/index.ts";

const scope = { list: "tasks:available", prefix: "ready/" };
const invalid = expect.objectContaining({ code: "invalid_argument" });

describe("a page cursor", () => {
  test("gives back the key it was made from, whatever fits a key", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme-ascii", maxLength: KEY_BYTES_MAX - 6 }), (rest) => {
        const key = `ready/${rest}`;
        expect(decodeCursor(scope, encodeCursor(scope, key))).toBe(key);
      }),
    );
  });

  test("of another list or filter is refused", () => {
    const foreign = encodeCursor({ ...scope, list: "tasks:done" }, "ready/1");
    expect(() => decodeCursor(scope, foreign)).toThrow(invalid);
  });

  test("that leads outside the list is refused even when its tag is right", () => {
    const forged = encodeCursor(scope, "secret/1");
    expect(() => decodeCursor(scope, forged)).toThrow(invalid);
  });

  test("with any character changed is refused", () => {
    const cursor = encodeCursor(scope, "ready/0000/abc");
    fc.assert(
      fc.property(fc.nat(cursor.length - 1), fc.constantFrom(..."AZaz09-_=/ "), (at, char) => {
        const changed = cursor.slice(0, at) + char + cursor.slice(at + 1);
        let key: string | undefined;
        try {
          key = decodeCursor(scope, changed);
        } catch (error) {
          expect(error).toEqual(invalid);
        }
        // the last character may carry bits that stand for nothing
        if (key !== undefined) expect(key).toBe("ready/0000/abc");
      }),
    );
  });

  test.each(["", "=", "x".repeat(10_000), "\0", "null"])("%j is refused", (text) => {
    expect(() => decodeCursor(scope, text)).toThrow(invalid);
  });
});
