/** Output on its way from a sandbox to whoever follows it: gathered, written a few times a second, and never more than was agreed on. */
import type { Clock } from "@mcp-swarm/core";

/** What is written at once, and how far apart two writes are at least, in bytes and ms. */
export const FLOW_CHUNK_BYTES_MAX = 256 * 1024;
export const FLOW_GAP_MS = 250;

export type StreamName = "stdout" | "stderr";
export type OutputChunk = { readonly stream: StreamName; readonly bytes: Uint8Array };

export interface OutputFlowOptions {
  readonly clock: Clock;
  /** Of both streams together; a driver that gives more is not believed. */
  readonly bytesMax: number;
  readonly write: (chunks: readonly OutputChunk[]) => Promise<void>;
  /** Told of a write that failed. What it held is not written again: it comes with the end, which has everything. */
  readonly onError: (error: unknown) => void;
}

export class OutputFlow {
  readonly #options: OutputFlowOptions;
  readonly #whole: OutputChunk[] = [];
  #bytes = 0;
  /** How much of `#whole` has been handed to `write`. */
  #handed = 0;
  #timer: Disposable | undefined;
  #writing: Promise<void> | undefined;
  #ended = false;

  constructor(options: OutputFlowOptions) {
    this.#options = options;
  }

  push(stream: StreamName, bytes: Uint8Array): void {
    if (this.#ended || bytes.length === 0) return;
    const room = this.#options.bytesMax - this.#bytes;
    if (room <= 0) return;
    const taken = Uint8Array.prototype.slice.call(bytes, 0, room); // a driver may use its buffer again
    this.#bytes += taken.length;
    this.#whole.push({ stream, bytes: taken });
    this.#arm();
  }

  /** No more comes. Waits for the write under way, and answers all that came; what was not written yet is the caller's to write. */
  async end(): Promise<{ stdout: Uint8Array; stderr: Uint8Array }> {
    this.#ended = true;
    this.#timer?.[Symbol.dispose]();
    await this.#writing;
    const whole = (name: StreamName) =>
      Buffer.concat(this.#whole.filter(({ stream }) => stream === name).map(({ bytes }) => bytes));
    return { stdout: whole("stdout"), stderr: whole("stderr") };
  }

  #arm(): void {
    if (this.#timer || this.#writing || this.#ended) return;
    this.#timer = this.#options.clock.timer(FLOW_GAP_MS, () => {
      this.#timer = undefined;
      this.#writing = this.#write().finally(() => {
        this.#writing = undefined;
        if (this.#handed < this.#whole.length) this.#arm();
      });
    });
  }

  async #write(): Promise<void> {
    const chunks: OutputChunk[] = [];
    let bytes = 0;
    for (; this.#handed < this.#whole.length; this.#handed++) {
      const next = this.#whole[this.#handed];
      if (!next || (bytes > 0 && bytes + next.bytes.length > FLOW_CHUNK_BYTES_MAX)) break;
      bytes += next.bytes.length;
      const last = chunks.at(-1);
      if (last?.stream === next.stream) {
        chunks[chunks.length - 1] = { stream: last.stream, bytes: Buffer.concat([last.bytes, next.bytes]) };
      } else chunks.push(next);
    }
    await this.#options.write(chunks).catch(this.#options.onError);
  }
}
