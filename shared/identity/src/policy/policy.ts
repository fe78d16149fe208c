/** A policy as a person writes it and as the signed bundle carries it. Its meaning is Cedar's: default deny, forbid wins; unlike Cedar, an error denies. */
import type { Json, JsonObject } from "@mcp-swarm/core";

/** Most policies of one swarm. */
export const POLICIES_MAX = 1_000;

/** A single value: what a bound compares with. */
export type Scalar = string | number | boolean | null;

/**
 * A bound on one value. All that are given must hold. What cannot be judged (the length of a number, a list where a single value is
 * compared) is an error, and an error denies.
 */
export interface Bound {
  /** Of an argument alone: whether the call has it. */
  readonly present?: boolean;
  readonly equals?: Scalar;
  readonly in?: readonly Scalar[];
  /** Of a number. */
  readonly min?: number;
  readonly max?: number;
  /** Of a text, in characters as JavaScript counts them, or of a list, in items. */
  readonly maxLength?: number;
  /** A text with wildcards: `*` stands for any characters. */
  readonly like?: string;
}

/**
 * What must hold besides who, what and on what. All that are given must hold, and each is looked at: one that is not known, or
 * cannot be judged, denies, even where another does not hold.
 */
export interface Conditions {
  /**
   * UTC. `from` is included, `to` is not; without `from` it begins at midnight, without `to` it ends there; `from` after `to` goes
   * over midnight. `days`, on which it begins: 0 is Sunday.
   */
  readonly time?: { readonly from?: string; readonly to?: string; readonly days?: readonly number[] };
  /**
   * Of a permit alone. `max` operations at once, and in the long run `max` in each `perMs` (a token bucket: see `takeRate`), counted
   * per agent, its subagents included, and policy.
   */
  readonly rate?: { readonly max: number; readonly perMs: number };
  /**
   * Path into the call's arguments → what holds there. `priority`, `task.priority`; `*` stands for each item of a list or member of
   * an object: `tasks.*.priority`. Then a permit needs the bound to hold for all of them, a forbid for any.
   *
   * What a call leaves out is a value of its own, for which no bound holds but `present: false`. So a permit with a bound needs the
   * argument, and a forbid does not touch calls without it; `present: false` is how a policy speaks of those.
   */
  readonly arguments?: Readonly<Record<string, Bound>>;
  /** Of the agent, as it was enrolled: name → what holds. An attribute that the agent has not is an error. */
  readonly attributes?: Readonly<Record<string, Bound>>;
  /** Path into what the asker of a decision says besides → what holds there; what is missing is an error. Calls of tools say nothing. */
  readonly context?: Readonly<Record<string, Bound>>;
}

export interface Policy {
  readonly id: string;
  readonly effect: "permit" | "forbid";
  readonly description?: string;
  /**
   * Agent ids with wildcards, and roles; whoever is named by either is meant, and everybody when both are absent. Who names an agent
   * names its subagents.
   */
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
  /** The agent, or a subagent of it. */
  readonly agentId: string;
  readonly roles: readonly string[];
  readonly attributes: Readonly<Record<string, Json>>;
  readonly operation: string;
  /**
   * A star at the end (`task/*`) stands for whatever begins so: the call may touch any of it. A permit must then cover all of it,
   * and a forbid of any part denies.
   */
  readonly resource: string;
  /** Absent: not known, so that a policy which bounds arguments cannot be judged. A call without arguments has an empty object. */
  readonly arguments?: JsonObject;
  readonly context?: JsonObject;
  /** Ms since the epoch. */
  readonly now: number;
}

/**
 * Why. `no_policy`: nobody is permitted this. `insufficient_permissions`: others are. `condition_not_met`: the agent would be, if a
 * condition held. `condition_error`: a condition that applies could not be judged (and no forbid holds).
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
  /** The policies that decided, at most `DECIDING_MAX` of them: those that hold, do not hold or cannot be judged, as `reason` says. */
  readonly policyIds: readonly string[];
  /** One plain sentence for whoever asked; holds no text of other agents. */
  readonly details: string;
  /** Of the permits that decided; empty when one of them has no rate. Otherwise the operation goes on when any one has room. */
  readonly rates: readonly RateLimit[];
}
