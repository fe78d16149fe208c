/** A promise that was broken. */
export class Violation extends Error {
  override readonly name = "Violation";

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

export function must(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Violation(message);
}
