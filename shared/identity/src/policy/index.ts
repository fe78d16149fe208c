export { defaultPolicies } from "./default-policies.ts";
export { OPERATIONS, unknownOperations } from "./operations.ts";
export {
  OPERATION_LENGTH_MAX,
  PATTERNS_MAX,
  POLICY_DESCRIPTION_MAX,
  POLICY_ID_MAX,
  parsePolicies,
  parsePolicy,
  RATE_PER_MS_MAX,
  RATE_PER_MS_MIN,
  RESOURCE_LENGTH_MAX,
} from "./parse.ts";
export { Pattern } from "./pattern.ts";
export {
  type Bound,
  type Conditions,
  type Decision,
  POLICIES_MAX,
  type Policy,
  type PolicyReason,
  type PolicyRequest,
  type RateLimit,
  type Scalar,
} from "./policy.ts";
export { DECIDING_MAX, type Explanation, PolicySet } from "./policy-set.ts";
