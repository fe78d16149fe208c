/** Copies of checkpoints in a file outside the database, which whoever can write the database cannot change: one JSON string a line. */
import { appendFile, mkdir } from "node:fs/promises";
import { dirname } from "node:path";

/** Most copies that wait for a file that cannot be written. */
const WAITING_MAX = 1_000;

export class Copies {
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  #waiting: string[] = [];

  constructor(path: string, onError: (error: unknown) => void) {
    this.#path = path;
    this.#onError = onError;
  }

  /** Never rejects: what could not be written is written with the next one. */
  async add(note: string): Promise<void> {
    this.#waiting.push(`\n${JSON.stringify(note)}\n`); // a line that a killed process did not finish ends here
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
    const lines = this.#waiting;
    this.#waiting = [];
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
      await appendFile(this.#path, lines.join(""), { mode: 0o600 });
    } catch (error) {
      this.#waiting = [...lines, ...this.#waiting];
      this.#onError(error);
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
