/** What a newly secured swarm permits: three roles, which its policies may change like any other. */
import type { Policy } from "./policy.ts";

/** All work of agents, each operation on whatever its server lets it. */
const WORK = [
  "task:*",
  "workflow:*",
  "slot:*",
  "template:*",
  "metrics:read",
  "agent:*",
  "message:*",
  "topic:*",
  "state:read",
  "state:write",
  "state:delete",
  "state:subscribe",
  "lock:*",
  "leader:*",
  "files:*",
  "context:read",
  "vote:*",
  "execution:*",
  "environment:*",
  "session:*",
  "artifact:read",
  "worker:read",
  "identity:read",
  "token:issue",
];

/** Tools name what is the caller's own so, when it does not name itself. */
const OWN = "*/self";

/** All that only reads, except secrets: who may read those is said for each. */
const READING = [
  "task",
  "workflow",
  "slot",
  "template",
  "metrics",
  "agent",
  "message",
  "topic",
  "state",
  "lock",
  "leader",
  "files",
  "context",
  "vote",
  "execution",
  "environment",
  "session",
  "artifact",
  "worker",
  "identity",
  "policy",
  "member",
  "audit",
].map((what) => `${what}:read`);

/**
 * The policies that a swarm begins with. `admin`: everything. `worker`: all work, and its own keys; no policies, members,
 * secrets, audit log or rules of state. `observer`: reads everything but secrets. Whoever has none of these roles may do nothing.
 */
export function defaultPolicies(): Policy[] {
  return [
    { id: "admin", effect: "permit", description: "Administrators may do everything.", roles: ["admin"], operations: ["*"] },
    { id: "worker", effect: "permit", description: "Workers may do all work.", roles: ["worker"], operations: WORK },
    {
      id: "own-keys",
      effect: "permit",
      description: "Workers may replace their own keys.",
      roles: ["worker"],
      operations: ["key:rotate"],
      resources: [OWN],
    },
    {
      id: "observer",
      effect: "permit",
      description: "Observers may read all but secrets.",
      roles: ["observer"],
      operations: READING,
    },
  ];
}
