export type { Bound, Conditions, Decision, Policy, PolicyReason, PolicyRequest, RateLimit } from "./policy.ts";
