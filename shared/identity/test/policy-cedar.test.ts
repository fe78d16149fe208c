/** Our decisions beside those of Cedar (https://www.cedarpolicy.com), whose meaning ours is. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  DECIDING_MAX,
  type Decision,
  type Policy,
  type PolicyReason,
  type PolicyRequest,
  PolicySet,
} from "../src/policy/index.ts";
import { CedarSet } from "./support/cedar.ts";
import { policies, request } from "./support/random-policies.ts";

const REQUESTS_PER_SET = 20;
const SETS = process.env.SWARM_TEST_LONG === "1" ? 2_500 : 100;

const REASONS: readonly PolicyReason[] = [
  "permitted",
  "forbidden",
  "no_policy",
  "insufficient_permissions",
  "condition_not_met",
  "condition_error",
];

type Decide = (policies: readonly Policy[]) => (request: PolicyRequest) => Decision;
const ours: Decide = (all) => {
  const set = new PolicySet(all);
  return (one) => set.decide(one);
};

/** What differs, in words; undefined when both say the same. */
function difference(decision: Decision, cedar: ReturnType<CedarSet["decide"]>): string | undefined {
  const said = JSON.stringify({ decision, cedar });
  if (decision.authorized !== cedar.authorized) return `one permits, the other does not: ${said}`;
  if (decision.authorized !== (decision.reason === "permitted")) return `the reason contradicts: ${said}`;
  const ids = [...decision.policyIds].sort();
  if (decision.reason === "condition_error" && !sameIds(ids, cedar.failed)) return `other policies fail: ${said}`;
  const decided = decision.reason === "permitted" || decision.reason === "forbidden";
  if (decided && !sameIds(ids, cedar.reason)) return `other policies decide: ${said}`;
  return undefined;
}

const sameIds = (a: readonly string[], b: readonly string[]) => a.length === b.length && a.every((id, at) => id === b[at]);

const worlds = fc.tuple(policies, fc.array(request, { minLength: REQUESTS_PER_SET, maxLength: REQUESTS_PER_SET }));

function compare(decide: Decide, [all, requests]: [Policy[], PolicyRequest[]], seen?: (decision: Decision) => void): string[] {
  const cedar = new CedarSet(all);
  const decideOne = decide(all);
  return requests.flatMap((one) => {
    const decision = decideOne(one);
    seen?.(decision);
    return difference(decision, cedar.decide(one)) ?? [];
  });
}

test("random requests get Cedar's decision, from the same policies, and are denied where a policy fails", {
  timeout: 900_000,
}, () => {
  verifies("SEC-04");
  const reasons = new Map<string, number>();
  fc.assert(
    fc.property(worlds, (world) => {
      expect(world[0].length).toBeLessThanOrEqual(DECIDING_MAX);
      expect(compare(ours, world, ({ reason }) => reasons.set(reason, (reasons.get(reason) ?? 0) + 1))).toEqual([]);
    }),
    { numRuns: SETS },
  );
  // each way a decision can end was met often enough to mean something
  for (const reason of REASONS) expect(reasons.get(reason) ?? 0, reason).toBeGreaterThan(SETS / 4);
});

describe("an engine with a fault is found out", () => {
  const SEED = 4_711;
  const withPolicies = (change: (policy: Policy) => Policy | undefined): Decide =>
    function faulty(all) {
      const kept = all.flatMap((policy) => change(policy) ?? []);
      return ours(kept);
    };
  const without = (name: "context" | "attributes" | "arguments" | "time") =>
    withPolicies(({ when: { [name]: _, ...rest } = {}, ...policy }) => ({
      ...policy,
      ...(Object.keys(rest).length > 0 ? { when: rest } : {}),
    }));
  const asking = (change: (request: PolicyRequest) => PolicyRequest): Decide =>
    function faulty(all) {
      const decide = ours(all);
      return (one) => decide(change(one));
    };
  const FAULTS: Record<string, Decide> = {
    "that leaves out forbids": withPolicies((policy) => (policy.effect === "forbid" ? undefined : policy)),
    "that skips conditions on a context that is not given": without("context"),
    "that skips conditions on attributes": without("attributes"),
    "that skips bounds on arguments": without("arguments"),
    "that does not look at the clock": without("time"),
    "that skips conditions it does not know": withPolicies((policy) =>
      policy.when && "weather" in policy.when ? { ...policy, when: { time: { days: [0, 1, 2, 3, 4, 5, 6] } } } : policy,
    ),
    "that reads a resource up to its first slash": withPolicies((policy) =>
      policy.resources ? { ...policy, resources: policy.resources.map((text) => text.replace(/\/.*/, "/*")) } : policy,
    ),
    "that takes a resource for many things as one": asking((one) => ({ ...one, resource: one.resource.replace(/\*$/, "_") })),
    "that takes a subagent for a stranger": asking((one) => ({ ...one, agentId: one.agentId.replace("/", "-") })),
    "that is an hour wrong": asking((one) => ({ ...one, now: one.now + 3_600_000 })),
  };

  test.each(Object.keys(FAULTS))("%s", (name) => {
    const faulty = FAULTS[name];
    if (!faulty) throw new Error(`no such fault: ${name}`);
    const found = fc.sample(worlds, { seed: SEED, numRuns: 100 }).flatMap((world) => compare(faulty, world));
    expect(found.length).toBeGreaterThan(0);
  });
});
