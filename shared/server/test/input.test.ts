import { SwarmError } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { verifies } from "../../../test/requirements.ts";
import * as fields from "../src/fields.ts";
import { parseInput } from "../src/input.ts";

const schema = z.strictObject({
  taskId: fields.id(),
  note: fields.text(10).exactOptional(),
  priority: fields.whole(0, 9).exactOptional(),
  parameters: fields.jsonObject().exactOptional(),
});

function refused(raw: unknown): string {
  try {
    parseInput(schema, raw);
  } catch (error) {
    if (error instanceof SwarmError && error.code === "invalid_argument") return error.message;
    throw error;
  }
  throw new Error(`Accepted: ${JSON.stringify(raw)}`);
}

/** An object nested `depth` deep, made without recursion. */
function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let i = 0; i < depth; i++) value = { a: value };
  return value;
}

describe("input that is not valid", () => {
  test.each([
    ["a missing field", {}, "taskId"],
    ["a wrong type", { taskId: 7 }, "taskId"],
    ["an id with a slash", { taskId: "a/b" }, "taskId"],
    ["an id of 65 characters", { taskId: "a".repeat(65) }, "taskId"],
    ["an unknown field", { taskId: "a", colour: "red" }, "colour"],
    ["a text that is too long", { taskId: "a", note: "x".repeat(11) }, "note"],
    ["an empty text", { taskId: "a", note: "" }, "note"],
    ["a NUL", { taskId: "a", note: "x\0y" }, "note"],
    ["half a surrogate pair", { taskId: "a", note: "\ud800" }, "note"],
    ["a number out of range", { taskId: "a", priority: 10 }, "priority"],
    ["a fraction where a whole number belongs", { taskId: "a", priority: 1.5 }, "priority"],
    ["a number too large to be exact", { taskId: "a", parameters: { n: 1e300 } }, "parameters.n"],
    ["an infinite number", { taskId: "a", parameters: { n: JSON.parse("1e999") } }, "parameters.n"],
    ["a prototype key", JSON.parse('{"taskId":"a","parameters":{"__proto__":{"polluted":true}}}'), "parameters"],
    ["a constructor key", { taskId: "a", parameters: { list: [{ constructor: 1 }] } }, "parameters.list[0]"],
    ["a NUL in a member's name", { taskId: "a", parameters: { "a\0": 1 } }, "parameters"],
    ["nesting beyond the bound", { taskId: "a", parameters: nested(40) }, "parameters"],
    ["an array where an object belongs", [], ""],
    ["a string where an object belongs", "taskId", ""],
  ])("%s is refused with the field named", (_, raw, field) => {
    verifies("CORE-05");
    expect(refused(raw)).toContain(field);
  });

  test("an error repeats neither control characters nor the whole of a long field name", () => {
    const message = refused({ taskId: "a", [`\u001b[31m${"x".repeat(5_000)}`]: 1 });
    expect(message.length).toBeLessThan(400);
    expect(message).not.toMatch(/[^\x20-\x7e…]/);
  });

  test("100,001 values are refused before a schema looks at them", () => {
    expect(refused({ taskId: "a", parameters: { list: new Array(100_001).fill(0) } })).toContain("more than");
  });
});

test("input that is valid comes back as it was given", () => {
  const raw = { taskId: "build-7", note: "ok", priority: 9, parameters: { deep: nested(20), list: [1, null, "x"] } };
  expect(parseInput(schema, raw)).toEqual(raw);
});
