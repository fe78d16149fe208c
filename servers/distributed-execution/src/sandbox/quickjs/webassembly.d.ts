/** What is used of WebAssembly; Node's own types leave it out, and those of browsers bring much that is not there. */
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Memory {
    constructor(descriptor: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
    /** @throws RangeError beyond the maximum */
    grow(pages: number): number;
  }
}
