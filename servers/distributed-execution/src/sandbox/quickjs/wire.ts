/**
 * How a worker and a child speak over the child's stdin and stdout: frames of a kind, a length, a JSON head and bytes. One frame each way
 * is all that a short task costs. Both sides run this file, so it knows nothing of either.
 */
import type { Cut, Limits, Usage } from "../driver.ts";

/** Worker → child. */
export const RUN = 1;
/** Child → worker. */
export const READY = 2;
export const STDOUT = 3;
export const STDERR = 4;
export const ENDED = 5;

/** Kind, length of the head, length of the bytes. */
export const PREFIX_BYTES = 9;
const HEAD_LENGTH_AT = 1;
const BODY_LENGTH_AT = 5;

/** What a task's frame says; the bytes are code, stdin and files, one behind the other. */
export type RunHead = {
  readonly runtime: "javascript" | "typescript";
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly limits: Limits;
  readonly codeBytes: number;
  readonly stdinBytes: number;
  readonly files: readonly FileHead[];
  /** Goes on where the task before it ended, and leaves its state to the next. */
  readonly session: boolean;
};

export type FileHead = { readonly path: string; readonly bytes: number };

/** What the end of a task says; the bytes are the files. */
export type EndHead = {
  readonly ending: { readonly code: number } | { readonly limit: keyof Limits };
  /** As JSON. */
  readonly value?: string;
  readonly usage: Usage;
  readonly cut: Cut;
  readonly files: readonly FileHead[];
  /** Whether another task may be run in this child. */
  readonly usable: boolean;
};

export type Frame = { readonly kind: number; readonly head: Uint8Array; readonly body: Uint8Array };

const ENCODER = new TextEncoder();

/** A frame in pieces, to be written one behind the other. */
export function framePieces(kind: number, head: unknown, body: readonly Uint8Array[]): Uint8Array[] {
  const headBytes = head === undefined ? new Uint8Array(0) : ENCODER.encode(JSON.stringify(head));
  const prefix = new Uint8Array(PREFIX_BYTES);
  prefix[0] = kind;
  const view = new DataView(prefix.buffer);
  view.setUint32(HEAD_LENGTH_AT, headBytes.length);
  view.setUint32(
    BODY_LENGTH_AT,
    body.reduce((sum, { length }) => sum + length, 0),
  );
  return [prefix, headBytes, ...body];
}

export function readPrefix(bytes: Uint8Array): { kind: number; headBytes: number; bodyBytes: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, PREFIX_BYTES);
  return { kind: view.getUint8(0), headBytes: view.getUint32(HEAD_LENGTH_AT), bodyBytes: view.getUint32(BODY_LENGTH_AT) };
}

/** Takes bytes as they come and gives whole frames. */
export class FrameReader {
  readonly #bytesMax: number;
  readonly #take: (frame: Frame) => void;
  #pending: Uint8Array[] = [];
  #length = 0;
  #wanted = PREFIX_BYTES;

  /** @param bytesMax of one frame */
  constructor(bytesMax: number, take: (frame: Frame) => void) {
    this.#bytesMax = bytesMax;
    this.#take = take;
  }

  /** @returns false when a frame is longer than any may be: nothing more can be read */
  push(bytes: Uint8Array): boolean {
    this.#pending.push(bytes);
    this.#length += bytes.length;
    while (this.#length >= this.#wanted) {
      const joined = this.#pending.length === 1 ? (this.#pending[0] ?? bytes) : Buffer.concat(this.#pending);
      const { kind, headBytes, bodyBytes } = readPrefix(joined);
      const whole = PREFIX_BYTES + headBytes + bodyBytes;
      if (whole > this.#bytesMax) return false;
      this.#pending = [joined];
      this.#wanted = whole;
      if (joined.length < whole) break;
      const bodyAt = PREFIX_BYTES + headBytes;
      const rest = joined.subarray(whole);
      this.#pending = rest.length > 0 ? [rest] : [];
      this.#length = rest.length;
      this.#wanted = PREFIX_BYTES;
      this.#take({ kind, head: joined.subarray(PREFIX_BYTES, bodyAt), body: joined.subarray(bodyAt, whole) });
    }
    return true;
  }
}
