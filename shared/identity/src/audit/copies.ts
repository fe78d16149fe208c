/** Copies of checkpoints in a file outside the database, which whoever can write the database cannot change: one JSON string a line. */
import { appendFile, mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";

/** Most copies that wait for a file that cannot be written. */
const WAITING_MAX = 1_000;

export class Copies {
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  #waiting: string[] = [];
  #ready = false;

  constructor(path: string, onError: (error: unknown) => void) {
    this.#path = path;
    this.#onError = onError;
  }

  /** Never rejects: what could not be written is written with the next one. */
  async add(note: string): Promise<void> {
    this.#waiting.push(`${JSON.stringify(note)}\n`);
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
    const lines = this.#waiting;
    this.#waiting = [];
    try {
      if (!this.#ready) await this.#prepare();
      this.#ready = true;
      await appendFile(this.#path, lines.join(""), { mode: 0o600 });
    } catch (error) {
      this.#waiting = [...lines, ...this.#waiting];
      this.#onError(error);
    }
  }

  /** A line that a process did not finish, because it was killed, is closed: the next one stands by itself. */
  async #prepare(): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    const file = await open(this.#path, "a+", 0o600);
    try {
      const { size } = await file.stat();
      if (size === 0) return;
      const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1);
      if (buffer.toString() !== "\n") await file.appendFile("\n");
    } finally {
      await file.close();
    }
  }
}

/** The checkpoints of such a file. A line that a killed process did not finish is none. */
export function copiesIn(text: string): string[] {
  return text.split("\n").flatMap((line) => {
    try {
      const note: unknown = JSON.parse(line);
      return typeof note === "string" ? [note] : [];
    } catch {
      return [];
    }
  });
}
