/** A policy as a person writes it and as the signed bundle carries it. Its meaning is Cedar's: default deny, forbid wins; unlike Cedar, an error denies. */
import type { Json, JsonObject } from "@mcp-swarm/core";

/** A bound on one value. All that are given must hold. */
export interface Bound {
  readonly equals?: Json;
  readonly in?: readonly Json[];
  /** Of a number. */
  readonly min?: number;
  readonly max?: number;
  /** Of a text, in characters, or of a list, in items. */
  readonly maxLength?: number;
  /** A text with wildcards: `*` stands for any characters. */
  readonly like?: string;
}

/** What must hold besides who, what and on what. All that are given must hold; one that is not known, or cannot be judged, denies. */
export interface Conditions {
  /** UTC. `from` is included, `to` is not; `from` after `to` goes over midnight. `days`: 0 is Sunday. */
  readonly time?: { readonly from?: string; readonly to?: string; readonly days?: readonly number[] };
  /** At most `max` operations in any `perMs`, counted per agent (its subagents included) and policy. */
  readonly rate?: { readonly max: number; readonly perMs: number };
  /** Path into the call's arguments, for example `priority` or `task.priority` → what holds there. */
  readonly arguments?: Readonly<Record<string, Bound>>;
  /** Of the agent, as it was enrolled. */
  readonly attributes?: Readonly<Record<string, Bound>>;
  /** Of what the asker of a decision says besides. Calls of tools have none. */
  readonly context?: Readonly<Record<string, Bound>>;
}

export interface Policy {
  readonly id: string;
  readonly effect: "permit" | "forbid";
  readonly description?: string;
  /** Agent ids with wildcards, and roles; whoever is named by either is meant, and everybody when both are absent. */
  readonly agents?: readonly string[];
  readonly roles?: readonly string[];
  /** With wildcards: `task:*`, `*:read`. */
  readonly operations: readonly string[];
  /** With wildcards: `task/build-*`; absent: any. */
  readonly resources?: readonly string[];
  readonly when?: Conditions;
}

/** One question: may this agent do this to that, now? */
export interface PolicyRequest {
  readonly agentId: string;
  readonly roles: readonly string[];
  readonly attributes: Readonly<Record<string, Json>>;
  readonly operation: string;
  readonly resource: string;
  readonly arguments?: JsonObject;
  readonly context?: JsonObject;
  /** Ms since the epoch. */
  readonly now: number;
}

/**
 * Why. `no_policy`: nobody is permitted this. `insufficient_permissions`: others are. `condition_not_met`: the agent would be, if a
 * condition held. `condition_error`: a condition that applies could not be judged.
 */
export type PolicyReason =
  | "permitted"
  | "forbidden"
  | "no_policy"
  | "insufficient_permissions"
  | "condition_not_met"
  | "condition_error";

/** What a permitted operation still has to pass: the count of it lies in the store. */
export interface RateLimit {
  readonly policyId: string;
  readonly max: number;
  readonly perMs: number;
}

export interface Decision {
  readonly authorized: boolean;
  readonly reason: PolicyReason;
  /** The policies that decided. */
  readonly policyIds: readonly string[];
  /** One plain sentence for whoever asked; holds no text of other agents. */
  readonly details: string;
  /** Of the permits that decided; the operation goes on when any one permit has no rate, or room. Forbids have none. */
  readonly rates: readonly RateLimit[];
}
