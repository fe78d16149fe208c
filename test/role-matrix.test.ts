/** Which of the roles that a secured swarm begins with may use which tool of which server. */
import { definition as agentComm } from "@mcp-swarm/agent-comm";
import { definition as consensus } from "@mcp-swarm/consensus";
import { definition as distributedExecution } from "@mcp-swarm/distributed-execution";
import { defaultPolicies, OPERATIONS, PolicySet, unknownOperations } from "@mcp-swarm/identity/policy";
import { definition as security } from "@mcp-swarm/security";
import { definition as sharedState } from "@mcp-swarm/shared-state";
import { definition as taskCoordination } from "@mcp-swarm/task-coordination";
import { expect, test } from "vitest";
import { verifies } from "./requirements.ts";
import { SERVERS } from "./support/servers.ts";

const DEFINITIONS = [agentComm, consensus, distributedExecution, security, sharedState, taskCoordination];

/** Who may, besides administrators. */
const CLASSES = {
  /** Looking at the work. */
  read: ["worker", "observer"],
  /** Doing it. */
  work: ["worker"],
  /** What concerns nobody else: on `…/self` alone. */
  own: ["worker"],
  /** Looking at who may do what and who did what. */
  oversight: ["observer"],
  /** Deciding it, and what must stay with few. */
  administration: [],
} as const;

/** Each operation there is, as somebody decided: a tool with another one fails below until somebody has. */
const DECIDED: Readonly<Record<string, keyof typeof CLASSES>> = {
  "task:read": "read",
  "task:add": "work",
  "task:update": "work",
  "task:claim": "work",
  "task:assign": "work",
  "task:cancel": "work",
  "task:reset": "work",
  "workflow:read": "read",
  "workflow:create": "work",
  "workflow:execute": "work",
  "workflow:pause": "work",
  "workflow:resume": "work",
  "workflow:cancel": "work",
  "template:read": "read",
  "template:save": "work",
  "slot:read": "read",
  "slot:claim": "work",
  "slot:release": "work",
  "metrics:read": "read",
  "agent:read": "read",
  "agent:register": "work",
  "agent:unregister": "work",
  "agent:update": "work",
  "agent:configure": "work",
  "message:read": "read",
  "message:send": "work",
  "message:broadcast": "work",
  "message:acknowledge": "work",
  "message:redeliver": "work",
  "message:seal": "work",
  "topic:read": "read",
  "topic:subscribe": "work",
  "topic:unsubscribe": "work",
  "state:read": "read",
  "state:write": "work",
  "state:delete": "work",
  "state:subscribe": "work",
  "state:policy": "administration",
  "lock:read": "read",
  "lock:acquire": "work",
  "lock:release": "work",
  "leader:read": "read",
  "leader:elect": "work",
  "leader:resign": "work",
  "files:read": "read",
  "files:reserve": "work",
  "files:release": "work",
  "context:read": "read",
  "vote:read": "read",
  "vote:initiate": "work",
  "vote:cast": "work",
  "vote:delegate": "work",
  "vote:recuse": "work",
  "vote:cancel": "work",
  "execution:read": "read",
  "execution:submit": "work",
  "execution:cancel": "work",
  "execution:run": "work",
  "environment:read": "read",
  "environment:create": "work",
  "environment:delete": "work",
  "session:read": "read",
  "session:start": "work",
  "session:end": "work",
  "artifact:read": "read",
  "worker:read": "read",
  "identity:read": "read",
  "token:issue": "work",
  "key:rotate": "own",
  "policy:read": "oversight",
  "policy:write": "administration",
  "member:read": "oversight",
  "member:write": "administration",
  "audit:read": "oversight",
  "secret:read": "administration",
  "secret:write": "administration",
};

/** What processes do for agents without a call of a tool: a worker asks before it runs a task of an environment. */
const WITHOUT_TOOL = ["execution:run"];

/** Reading one's own inbox takes the messages out of it for a while: the one tool that reads and is not read-only. */
const TAKES_WHAT_IT_READS = "get_messages";

const set = new PolicySet(defaultPolicies());
const may = (roles: readonly string[], operation: string, thing = DECIDED[operation] === "own" ? "self" : "x") =>
  set.decide({
    agentId: "build-7",
    roles,
    attributes: {},
    operation,
    resource: `${operation.split(":")[0]}/${thing}`,
    arguments: {},
    now: 1_750_000_000_000,
  }).authorized;

test("every server is looked at", () => {
  expect(DEFINITIONS.map(({ name }) => name).sort()).toEqual(SERVERS);
});

test("policies are told of operations that no tool has", () => {
  verifies("SEC-04");
  expect([...OPERATIONS].sort()).toEqual([...new Set([...USES.map(([, , operation]) => operation), ...WITHOUT_TOOL])].sort());
  const operations = ["task:*", "*:read", "*", "task:cancel", "task:cancell", "tsk:*", "*:reed"];
  expect(unknownOperations({ operations })).toEqual(["task:cancell", "tsk:*", "*:reed"]);
});

const USES = DEFINITIONS.flatMap((definition) => [
  ...definition.tools.map((tool) => [definition.name, tool.name, tool.operation, tool.effects.readOnly] as const),
  ...(definition.resources ?? []).map((resource) => [definition.name, resource.name, resource.operation, true] as const),
]);

test.each(USES)("%s: %s is open to the roles that were decided for %s", (_server, tool, operation, readOnly) => {
  verifies("SEC-06");
  const decided = DECIDED[operation];
  if (decided === undefined)
    throw new Error(`Nobody has decided who may do ${operation}: add it here and to the default policies.`);
  const roles: readonly string[] = CLASSES[decided];
  expect(may(["admin"], operation)).toBe(true);
  for (const role of ["worker", "observer"]) expect(may([role], operation), role).toBe(roles.includes(role));
  expect(may(["worker", "observer"], operation)).toBe(roles.length > 0);
  expect(may([], operation)).toBe(false);
  expect(may(["guest"], operation)).toBe(false);
  // an observer changes nothing, whatever a tool's operation is called
  if (!readOnly && tool !== TAKES_WHAT_IT_READS) expect(may(["observer"], operation)).toBe(false);
});

test("what no tool does yet is permitted to administrators alone", () => {
  verifies("SEC-06");
  for (const operation of ["state:erase", "policy:anything", "secret:share", "unknown:verb"]) {
    expect(["admin", "worker", "observer"].filter((role) => may([role], operation))).toEqual(["admin"]);
  }
});

test("what was decided holds for operations that other tools may come to use", () => {
  verifies("SEC-06");
  for (const [operation, decided] of Object.entries(DECIDED)) {
    const roles: readonly string[] = CLASSES[decided];
    expect(
      ["worker", "observer"].filter((role) => may([role], operation)),
      operation,
    ).toEqual(roles);
    if (decided === "own") expect(may(["worker"], operation, "build-8"), operation).toBe(false);
  }
});
