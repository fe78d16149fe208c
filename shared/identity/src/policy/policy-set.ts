/**
 * Decides. Meaning as Cedar's (https://docs.cedarpolicy.com/auth/authorization.html): without a permit that holds everything is denied,
 * and a forbid that holds wins over all permits. Other than there, a policy that applies and cannot be judged denies, because a
 * forbid that is skipped for an error would let through what it was written against.
 */
import { SwarmError } from "@mcp-swarm/core";
import { checksOf, type Shortfall, UNKNOWN } from "./condition.ts";
import { isPolicy } from "./parse.ts";
import { Pattern } from "./pattern.ts";
import { type Decision, POLICIES_MAX, type Policy, type PolicyReason, type PolicyRequest } from "./policy.ts";
import { type Compiled, isAbout, Shelf } from "./shelf.ts";

/** Most policies named in one decision: it goes into the audit log. */
export const DECIDING_MAX = 10;
/** What a set remembers of the policies about operations and agents, in places of policies; when it is full it begins anew. */
const PLACES_MAX = 200_000;

/** What became of one policy for one request. */
export interface Explanation {
  readonly policyId: string;
  readonly effect: "permit" | "forbid";
  /**
   * `holds`: it counts. `operation`, `agent`, `resource`: it is about others. `unmet`: it applies, and a condition does not hold.
   * `error`: it applies and cannot be judged, which denies.
   */
  readonly outcome: "holds" | "operation" | "agent" | "resource" | "unmet" | "error";
  /** One plain sentence. */
  readonly why: string;
}

/** The policies about one operation, and of those the ones about an agent. */
interface Kept {
  readonly shelf: Shelf;
  readonly ofAgent: Map<string, { readonly roles: readonly string[]; readonly shelf: Shelf }>;
}

export class PolicySet {
  readonly #policies: readonly Compiled[];
  readonly #kept = new Map<string, Kept>();
  #places = 0;

  /**
   * Takes the policies of a signed bundle as they are: one that holds what this version does not know denies where the part of its
   * scope that is known applies.
   * @throws SwarmError limit_exceeded above `POLICIES_MAX`
   */
  constructor(policies: readonly Policy[]) {
    if (policies.length > POLICIES_MAX) {
      throw new SwarmError("limit_exceeded", `A swarm has at most ${POLICIES_MAX} policies.`, {
        hint: "Say with roles and wildcards in one policy what many say.",
      });
    }
    this.#policies = policies.map(compile);
  }

  /** In memory, without waiting; the same for the same request. Rates are left to whoever keeps their counts. */
  decide(request: PolicyRequest): Decision {
    const { resource } = request;
    const kept = this.#aboutOperation(request.operation);
    const permits: Compiled[] = [];
    const forbids: Compiled[] = [];
    const unmet: [Compiled, Shortfall][] = [];
    const errors: [Compiled, Shortfall][] = [];
    for (const policy of this.#aboutAgent(kept, request).about(resource)) {
      const shortfall = judge(policy, request);
      if (shortfall === undefined) (policy.effect === "permit" ? permits : forbids).push(policy);
      else if (shortfall.error) errors.push([policy, shortfall]);
      else if (policy.effect === "permit") unmet.push([policy, shortfall]);
    }
    const [forbid] = forbids;
    if (forbid) return denied("forbidden", forbids, `Policy ${forbid.id} forbids ${deed(request)} to ${asker(request)}.`);
    const [error] = errors;
    if (error) {
      const why = `Policy ${error[0].id} applies to ${deed(request)} and cannot be judged: ${error[1].what}.`;
      return denied("condition_error", errors.map(first), why);
    }
    const [permit] = permits;
    if (permit) {
      const rates = permits.flatMap(({ rate }) => rate ?? []);
      return {
        authorized: true,
        reason: "permitted",
        policyIds: permits.slice(0, DECIDING_MAX).map(({ id }) => id),
        details: `Policy ${permit.id} permits it.`,
        rates: rates.length === permits.length ? rates : [],
      };
    }
    const [nearly] = unmet;
    if (nearly) {
      const why = `Policy ${nearly[0].id} would permit ${deed(request)} to ${asker(request)}, but ${nearly[1].what}.`;
      return denied("condition_not_met", unmet.map(first), why);
    }
    return kept.shelf.about(resource).some(({ effect }) => effect === "permit")
      ? denied("insufficient_permissions", [], `No policy permits ${deed(request)} to ${asker(request)}.`)
      : denied("no_policy", [], `No policy permits ${deed(request)} to anybody.`);
  }

  /** What each policy says to the request, in their order: for people who write policies. */
  explain(request: PolicyRequest): Explanation[] {
    return this.#policies.map((policy) => {
      const { id: policyId, effect } = policy;
      const say = (outcome: Explanation["outcome"], why: string): Explanation => ({ policyId, effect, outcome, why });
      if (!policy.operations.some((pattern) => pattern.matches(request.operation))) {
        return say("operation", `It is not about ${plain(request.operation, "this operation")}.`);
      }
      if (!concerns(policy, request)) return say("agent", `It is not about ${asker(request)}.`);
      if (!isAbout(policy, request.resource)) {
        return say("resource", `It is not about ${plain(request.resource, "this resource")}.`);
      }
      const shortfall = judge(policy, request);
      if (shortfall === undefined) return say("holds", effect === "permit" ? "It permits this." : "It forbids this.");
      return shortfall.error
        ? say("error", `It applies and cannot be judged, which denies: ${shortfall.what}.`)
        : say("unmet", `It applies, but ${shortfall.what}.`);
    });
  }

  #aboutOperation(operation: string): Kept {
    const known = this.#kept.get(operation);
    if (known) return known;
    const about = this.#policies.filter(({ operations }) => operations.some((pattern) => pattern.matches(operation)));
    const kept: Kept = { shelf: this.#newShelf(about), ofAgent: new Map() };
    this.#kept.set(operation, kept);
    return kept;
  }

  #aboutAgent({ shelf, ofAgent }: Kept, request: PolicyRequest): Shelf {
    const known = ofAgent.get(request.agentId);
    if (known && sameNames(known.roles, request.roles)) return known.shelf;
    const own = this.#newShelf(shelf.all.filter((policy) => concerns(policy, request)));
    ofAgent.set(request.agentId, { roles: [...request.roles], shelf: own });
    return own;
  }

  #newShelf(policies: readonly Compiled[]): Shelf {
    this.#places += policies.length + 1;
    if (this.#places > PLACES_MAX) {
      this.#kept.clear();
      this.#places = policies.length + 1;
    }
    return new Shelf(policies);
  }
}

const first = ([policy]: [Compiled, Shortfall]): Compiled => policy;

function compile(policy: Policy): Compiled {
  if (!isPolicy(policy)) return compileUnknown(policy);
  const { id, effect, when } = policy;
  return {
    id,
    effect,
    operations: policy.operations.map((text) => new Pattern(text)),
    who:
      policy.agents === undefined && policy.roles === undefined
        ? undefined
        : { agents: (policy.agents ?? []).map((text) => new Pattern(text)), roles: policy.roles ?? [] },
    resources: policy.resources?.map((text) => new Pattern(text)),
    checks: checksOf(policy),
    rate: when?.rate === undefined ? undefined : { policyId: id, max: when.rate.max, perMs: when.rate.perMs },
  };
}

/** A policy of a newer version: its scope as far as it can be read, and what cannot be read meaning everybody and everything. */
function compileUnknown(policy: unknown): Compiled {
  const { id, effect, agents, roles, operations, resources } = (policy ?? {}) as Record<string, unknown>;
  const names = textsOf(roles);
  const ids = textsOf(agents);
  const everybody = (agents !== undefined && ids === undefined) || (roles !== undefined && names === undefined);
  return {
    id: typeof id === "string" ? plain(id, "without a name") : "without a name",
    effect: effect === "permit" ? "permit" : "forbid",
    operations: (textsOf(operations) ?? ["*"]).map((text) => new Pattern(text)),
    who:
      everybody || (agents === undefined && roles === undefined)
        ? undefined
        : { agents: (ids ?? []).map((text) => new Pattern(text)), roles: names ?? [] },
    resources: textsOf(resources)?.map((text) => new Pattern(text)),
    checks: [UNKNOWN],
    rate: undefined,
  };
}

function textsOf(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.length > 0 && value.every((each) => typeof each === "string") ? value : undefined;
}

function judge({ checks }: Compiled, request: PolicyRequest): Shortfall | undefined {
  let unmet: Shortfall | undefined;
  for (const check of checks) {
    const shortfall = check(request);
    if (shortfall?.error) return shortfall;
    unmet ??= shortfall;
  }
  return unmet;
}

/** Who names an agent names its subagents, so that a forbid is not walked around under a child's name. */
function concerns({ who }: Compiled, { agentId, roles }: PolicyRequest): boolean {
  if (who === undefined) return true;
  if (who.roles.some((role) => roles.includes(role))) return true;
  const slash = agentId.indexOf("/");
  return who.agents.some((pattern) => pattern.matches(agentId) || (slash >= 0 && pattern.matches(agentId.slice(0, slash))));
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index]);
}

function denied(reason: PolicyReason, policies: readonly Compiled[], details: string): Decision {
  return { authorized: false, reason, policyIds: policies.slice(0, DECIDING_MAX).map(({ id }) => id), details, rates: [] };
}

function deed({ operation, resource }: PolicyRequest): string {
  return `${plain(operation, "this operation")} on ${plain(resource, "this resource")}`;
}

function asker({ agentId, roles }: PolicyRequest): string {
  const shown = roles.length === 0 ? "no roles" : `roles: ${roles.map((role) => plain(role, "another")).join(", ")}`;
  return `${plain(agentId, "this agent")} (${shown})`;
}

/** An id as it is; anything that could be a sentence is only called what it is. */
function plain(text: string, otherwise: string): string {
  return /^[A-Za-z0-9._@:/*,-]{1,160}$/.test(text) ? text : otherwise;
}
