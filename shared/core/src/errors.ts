/** The stable codes an error can carry; one per class of cause, the same for every server. */
export const ERROR_CODES = [
  "invalid_argument",
  "not_found",
  "already_exists",
  "conflict",
  "failed_precondition",
  "unauthenticated",
  "permission_denied",
  "limit_exceeded",
  "deadline_exceeded",
  "unavailable",
  "internal",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** Codes after which the same call may succeed without a change by the caller. */
const RETRYABLE: ReadonlySet<ErrorCode> = new Set(["conflict", "deadline_exceeded", "unavailable"]);

export interface ErrorOptions {
  /** What the reader should do next, as a full sentence. */
  hint?: string;
  /** Overrides what the code implies. */
  retryable?: boolean;
  cause?: unknown;
}

/**
 * The only error that the domain throws on purpose. `message` and `hint` reach the model, so they never contain text that
 * another agent wrote (ids, which are checked to be plain, may appear); `cause` goes to the log alone.
 */
export class SwarmError extends Error {
  override readonly name = "SwarmError";
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? RETRYABLE.has(code);
  }
}

/** A broken invariant of ours: never the caller's fault. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new SwarmError("internal", `Broken invariant: ${what}`);
}
