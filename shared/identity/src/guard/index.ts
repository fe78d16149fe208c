export type { Admission, Guard, Operation } from "./guard.ts";
export { OpenGuard, type OpenGuardOptions } from "./open-guard.ts";
export { Denial, type GuardAudit, type GuardTrust, SecuredGuard, type SecuredGuardOptions } from "./secured-guard.ts";
