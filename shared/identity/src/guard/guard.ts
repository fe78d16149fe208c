/** The one place a call passes on its way to the domain: who it is, may they, and that it is written down. */
import type { JsonObject } from "@mcp-swarm/core";
import type { Call } from "../call.ts";
import type { Caller } from "../caller.ts";
import type { Once } from "../idempotency.ts";

/** What a call is about to do. */
export interface Operation {
  /** For example `task:claim`. */
  readonly operation: string;
  /** For example `task/build-7`. */
  readonly resource: string;
  readonly arguments?: JsonObject;
  /** The tool or resource that asks, for the audit log. */
  readonly tool?: string;
}

/** A call that was let in. */
export interface Admission {
  /** Its deciding transaction carries the audit entry, and is decided again when it runs: a call that waited may not outlive a revocation. */
  readonly call: Call;
  /** Aborted, with the refusal as its reason, when the caller is no longer let in; absent where nobody can be sent away. */
  readonly ended?: AbortSignal;
  /**
   * Awaited before any answer leaves: what no transaction has carried is written down now, with what the operation failed with.
   * @throws SwarmError permission_denied, unauthenticated when what was read may no longer be shown; unavailable when nothing can be written down
   */
  settle(failure?: unknown): Promise<void>;
}

export interface Guard {
  /** Whether names are proven and policy is in force. */
  readonly secured: boolean;
  /**
   * Whether this process may act at all: its own agent is a member in good standing, or it needs none.
   * @throws SwarmError unauthenticated, permission_denied, failed_precondition (an open process in a secured swarm)
   */
  checkProcess(): void;
  /** Tells whenever what is let in may be other than before. */
  onChange(told: () => void): Disposable;
  /**
   * @throws SwarmError unauthenticated, permission_denied (both written down), limit_exceeded (rate),
   *   unavailable (no bundle that can be trusted, or the audit log cannot be written)
   */
  admit(caller: Caller, operation: Operation, once?: Once): Promise<Admission>;
  /**
   * Lets a caller see a list of which `stillAdmits` decides each item, and writes that down.
   * @throws SwarmError unauthenticated, permission_denied, limit_exceeded, unavailable
   */
  admitList(caller: Caller, operation: Omit<Operation, "resource">): Promise<void>;
  /** Whether the operation would be let in now, without writing anything; for what goes on after it was let in (subscriptions). */
  stillAdmits(caller: Caller, operation: Operation): boolean;
  /** Writes down what is still only counted, and stops its background work. */
  close(): Promise<void>;
}
