/** A message as it is stored, for every server that reads messages. What becomes of one at its receivers is agent-comm's. */
import type { Json } from "@mcp-swarm/core";

/** Whom a message was sent to: one agent, or all that something is said of. */
export type Audience = {
  readonly kind: "agent" | "all" | "type" | "capability" | "topic" | "workflow";
  /** The agent, type, capability, topic or workflow; absent for `all`. */
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
  readonly payload: Json;
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
