export type { Admission, Guard, Operation } from "./guard.ts";
