export type { Bundle, Member, PublicKeys } from "./bundle.ts";
