/** Whatever messages hold, an answer with as many as one call gives fits, and says how to read what it cut. */
import type { Delivery, MessageRecord } from "@mcp-swarm/coordination/messages";
import type { Json } from "@mcp-swarm/core";
import { ANSWER_BYTES_MAX } from "@mcp-swarm/server";
import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { ShownMessage } from "../src/envelopes.ts";
import { MESSAGES_MAX } from "../src/inbox.ts";
import { TROUBLED_MAX } from "../src/tools/message-schemas.ts";
import { payloadText, troubledViews, views } from "../src/tools/message-views.ts";

const LONGEST = "x".repeat(64);

const text = fc
  .tuple(
    fc.constantFrom("a", '"', "\\", "\u0001", "\n", "é", "漢", "😀", "mixed \u0007 é漢😀"),
    fc.integer({ min: 0, max: 4_000 }),
  )
  .map(([part, times]) => part.repeat(times));

const payload = fc.oneof(text, fc.record({ text, list: fc.array(fc.integer(), { maxLength: 50 }) }), fc.constant(null));

const unopened = fc.option(fc.integer({ min: 1, max: 400 }), { nil: undefined });

const message = fc.record({ payload, long: fc.boolean(), unopened }).map(({ payload, long, unopened }): ShownMessage => {
  const shown = messageOf(payload, long);
  return unopened === undefined ? shown : { ...shown, encrypted: true, unopened: "why ".repeat(unopened) };
});

function messageOf(payload: Json, long: boolean): MessageRecord {
  return {
    ...{ id: "msg-0123456789bc", from: long ? LONGEST : "a", verified: false, sentAt: 1_750_000_000_000 },
    ...{ order: "0", audience: { kind: "capability", name: LONGEST }, messageType: long ? LONGEST : "note", payload },
    ...{ priority: 5, correlationId: long ? LONGEST : "msg-0123456789bc", replyTo: "msg-0123456789bc", hops: 64 },
    ...{ expiresAt: 1_750_000_000_000, ackDueAt: 1_750_000_000_000, keptUntil: 1_750_000_000_000 },
  };
}

/** What the server puts around every answer, at its longest. */
const around = {
  nextCursor: "x".repeat(400),
  caller: { agentId: LONGEST, verified: false },
  untrusted: ["messages[].payload", "messages[].reason"],
};

const bytes = (answer: object) => Buffer.byteLength(JSON.stringify({ ...answer, ...around }));

function checkCuts(
  messages: readonly ShownMessage[],
  shown: readonly { payload: unknown; unopened?: string; cut?: { readOn: string; missingChars: number } }[],
) {
  expect(shown).toHaveLength(messages.length);
  for (const [at, view] of shown.entries()) {
    const reason = messages[at]?.unopened;
    if (reason !== undefined) {
      expect(view.payload).toBeNull();
      expect(reason.startsWith(view.unopened ?? "none")).toBe(true);
      continue;
    }
    const original = messages[at]?.payload ?? null;
    if (view.cut === undefined) {
      expect(view.payload).toEqual(original);
      continue;
    }
    const whole = payloadText(original);
    const part = String(view.payload);
    expect(whole.startsWith(part)).toBe(true);
    expect(view.cut.missingChars).toBe(whole.length - part.length);
    expect(view.cut.readOn).toContain(`"offset":${part.length}}`);
    expect(part.isWellFormed()).toBe(true);
  }
}

test("as many messages as one call gives fit one answer, and what is cut says how to read on", () => {
  verifies("CORE-11");
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: MESSAGES_MAX, size: "max" }), (messages) => {
      const shown = views(
        messages,
        messages.map(() => ({ deliveries: 5, overdue: true as const })),
      );
      expect(bytes({ messages: shown })).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      checkCuts(messages, shown);
    }),
  );
});

test("so do dead letters with their reasons", () => {
  verifies("CORE-11");
  fc.assert(
    fc.property(fc.array(fc.tuple(message, text), { minLength: 1, maxLength: TROUBLED_MAX, size: "max" }), (letters) => {
      const items = letters.map(([message, reason]) => {
        const delivery: Delivery = {
          ...message,
          to: LONGEST,
          state: "in_flight",
          deliveries: 5,
          reason: reason.slice(0, 500).toWellFormed(),
        };
        return { message, delivery };
      });
      const shown = troubledViews(items, () => ({
        cause: "undelivered",
        diedAt: 1_750_000_000_000,
        role: "receiver",
        overdueMs: 1e12,
      }));
      expect(bytes({ messages: shown })).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
      checkCuts(
        items.map(({ message }) => message),
        shown,
      );
    }),
  );
});

test("also when every field is as long as it may be and every character takes six bytes", () => {
  verifies("CORE-11");
  const worst = messageOf("\u0001".repeat(200_000), true);
  const many = Array.from({ length: MESSAGES_MAX }, () => worst);
  const shown = views(
    many,
    many.map(() => ({ deliveries: 5, overdue: true as const })),
  );
  expect(bytes({ messages: shown })).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
  const delivery: Delivery = { ...worst, to: LONGEST, state: "in_flight", deliveries: 5, reason: "\u0001".repeat(500) };
  const letters = troubledViews(
    Array.from({ length: TROUBLED_MAX }, () => ({ message: worst, delivery })),
    () => ({ cause: "undelivered", diedAt: 1_750_000_000_000, role: "receiver", overdueMs: 1e12 }),
  );
  expect(bytes({ messages: letters })).toBeLessThanOrEqual(ANSWER_BYTES_MAX);
});

test("short payloads are whole beside long ones", () => {
  const messages = ["x".repeat(100_000), "short", "y".repeat(100_000)].map((payload) => messageOf(payload, true));
  const shown = views(
    messages,
    messages.map(() => ({})),
  );
  expect(shown[1]?.payload).toBe("short");
  for (const at of [0, 2]) expect(String(shown[at]?.payload).length).toBeGreaterThan(7_000);
});
