/**
 * How a worker and an interpreter speak over its stdin and stdout: frames of a type, a length and bytes. Both sides run this file, so it
 * knows nothing of either. What an interpreter sends is to be taken as code wrote it: it may be forged, and everything in it is bounded.
 */

/** Worker → interpreter. */
export const START = 1;
export const RUN = 2;
/** Interpreter → worker. */
export const READY = 3;
export const STDOUT = 4;
export const STDERR = 5;
export const FILE = 6;
export const FILE_BYTES = 7;
export const END = 8;
export const SNAPSHOT_BYTES = 9;

/** Largest payload of a frame, in bytes: a task with all its inputs. */
export const FRAME_BYTES_MAX = 16 * 1_048_576;
/** What is longer is sent in parts of this size, in bytes. */
export const PART_BYTES = 262_144;
const HEAD_BYTES = 5;

/** What an interpreter is started with. */
export type Start = {
  /** Where Pyodide is, as a file URL that ends in a slash. */
  readonly pyodide: string;
  /** Most pages of 64 KiB that Python's memory may have. */
  readonly pages: number;
  /** File with the memory of an interpreter that had just started; without one it makes one and sends it. */
  readonly snapshot?: string;
};

export type Ready = { readonly python: string; readonly pyodide: string; readonly deno: string };

export type Run = {
  readonly code: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** In base64, as the files' bytes. */
  readonly stdin: string;
  readonly files: readonly { readonly path: string; readonly bytes: string }[];
  readonly fileBytes: number;
  readonly diskBytes: number;
  readonly filesMax: number;
  readonly valueBytes: number;
};

export type End = {
  readonly code: number;
  readonly limit?: "memoryMiB" | "fileBytes" | "diskBytes";
  /** JSON. */
  readonly value?: string;
  /** How large a value was that is not there for that. */
  readonly valueBytes?: number;
  readonly refused: readonly { readonly path: string; readonly because: string }[];
  /** Nothing more can be run in it. */
  readonly dead: boolean;
};

export function frame(type: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEAD_BYTES + payload.length);
  bytes[0] = type;
  new DataView(bytes.buffer).setUint32(1, payload.length);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

export function jsonFrame(type: number, value: unknown): Uint8Array<ArrayBuffer> {
  return frame(type, new TextEncoder().encode(JSON.stringify(value)));
}

/** Takes bytes as they come and gives whole frames. */
export class FrameReader {
  readonly #take: (type: number, payload: Uint8Array) => void;
  readonly #head = new Uint8Array(HEAD_BYTES);
  #headLength = 0;
  #payload: Uint8Array | undefined;
  #payloadLength = 0;

  constructor(take: (type: number, payload: Uint8Array) => void) {
    this.#take = take;
  }

  /** @returns false when a frame is longer than any may be, or has nothing in it: nothing more can be read */
  push(bytes: Uint8Array): boolean {
    let at = 0;
    while (at < bytes.length) {
      if (this.#payload === undefined) {
        const head = bytes.subarray(at, at + HEAD_BYTES - this.#headLength);
        this.#head.set(head, this.#headLength);
        this.#headLength += head.length;
        at += head.length;
        if (this.#headLength < HEAD_BYTES) return true;
        const length = new DataView(this.#head.buffer).getUint32(1);
        if (length === 0 || length > FRAME_BYTES_MAX) return false;
        this.#payload = new Uint8Array(length);
        this.#payloadLength = 0;
      }
      const part = bytes.subarray(at, at + this.#payload.length - this.#payloadLength);
      this.#payload.set(part, this.#payloadLength);
      this.#payloadLength += part.length;
      at += part.length;
      if (this.#payloadLength < this.#payload.length) return true;
      const payload = this.#payload;
      this.#payload = undefined;
      this.#headLength = 0;
      this.#take(this.#head[0] ?? 0, payload);
    }
    return true;
  }
}
