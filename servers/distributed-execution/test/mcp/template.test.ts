import type { Json } from "@mcp-swarm/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../../test/requirements.ts";
import { FILLED_CHARS_MAX, fill, LINES_MAX, missing, placeholders } from "../../src/mcp/template.ts";

const code = (expected: string) => expect.objectContaining({ code: expected });
const json = () => fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>;

describe("a template", () => {
  test("whose text is one placeholder becomes the value itself, and text within a longer text", () => {
    verifies("EXEC-15");
    const scope = { task: { title: "T", tags: ["a", 1] }, parameters: { limit: 3, deep: { on: true } } };
    expect(fill({ a: "{{parameters.limit}}", b: ["{{ task.tags }}"], c: "{{parameters.deep}}" }, scope)).toEqual({
      a: 3,
      b: [["a", 1]],
      c: { on: true },
    });
    expect(fill("{{task.title}}: {{parameters.limit}} of {{parameters.deep}}", scope)).toBe('T: 3 of {"on":true}');
    expect(fill("{{task.tags.1}}", scope)).toBe(1);
  });

  test("takes the first alternative that is there, a literal, or leaves the field out", () => {
    const scope = { parameters: { b: "B" } };
    expect(fill({ x: "{{parameters.a ?? parameters.b}}" }, scope)).toEqual({ x: "B" });
    expect(fill({ x: '{{parameters.a ?? "a ?? b | c"}}', y: "{{parameters.a ?? 12}}" }, scope)).toEqual({
      x: "a ?? b | c",
      y: 12,
    });
    expect(fill({ x: "{{parameters.a ?? omit}}", y: ["{{parameters.a ?? omit}}", 1] }, scope)).toEqual({ y: [1] });
    expect(fill({ x: "a {{parameters.a ?? omit}}" }, scope)).toEqual({});
  });

  test("says what is missing, by its path", () => {
    expect(() => fill("{{parameters.query ?? task.description}}", {})).toThrow(/Missing: parameters\.query\./);
    expect(missing({ a: "{{parameters.x}}", b: "{{steps.0}}", c: "{{parameters.y ?? omit}}" }, {}, ["steps"])).toEqual([
      "parameters.x",
    ]);
  });

  test("makes lists of lines and names for SQL", () => {
    expect(fill("{{task | lines}}", { task: " a \n\n b\r\n" })).toEqual(["a", "b"]);
    expect(fill("{{task | lines}}", { task: ["a"] })).toEqual(["a"]);
    expect(fill("{{task | lines}}", { task: "x\n".repeat(500) })).toHaveLength(LINES_MAX);
    expect(fill("add table {{t | identifier}}", { t: 'x"; drop table y' })).toBe('add table "x""; drop table y"');
    for (const t of ["", "x".repeat(64), 5]) expect(() => fill("{{t | identifier}}", { t })).toThrow(code("invalid_argument"));
  });

  test("is refused when a placeholder is none", () => {
    for (const wrong of [
      "{{}}",
      "{{a b}}",
      "{{a | upper}}",
      "{{a | lines | lines}}",
      "{{process.exit()}}",
      "{{a ?? }}",
      "{{..a}}",
    ]) {
      expect(() => placeholders({ deep: [wrong] }), wrong).toThrow(code("invalid_argument"));
    }
    expect(() => placeholders(`{{${"a".repeat(300)}}}`)).toThrow(code("invalid_argument"));
  });

  test("is bounded in what it is filled with", () => {
    expect(() => fill(["{{a}}", "{{a}}"], { a: "x".repeat(FILLED_CHARS_MAX - 10) })).toThrow(code("invalid_argument"));
  });

  test("never looks again at what it was filled with, and reaches nothing that objects inherit", () => {
    fc.assert(
      fc.property(json(), json(), (value, other) => {
        expect(fill({ x: "{{given}}" }, { given: value, secret: other })).toEqual({ x: value });
      }),
    );
    const tricky = { given: "{{secret}}", secret: "s" };
    expect(fill({ x: "{{given}}", y: "a {{given}}" }, tricky)).toEqual({ x: "{{secret}}", y: "a {{secret}}" });
    for (const path of ["constructor", "parameters.constructor.name", "parameters.__proto__", "text.length"]) {
      expect(() => fill(`{{${path}}}`, { parameters: {}, text: "abc" }), path).toThrow(/Missing|not a placeholder/);
    }
  });
});
