/** Texts with wildcards: `*` stands for any characters, none included. There is no way to name a star itself; a wildcard covers it. */

/**
 * One such text, taken apart once. Matching goes through a text from left to right and never back: which occurrence of a piece
 * between two wildcards is taken never matters, so the first one is.
 */
export class Pattern {
  /** What stands before the first wildcard; the whole pattern when it has none. */
  readonly head: string;
  /** Undefined when there is no wildcard. */
  readonly #tail: string | undefined;
  readonly #middle: readonly string[];
  readonly #lengthMin: number;

  constructor(text: string) {
    const [head = "", ...rest] = text.split("*");
    this.head = head;
    this.#tail = rest.pop();
    this.#middle = rest.filter((piece) => piece !== "");
    this.#lengthMin = head.length + (this.#tail?.length ?? 0);
  }

  matches(text: string): boolean {
    if (this.#tail === undefined) return text === this.head;
    if (text.length < this.#lengthMin || !text.startsWith(this.head) || !text.endsWith(this.#tail)) return false;
    let at = this.head.length;
    const end = text.length - this.#tail.length;
    for (const piece of this.#middle) {
      const found = text.indexOf(piece, at);
      if (found < 0 || found + piece.length > end) return false;
      at = found + piece.length;
    }
    return true;
  }

  /** Whether it matches any text that begins with `stem`. */
  reachesInto(stem: string): boolean {
    if (this.head.length >= stem.length) return this.head.startsWith(stem);
    return this.#tail !== undefined && stem.startsWith(this.head); // the wildcard takes the rest of the stem
  }
}
