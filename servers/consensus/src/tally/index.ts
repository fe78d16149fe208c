/** Rules of voting: from settings, an electorate and ballots to a result with its steps. Nothing here knows a store or a clock. */
export { byzantineBounds } from "./byzantine.ts";
export { type DelegationCaps, resolveDelegations } from "./delegation.ts";
export * from "./rule.ts";
export { ruleOf } from "./rules.ts";
export { ABSTAIN } from "./settings.ts";
