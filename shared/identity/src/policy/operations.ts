import { Pattern } from "./pattern.ts";
import type { Policy } from "./policy.ts";

/** What the tools and resources of the suite are about, as their definitions say it. A test keeps this list. */
const VERBS: Readonly<Record<string, readonly string[]>> = {
  task: ["read", "add", "update", "claim", "assign", "cancel", "reset"],
  workflow: ["read", "create", "execute", "pause", "resume", "cancel"],
  template: ["read", "save"],
  slot: ["read", "claim", "release"],
  metrics: ["read"],
  agent: ["read", "register", "unregister", "update", "configure"],
  message: ["read", "send", "broadcast", "acknowledge", "redeliver", "seal"],
  topic: ["read", "subscribe", "unsubscribe"],
  state: ["read", "write", "delete", "subscribe", "policy"],
  lock: ["read", "acquire", "release"],
  leader: ["read", "elect", "resign"],
  files: ["read", "reserve", "release"],
  context: ["read"],
  vote: ["read", "initiate", "cast", "delegate", "recuse", "cancel"],
  execution: ["submit", "read", "cancel", "run"],
  environment: ["read", "create", "delete"],
  session: ["read", "start", "end"],
  artifact: ["read"],
  worker: ["read"],
  identity: ["read"],
  token: ["issue"],
  key: ["rotate"],
  policy: ["read", "write"],
  member: ["read", "write"],
  audit: ["read"],
  secret: ["read", "write"],
};

export const OPERATIONS: readonly string[] = Object.entries(VERBS).flatMap(([what, verbs]) =>
  verbs.map((verb) => `${what}:${verb}`),
);

/**
 * Operations of the policy that no tool has. Nobody is stopped by a `forbid` of them, so whoever writes the policy is told; it is
 * no error, because a server of another version may have them.
 */
export function unknownOperations({ operations }: Pick<Policy, "operations">): string[] {
  return operations.filter((text) => {
    const pattern = new Pattern(text);
    return !OPERATIONS.some((operation) => pattern.matches(operation));
  });
}
