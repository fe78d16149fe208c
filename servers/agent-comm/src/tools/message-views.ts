/** Messages as an answer shows them: every one that was asked for, with as much of its payload as fits. */

import type { Delivery } from "@mcp-swarm/coordination/messages";
import { assert, type Json } from "@mcp-swarm/core";
import { ANSWER_BYTES_MAX } from "@mcp-swarm/server";
import type { z } from "zod";
import type { ShownMessage } from "../envelopes.ts";
import type { messageView, troubled } from "./message-schemas.ts";

/** Left for what stands around the messages: the caller, cursors, paths of untrusted text. */
const AROUND_BYTES = 1_500;
/** Left in each message for what a cut adds. */
const CUT_BYTES = 120;
/** Bytes of a reason. */
const REASON_BYTES = 160;

type View = z.input<ReturnType<typeof messageView>>;
type TroubledView = z.input<ReturnType<typeof troubled>>;

/** A payload as the text that it is read in. */
export function payloadText(payload: Json): string {
  return typeof payload === "string" ? payload : JSON.stringify(payload);
}

/** The longest beginning of a text that takes at most `bytes` as a JSON string, between whole characters. */
export function beginning(text: string, bytes: number): string {
  let used = 2; // the quotes
  let end = 0;
  for (const char of text) {
    used += jsonBytes(char);
    if (used > bytes) break;
    end += char.length;
  }
  return text.slice(0, end);
}

function jsonBytes(char: string): number {
  const code = char.codePointAt(0) ?? 0;
  if (code >= 0x80) return code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  if (code >= 0x20) return char === '"' || char === "\\" ? 2 : 1;
  return "\b\f\n\r\t".includes(char) ? 2 : 6;
}

/**
 * Messages whose payloads share what room an answer has: short ones are whole, and what they leave is for the long ones.
 * `extras` holds what else each view holds, in the order of the messages.
 */
export function views<T extends object>(messages: readonly ShownMessage[], extras: readonly T[]): (View & T)[] {
  const shells = extras.flatMap((extra, at) => {
    const message = messages[at];
    return message ? [{ ...shell(message), ...extra }] : [];
  });
  const sizes = messages.map(({ payload, unopened }) => Buffer.byteLength(JSON.stringify(unopened ?? payload)));
  const fixed = shells.map((view) => Buffer.byteLength(JSON.stringify(view)) + CUT_BYTES);
  let room = ANSWER_BYTES_MAX - AROUND_BYTES - fixed.reduce((a, b) => a + b, 0);
  let left = messages.length;
  const shares = new Map<number, number>();
  for (const at of [...sizes.keys()].sort((a, b) => (sizes[a] ?? 0) - (sizes[b] ?? 0))) {
    const share = Math.min(sizes[at] ?? 0, Math.max(0, Math.floor(room / left)));
    shares.set(at, share);
    room -= share;
    left -= 1;
  }
  return shells.map((view, at) => ({ ...view, ...shown(messages[at], sizes[at] ?? 0, shares.get(at) ?? 0) }));
}

/** One message, with as much of its payload as fits an answer of its own. */
export function view<T extends object>(message: ShownMessage, extra: T): View & T {
  const [shown] = views([message], [extra]);
  assert(shown, "a message has a view");
  return shown;
}

function shell(message: ShownMessage): Omit<View, "payload"> {
  const {
    id,
    from,
    verified,
    sentAt,
    messageType,
    priority,
    correlationId,
    replyTo,
    hops,
    expiresAt,
    ackDueAt,
    audience,
    encrypted,
  } = message;
  return {
    ...{ id, from, verified, sentAt, messageType, priority, correlationId, hops },
    ...(encrypted ? { encrypted } : {}),
    ...(replyTo === undefined ? {} : { replyTo }),
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ackDueAt === undefined ? {} : { ackDueAt }),
    ...(audience.kind === "agent" ? {} : { audience: { ...audience } }),
  };
}

function shown(
  message: ShownMessage | undefined,
  size: number,
  share: number,
): Pick<View, "payload"> & Partial<Pick<View, "cut" | "unopened">> {
  if (!message) return { payload: null };
  if (message.unopened !== undefined) return { payload: null, unopened: beginning(message.unopened, share) };
  if (size <= share) return { payload: message.payload };
  const text = payloadText(message.payload);
  const part = beginning(text, share);
  const readOn = `get_message {"messageId":"${message.id}","offset":${part.length}}`;
  return { payload: part, cut: { missingChars: text.length - part.length, readOn } };
}

/** Messages of which something is wrong, with what became of them at whom; `extra` is what else is told of each. */
export function troubledViews<I extends { readonly message: ShownMessage; readonly delivery: Delivery }, T extends object>(
  items: readonly I[],
  extra: (item: I) => T,
): (TroubledView & T)[] {
  const shells = items.map((item) => {
    const { to, state, deliveries, reason } = item.delivery;
    const said = reason === undefined ? {} : { reason: beginning(reason, REASON_BYTES) };
    return { to, status: state, deliveries, ...said, ...extra(item) };
  });
  return views(
    items.map(({ message }) => message),
    shells,
  );
}
