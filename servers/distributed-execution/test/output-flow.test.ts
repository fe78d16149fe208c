import { type ManualClock, manualClock } from "@mcp-swarm/core";
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  FLOW_CHUNK_BYTES_MAX,
  FLOW_GAP_MS,
  type OutputChunk,
  OutputFlow,
  type OutputFlowOptions,
} from "../src/worker/output-flow.ts";

let clock: ManualClock;
let written: OutputChunk[][];
let errors: unknown[];
beforeEach(() => {
  clock = manualClock();
  written = [];
  errors = [];
});

function flowing(more: Partial<OutputFlowOptions> = {}): OutputFlow {
  return new OutputFlow({
    ...{ clock, bytesMax: 1_000_000, onError: (error) => errors.push(error) },
    write: async (chunks) => void written.push([...chunks]),
    ...more,
  });
}

const text = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString();
const say = (flow: OutputFlow, words: string, stream: "stdout" | "stderr" = "stdout") => flow.push(stream, Buffer.from(words));

describe("output on its way", () => {
  test("of a short run is not written before its end, which has all of it", async () => {
    verifies("EXEC-02");
    const flow = flowing();
    say(flow, "out ");
    say(flow, "err", "stderr");
    say(flow, "more");
    const whole = await flow.end();
    expect([text(whole.stdout), text(whole.stderr)]).toEqual(["out more", "err"]);
    await clock.advance(10 * FLOW_GAP_MS);
    expect(written).toEqual([]);
  });

  test("is written at most every quarter of a second, in order, what came between together", async () => {
    verifies("EXEC-02");
    const flow = flowing();
    for (let n = 0; n < 100; n++) {
      say(flow, `${n},`, n % 50 < 40 ? "stdout" : "stderr");
      await clock.advance(10);
    }
    await clock.advance(FLOW_GAP_MS);
    expect(written.length).toBeGreaterThanOrEqual(3);
    expect(written.length).toBeLessThanOrEqual(1 + 1_000 / FLOW_GAP_MS);
    const all = written.flat();
    expect(all.length).toBeLessThanOrEqual(written.length + 4);
    expect(all.map(({ bytes }) => text(bytes)).join("")).toBe(Array.from({ length: 100 }, (_, n) => `${n},`).join(""));
    const before = written.length;
    await clock.advance(10 * FLOW_GAP_MS);
    expect(written.length).toBe(before);
  });

  test("waits for the write under way, which holds a bounded part, and does not begin another at the end", async () => {
    let release = () => {};
    const flow = flowing({
      write: async (chunks) => {
        written.push([...chunks]);
        await new Promise<void>((resolve) => {
          release = resolve;
        });
      },
    });
    for (let n = 0; n < 6; n++) say(flow, "x".repeat(FLOW_CHUNK_BYTES_MAX / 2));
    await clock.advance(FLOW_GAP_MS);
    expect(written).toHaveLength(1);
    let over = false;
    const ended = flow.end().then((whole) => {
      over = true;
      return whole;
    });
    await clock.advance(FLOW_GAP_MS);
    expect(over).toBe(false);
    release();
    expect((await ended).stdout.length).toBe(3 * FLOW_CHUNK_BYTES_MAX);
    expect(written).toHaveLength(1);
    expect(written[0]?.[0]?.bytes.length).toBe(FLOW_CHUNK_BYTES_MAX);
  });

  test("survives a write that fails: the end has all of it", async () => {
    const flow = flowing({ write: async () => Promise.reject(new Error("away")) });
    say(flow, "kept");
    await clock.advance(FLOW_GAP_MS);
    say(flow, " too");
    expect(text((await flow.end()).stdout)).toBe("kept too");
    expect(errors).toHaveLength(1);
  });

  test("is what came, whatever the pieces, up to its bound and not a byte more", async () => {
    verifies("EXEC-07");
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({ stream: fc.constantFrom("stdout" as const, "stderr" as const), bytes: fc.uint8Array({ maxLength: 40 }) }),
        ),
        fc.nat(300),
        async (pieces, bytesMax) => {
          written = [];
          const flow = flowing({ bytesMax });
          for (const [n, { stream, bytes }] of pieces.entries()) {
            const reused = Uint8Array.from(bytes);
            flow.push(stream, reused);
            reused.fill(0); // the driver's buffer is its own
            if (n % 3 === 0) await clock.advance(FLOW_GAP_MS);
          }
          const whole = await flow.end();
          const expected = { stdout: [] as number[], stderr: [] as number[] };
          let left = bytesMax;
          for (const { stream, bytes } of pieces) {
            expected[stream].push(...bytes.slice(0, left));
            left -= Math.min(left, bytes.length);
          }
          expect([...whole.stdout]).toEqual(expected.stdout);
          expect([...whole.stderr]).toEqual(expected.stderr);
          const streamed = (name: string) => written.flat().flatMap(({ stream, bytes }) => (stream === name ? [...bytes] : []));
          expect(expected.stdout.slice(0, streamed("stdout").length)).toEqual(streamed("stdout"));
          expect(expected.stderr.slice(0, streamed("stderr").length)).toEqual(streamed("stderr"));
        },
      ),
    );
  });
});
