/** Files as text: read in parts, they are whole again, and no part is longer than an answer bears. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Artifact } from "../src/artifact-layer.ts";
import { asText, textPart } from "../src/artifact-text.ts";

const artifactOf = (bytes: number): Artifact => ({
  ...{ id: "art-1", agentId: "ann", executionId: "exec-1", name: "a.txt", mimeType: "text/plain", bytes },
  ...{ sha256: "", chunks: 1, createdAt: 0 },
});

function readInParts(whole: Uint8Array, limit: number, jsonBytesMax: number): string[] {
  const parts: string[] = [];
  for (let offset = 0; parts.length <= whole.length; ) {
    const bytes = whole.subarray(offset, offset + limit);
    const { text, nextOffset } = textPart({ artifact: artifactOf(whole.length), offset, bytes }, jsonBytesMax);
    parts.push(text);
    if (nextOffset === undefined) return parts;
    expect(nextOffset).toBeGreaterThan(offset);
    offset = nextOffset;
  }
  throw new Error("It never ended.");
}

const texts = fc
  .array(fc.constantFrom("a", "é", "€", "🙂", "\u0007", "\n", '"', "\ufeff"), { maxLength: 200 })
  .map((all) => all.join(""));

test("a text that is read in parts of any size is whole again", () => {
  verifies("EXEC-12");
  fc.assert(
    fc.property(texts, fc.integer({ min: 4, max: 50 }), fc.integer({ min: 40, max: 200 }), (text, limit, most) => {
      const parts = readInParts(Buffer.from(text), limit, most);
      expect(parts.join("")).toBe(text);
      for (const part of parts) expect(Buffer.byteLength(JSON.stringify(part))).toBeLessThanOrEqual(most);
    }),
  );
});

test("whatever the bytes are, the parts end, and what is no text is not taken for one", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 1, max: 20 }), (bytes, limit) => {
      expect(readInParts(bytes, limit, 200).length).toBeGreaterThan(0);
    }),
  );
  expect(asText("text/plain", Uint8Array.of(0x61, 0xff))).toBeUndefined();
  expect(asText("image/png", Uint8Array.of(0x61))).toBeUndefined();
  expect(asText("application/json", Buffer.from('"ä"'))).toBe('"ä"');
});
