/** How a write ends that meets another's: chosen by the writer, or for the key by a policy. */
import { type Json, mergePatch, SwarmError } from "@mcp-swarm/core";
import type { Author, Head, Place } from "./state-record.ts";
import { placeName } from "./state-record.ts";

/**
 * - `reject`: the write names the revision it is based on, and fails when that is no longer the current one.
 * - `overwrite`: the last writer wins.
 * - `merge`: the value is merged into what is there, member by member (RFC 7396).
 */
export const CONFLICT_MODES = ["reject", "overwrite", "merge"] as const;
export type ConflictMode = (typeof CONFLICT_MODES)[number];

/** Policies of one space. */
export const POLICIES_MAX = 50;

export type Policy = Author & {
  /** A key, or what keys begin with. */
  readonly pattern: string;
  readonly prefix: boolean;
  readonly onConflict: ConflictMode;
  readonly at: number;
};
export type Policies = { readonly policies: readonly Policy[] };

/** The policy of a key: its own, else that of the longest prefix it begins with. */
export function policyFor({ policies }: Policies, key: string): Policy | undefined {
  let best: Policy | undefined;
  for (const policy of policies) {
    if (!policy.prefix && policy.pattern === key) return policy;
    if (policy.prefix && key.startsWith(policy.pattern) && (best?.pattern.length ?? -1) < policy.pattern.length) best = policy;
  }
  return best;
}

export interface WriteTerms {
  /** The revision that the write is based on; 0 when the key must have no value. */
  readonly ifRev?: number | undefined;
  readonly onConflict?: ConflictMode | undefined;
}

/** How a write is made: as it is, over a newer value than it was based on, or merged into what was there. */
export type WriteOutcome = "written" | "overwrote" | "merged";

/**
 * What comes of a whole value that is written over `current`. A policy `reject` binds everybody; the other policies hold for
 * writers who choose nothing. Who names a revision and chooses nothing wants it checked.
 * @throws SwarmError conflict, with the current revision; failed_precondition when the policy wants a revision and there is none
 */
export function resolve(
  place: Place,
  current: { head: Head; value: () => Json } | undefined,
  value: Json,
  terms: WriteTerms,
  policy: Policy | undefined,
): { value: Json; outcome: WriteOutcome } {
  const mode = modeOf(place, terms, policy);
  const currentRev = current?.head.rev ?? 0;
  if (mode === "reject") {
    if (terms.ifRev !== undefined) checkRev(place, currentRev, terms.ifRev);
    return { value, outcome: "written" };
  }
  if (terms.ifRev === currentRev || !current) return { value, outcome: "written" };
  if (mode === "merge") return { value: mergePatch(current.value(), value), outcome: "merged" };
  return { value, outcome: terms.ifRev === undefined ? "written" : "overwrote" };
}

/** For writes that change what is there (patch, delete): the revision is checked when it is named, and must be where a policy says so. */
export function checkTerms(place: Place, currentRev: number, ifRev: number | undefined, policy: Policy | undefined): void {
  if (ifRev !== undefined) checkRev(place, currentRev, ifRev);
  else if (policy?.onConflict === "reject") throw revisionWanted(place);
}

function modeOf(place: Place, { ifRev, onConflict }: WriteTerms, policy: Policy | undefined): ConflictMode {
  if (policy?.onConflict === "reject" || onConflict === "reject") {
    if (policy?.onConflict === "reject" && onConflict !== undefined && onConflict !== "reject") {
      throw new SwarmError("failed_precondition", `${placeName(place)} has the policy reject: onConflict cannot loosen it.`, {
        hint: "Leave onConflict out and give ifRev: the revision you read, or 0 to create the key.",
      });
    }
    if (ifRev === undefined) throw revisionWanted(place);
    return "reject";
  }
  return onConflict ?? policy?.onConflict ?? (ifRev === undefined ? "overwrite" : "reject");
}

function checkRev(place: Place, currentRev: number, ifRev: number): void {
  if (currentRev === ifRev) return;
  throw conflict(
    currentRev === 0
      ? `${placeName(place)} has no value; ifRev was ${ifRev}.`
      : `${placeName(place)} is at revision ${currentRev}; ifRev was ${ifRev}.`,
  );
}

/** Lost against another's write: the same call would lose again, so it is not worth repeating as it is. */
export function conflict(message: string): SwarmError {
  return new SwarmError("conflict", message, {
    hint: "Read it with get_state, decide anew, and write with the revision you then have (0 when there is no value).",
    retryable: false,
  });
}

function revisionWanted(place: Place): SwarmError {
  return new SwarmError("failed_precondition", `A write to ${placeName(place)} must say what it is based on: ifRev is missing.`, {
    hint: "Read it with get_state and give its rev as ifRev, or 0 to create the key.",
  });
}
