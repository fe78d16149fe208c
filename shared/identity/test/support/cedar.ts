/** Our policies in Cedar's words, and Cedar's own decision on them: the other opinion that ours is compared with. */
import type { CedarValueJson, StatefulAuthorizationCall } from "@cedar-policy/cedar-wasm/nodejs";
import * as cedar from "@cedar-policy/cedar-wasm/nodejs";
import type { Json } from "@mcp-swarm/core";
import type { Bound, Policy, PolicyRequest } from "../../src/policy/index.ts";

export interface CedarOpinion {
  /** Allowed, and no policy failed: Cedar passes over policies that fail, where we deny. */
  readonly authorized: boolean;
  readonly failed: readonly string[];
  /** The policies that decided. */
  readonly reason: readonly string[];
}

const SET = "compared";

/** Cedar reads the policies once; each request is then judged by them. */
export class CedarSet {
  constructor(policies: readonly Policy[]) {
    const answer = cedar.preparsePolicySet(SET, {
      staticPolicies: Object.fromEntries(policies.map((policy) => [policy.id, textOf(policy)])),
    });
    if (answer.type === "failure") throw new Error(answer.errors.map(({ message }) => message).join("; "));
  }

  decide(request: PolicyRequest): CedarOpinion {
    const answer = cedar.statefulIsAuthorized(callOf(request));
    if (answer.type === "failure") throw new Error(answer.errors.map(({ message }) => message).join("; "));
    const { decision, diagnostics } = answer.response;
    const failed = diagnostics.errors.map(({ policyId }) => policyId).sort();
    return { authorized: decision === "allow" && failed.length === 0, failed, reason: [...diagnostics.reason].sort() };
  }
}

/** JSON texts are Cedar texts as well, as long as nothing in them is escaped by its number. */
function quoted(text: string): string {
  return `"${text.replace(/[\\"]/g, (character) => `\\${character}`)}"`;
}

/** Our wildcard is Cedar's; we have no way to mean a star itself. */
const like = (value: string, pattern: string): string => `${value} like ${quoted(pattern)}`;
const or = (terms: readonly string[]): string => `(${terms.join(" || ")})`;
/** Unlike `&&` this looks at every term, so that each can fail. */
const allOf = (terms: readonly string[]): string => `!([${terms.join(", ")}].contains(false))`;

function textOf(policy: Policy): string {
  const scope = [or(policy.operations.map((pattern) => like("context.operation", pattern)))];
  const who = [
    ...(policy.agents ?? []).flatMap((pattern) => [like("principal.id", pattern), like("principal.root", pattern)]),
    ...(policy.roles ?? []).map((role) => `principal.roles.contains(${quoted(role)})`),
  ];
  if (who.length > 0) scope.push(or(who));
  if (policy.resources) {
    const plainly = or(policy.resources.map((pattern) => like("resource.name", pattern)));
    const anyOfIt = or(policy.resources.map(reaches));
    scope.push(policy.effect === "permit" ? plainly : `(if resource.many then ${anyOfIt} else ${plainly})`);
  }
  const conditions = conditionsOf(policy);
  const clauses = conditions.length === 0 ? "" : ` when { ${allOf(conditions)} }`;
  return `${policy.effect}(principal, action, resource) when { ${scope.join(" && ")} }${clauses};`;
}

/** Whether anything that begins with the stem can match: the stem goes on from the pattern's head, or the head from the stem. */
function reaches(pattern: string): string {
  const star = pattern.indexOf("*");
  const head = star < 0 ? pattern : pattern.slice(0, star);
  const begins = Array.from({ length: head.length + 1 }, (_, length) => `resource.stem == ${quoted(head.slice(0, length))}`);
  return or(star < 0 ? begins : [...begins, like("resource.stem", `${head}*`)]);
}

function conditionsOf({ when }: Policy): string[] {
  const terms: string[] = [];
  const { time, arguments: args, attributes, context, rate: _, ...unknown } = when ?? {};
  if (time) {
    const minutes = (text: string) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
    const [from, to] = [minutes(time.from ?? "00:00"), time.to === undefined ? 1_440 : minutes(time.to)];
    const on = (day: string) => `[${(time.days ?? [0, 1, 2, 3, 4, 5, 6]).join(", ")}].contains(context.${day})`;
    const after = `context.minute >= ${from}`;
    const before = `context.minute < ${to}`;
    terms.push(
      from < to ? `(${after} && ${before} && ${on("day")})` : `((${after} && ${on("day")}) || (${before} && ${on("yesterday")}))`,
    );
  }
  for (const [path, bound] of Object.entries(args ?? {})) {
    const { there, value } = argumentAt(path);
    if (bound.present === false) terms.push(`!(${there})`);
    else if (bound.present === true) terms.push(`(${there})`);
    terms.push(...boundsOn(value, bound).map((term) => `(${there} && ${term})`));
  }
  for (const [name, bound] of Object.entries(attributes ?? {})) {
    terms.push(...boundsOn(`principal.attributes[${quoted(name)}]`, bound));
  }
  for (const [path, bound] of Object.entries(context ?? {})) {
    terms.push(
      ...boundsOn(
        `context.context${path
          .split(".")
          .map((step) => `[${quoted(step)}]`)
          .join("")}`,
        bound,
      ),
    );
  }
  if (Object.keys(unknown).length > 0) terms.push("context.nobodyKnowsThis");
  return terms;
}

function argumentAt(path: string): { there: string; value: string } {
  const there: string[] = [];
  let value = "context.arguments";
  for (const step of path.split(".")) {
    there.push(`${value} has ${quoted(step)}`);
    value += `[${quoted(step)}]`;
  }
  return { there: there.join(" && "), value };
}

function boundsOn(value: string, { equals, in: choices, min, max, like: pattern }: Bound): string[] {
  return [
    ...(equals === undefined ? [] : [`${value} == ${literal(equals)}`]),
    ...(choices === undefined ? [] : [`[${choices.map(literal).join(", ")}].contains(${value})`]),
    ...(min === undefined ? [] : [`${value} >= ${min}`]),
    ...(max === undefined ? [] : [`${value} <= ${max}`]),
    ...(pattern === undefined ? [] : [like(value, pattern)]),
  ];
}

const literal = (value: Json): string => (typeof value === "string" ? quoted(value) : String(value));

const DAY_MS = 86_400_000;

function callOf(request: PolicyRequest): StatefulAuthorizationCall {
  const date = new Date(request.now);
  const many = request.resource.endsWith("*");
  return {
    principal: { type: "Agent", id: "asker" },
    action: { type: "Action", id: "do" },
    resource: { type: "Thing", id: "thing" },
    preparsedPolicySetId: SET,
    context: {
      operation: request.operation,
      minute: date.getUTCHours() * 60 + date.getUTCMinutes(),
      day: date.getUTCDay(),
      yesterday: new Date(request.now - DAY_MS).getUTCDay(),
      ...(request.arguments ? { arguments: request.arguments as CedarValueJson } : {}),
      context: (request.context ?? {}) as CedarValueJson,
    },
    entities: [
      {
        uid: { type: "Agent", id: "asker" },
        parents: [],
        attrs: {
          id: request.agentId,
          root: request.agentId.split("/")[0] ?? "",
          roles: [...request.roles],
          attributes: request.attributes as CedarValueJson,
        },
      },
      {
        uid: { type: "Thing", id: "thing" },
        parents: [],
        attrs: { name: request.resource, many, stem: many ? request.resource.slice(0, -1) : "" },
      },
    ],
  };
}
