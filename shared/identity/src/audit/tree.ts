/** A Merkle tree that only grows, as RFC 6962 section 2.1 hashes it, kept as the roots of its full subtrees, the largest first. */
import { hash } from "node:crypto";

const sha256 = (...parts: readonly Uint8Array[]): Buffer => hash("sha256", Buffer.concat(parts), "buffer");
const LEAF = Buffer.from([0]);
const NODE = Buffer.from([1]);

export class Tree {
  #size: number;
  readonly #roots: Buffer[];

  /** @param roots as many as `size` has binary digits that are 1; see `roots` */
  constructor(size = 0, roots: readonly Buffer[] = []) {
    this.#size = size;
    this.#roots = [...roots];
  }

  /** Of leaves. */
  get size(): number {
    return this.#size;
  }

  get roots(): readonly Buffer[] {
    return this.#roots;
  }

  append(leaf: Uint8Array): void {
    let node = sha256(LEAF, leaf);
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      node = sha256(NODE, this.#roots.pop() ?? Buffer.alloc(0), node);
    }
    this.#roots.push(node);
    this.#size += 1;
  }

  root(): Buffer {
    return (
      this.#roots.reduceRight<Buffer | undefined>((right, left) => (right ? sha256(NODE, left, right) : left), undefined) ??
      sha256()
    );
  }
}
