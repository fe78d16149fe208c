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
}

/** A call that was let in. */
export interface Admission {
  /** Its deciding transaction carries the audit entry, and is decided again when it runs: a call that waited may not outlive a revocation. */
  readonly call: Call;
  /** Awaited before any answer leaves, also when the operation failed: what no transaction has carried is written down now. */
  settle(): Promise<void>;
}

export interface Guard {
  /** Whether names are proven and policy is in force. */
  readonly secured: boolean;
  /**
   * @throws SwarmError unauthenticated, permission_denied (both written down), limit_exceeded (rate),
   *   unavailable (no bundle that can be trusted, or the audit log cannot be written)
   */
  admit(caller: Caller, operation: Operation, once?: Once): Promise<Admission>;
  /** Whether the operation would be let in now, without writing anything; for what goes on after it was let in (subscriptions). */
  stillAdmits(caller: Caller, operation: Operation): boolean;
}
