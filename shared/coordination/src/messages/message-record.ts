/** What a message is, and what is known of its way to one receiver. */
import type { Json } from "@mcp-swarm/core";

/** Largest payload, in bytes of JSON; longer things belong in a file or in shared state, which a message names. */
export const PAYLOAD_BYTES_MAX = 262_144;
/** Most characters of a payload once it is sealed: signed and encrypted, each in base64url. */
export const SEALED_CHARS_MAX = 2 * PAYLOAD_BYTES_MAX;
/** 9 is the most urgent. */
export const PRIORITY_MAX = 9;
export const PRIORITY_DEFAULT = 5;
/** Most messages that may have led to one another; a longer chain is two agents that answer each other without end. */
export const HOPS_MAX = 64;
/** Longest `ttlMs`, `ackWithinMs` and delay of an acknowledgement, and how far ahead `notBefore` may lie. */
export const AHEAD_MS_MAX = 30 * 24 * 3_600_000;

/** Longest reason of an acknowledgement, in characters. */
export const REASON_CHARS_MAX = 500;

/** Index rows that one call looks at; what it did not look at is behind the cursor it answers. */
export const LOOKED_AT_MAX = 500;

/** Types with a common meaning; any other label may be used too. */
export const MESSAGE_TYPES = [
  "task_assignment",
  "result_sharing",
  "status_update",
  "coordination_request",
  "error_notification",
] as const;

/** Whom a message was sent to: one agent, or all that something is said of. */
export type Audience = {
  readonly kind: "agent" | "all" | "type" | "capability" | "topic" | "workflow" | "vote";
  /** The agent, type, capability, topic, workflow or vote; absent for `all`. */
  readonly name?: string;
};

/** Written once, never changed. `from`, `verified`, `sentAt`, `order` and `hops` are the server's alone. */
export type MessageRecord = {
  readonly id: string;
  readonly from: string;
  /** Whether a credential proved the sender's name. */
  readonly verified: boolean;
  readonly sentAt: number;
  /** Its place among messages of one priority; rises from each message of a sender to the next. */
  readonly order: string;
  readonly audience: Audience;
  readonly messageType: string;
  /** Of an encrypted message the sealed text. */
  readonly payload: Json;
  /** Sealed by its sender so that only its receiver and the sender itself can read it. */
  readonly encrypted?: true;
  readonly priority: number;
  /** Of the thread; the message's own id when it begins one. */
  readonly correlationId: string;
  /** The message that this one answers. */
  readonly replyTo?: string;
  /** How many messages led to this one. */
  readonly hops: number;
  /** Not delivered before. */
  readonly notBefore?: number;
  /** The sender's own end of it: from then on nobody gets it. */
  readonly expiresAt?: number;
  /** By when the sender asks for an acknowledgement. */
  readonly ackDueAt?: number;
  /** When the message and all that is known of it is forgotten; `expiresAt` where there is one. */
  readonly keptUntil: number;
};

/**
 * `ready`: the next reader gets it. `delayed`: it becomes ready at `dueAt`. `in_flight`: somebody has it and may acknowledge it
 * until `dueAt`, when it comes again. `done`: acknowledged. `dead`: rejected, or delivered too often.
 */
export const DELIVERY_STATES = ["ready", "delayed", "in_flight", "done", "dead"] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** One message on its way to one receiver. It repeats of the message what its index rows are made from. */
export type Delivery = Readonly<Pick<MessageRecord, "id" | "from" | "messageType" | "priority" | "order">> &
  Readonly<Pick<MessageRecord, "correlationId" | "hops" | "keptUntil" | "ackDueAt">> & {
    readonly to: string;
    /** It was published in a topic. */
    readonly topic?: true;
    readonly state: DeliveryState;
    /** How often it was handed out. */
    readonly deliveries: number;
    /** Of `delayed` and `in_flight`. */
    readonly dueAt?: number;
    /** The server process that the reader lives in. Of `in_flight`. */
    readonly processId?: string;
    /** When it was acknowledged or died. */
    readonly endedAt?: number;
    /** Why it died: `rejected` by its receiver, or `undelivered` after the last delivery. */
    readonly cause?: "rejected" | "undelivered";
    /** What its receiver said when it put the message off or rejected it. */
    readonly reason?: string;
  };

/** The agent whose process speaks: of `build-7/reviewer` it is `build-7`. */
export function rootOf(agentId: string): string {
  const slash = agentId.indexOf("/");
  return slash < 0 ? agentId : agentId.slice(0, slash);
}
