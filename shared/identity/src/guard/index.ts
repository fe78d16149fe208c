export type { Admission, Guard, Operation } from "./guard.ts";
export { OpenGuard, type OpenGuardOptions } from "./open-guard.ts";
