/** What a policy may be: everything else is refused when it is written, and denies when it is read. */
import { JSON_DEPTH_MAX, SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import { AGENT_ID_MAX } from "../caller.ts";
import { type Bound, POLICIES_MAX, type Policy } from "./policy.ts";

export const POLICY_ID_MAX = 64;
export const POLICY_DESCRIPTION_MAX = 500;
/** Most agents, roles, operations or resources that one policy names, each. */
export const PATTERNS_MAX = 50;
/** Longest operation, resource and `like` with wildcards, in characters. */
export const OPERATION_LENGTH_MAX = 64;
export const RESOURCE_LENGTH_MAX = 256;
const LIKE_LENGTH_MAX = 256;
const ROLE_LENGTH_MAX = 64;
/** Most arguments, attributes or members of the context that one policy bounds, each. */
const BOUNDS_MAX = 20;
/** Most values of one `in`, and the longest text that is compared with. */
const CHOICES_MAX = 100;
const SCALAR_LENGTH_MAX = 1_024;
const PATH_LENGTH_MAX = 200;
/** Most steps of a path: no argument lies deeper. */
const STEPS_MAX = JSON_DEPTH_MAX;
const RATE_MAX = 1_000_000;
export const RATE_PER_MS_MIN = 1_000;
export const RATE_PER_MS_MAX = 24 * 60 * 60 * 1000;
/** Largest policy, in characters of JSON. */
const POLICY_LENGTH_MAX = 16_384;
/** Problems named in one error. */
const PROBLEMS_MAX = 5;
const PLAIN_NAME = /^[A-Za-z0-9_.@*:/-]{1,64}$/;

const id = z
  .string()
  .max(POLICY_ID_MAX)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "use letters, digits and . _ -");
const agent = z
  .string()
  .max(AGENT_ID_MAX)
  .regex(/^[A-Za-z0-9._@/*-]+$/, "use an agent id, with * for any characters");
const role = z
  .string()
  .max(ROLE_LENGTH_MAX)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, "use letters, digits and . _ - (a role has no wildcard)");
const operation = z
  .string()
  .max(OPERATION_LENGTH_MAX)
  .regex(/^(?:\*|[A-Za-z0-9_*-]+:[A-Za-z0-9_*-]+)$/, "use * or <what>:<verb>, with * for any characters: task:*");
const printable = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}\p{Cs}]*$/u, "use no control characters");
const scalar = z.union([z.string().max(SCALAR_LENGTH_MAX), z.number(), z.boolean(), z.null()]);
const attributeName = z
  .string()
  .max(ROLE_LENGTH_MAX)
  .regex(/^[^\p{Cc}\p{Cs}]+$/u, "use no control characters");
const path = z
  .string()
  .max(PATH_LENGTH_MAX)
  .regex(/^[^.\p{Cc}\p{Cs}]+(?:\.[^.\p{Cc}\p{Cs}]+)*$/u, "use names with dots between them")
  .refine((text) => text.split(".").length <= STEPS_MAX, "has too many steps");

const bounds = {
  equals: scalar.exactOptional(),
  in: z.array(scalar).min(1).max(CHOICES_MAX).exactOptional(),
  min: z.number().exactOptional(),
  max: z.number().exactOptional(),
  maxLength: z.int().nonnegative().exactOptional(),
  like: printable(LIKE_LENGTH_MAX).exactOptional(),
};
const someBound = (bound: object) => Object.keys(bound).length > 0;
const bound = z.strictObject(bounds).refine(someBound, "give at least one bound");
const argumentBound = z
  .strictObject({ present: z.boolean().exactOptional(), ...bounds })
  .refine(someBound, "give at least one bound")
  .refine((one) => one.present !== false || Object.keys(one).length === 1, "what must be absent has no other bound");

function bounded<T extends Bound>(name: z.ZodType<string>, one: z.ZodType<T>) {
  return z
    .record(z.string(), one)
    .superRefine((record, context) => {
      const names = Object.keys(record);
      if (names.length === 0 || names.length > BOUNDS_MAX) context.addIssue(`give 1 to ${BOUNDS_MAX}`);
      for (const each of names) {
        const problem = name.safeParse(each).error?.issues[0];
        if (problem) context.addIssue({ code: "custom", message: problem.message, path: [each] });
      }
    })
    .exactOptional();
}

const timeOfDay = z.string().regex(/^(?:[01]\d|2[0-3]):[0-5]\d$/, "use HH:MM, from 00:00 to 23:59, in UTC");
const time = z
  .strictObject({
    from: timeOfDay.exactOptional(),
    to: timeOfDay.exactOptional(),
    days: z.array(z.int().min(0).max(6)).min(1).max(7).exactOptional(),
  })
  .refine((one) => Object.keys(one).length > 0, "give from, to or days")
  .refine(({ from = "00:00", to }) => to === undefined || from !== to, "from and to are the same");
const rate = z.strictObject({
  max: z.int().min(1).max(RATE_MAX),
  perMs: z.int().min(RATE_PER_MS_MIN).max(RATE_PER_MS_MAX),
});
const conditions = z
  .strictObject({
    time: time.exactOptional(),
    rate: rate.exactOptional(),
    arguments: bounded(path, argumentBound),
    attributes: bounded(attributeName, bound),
    context: bounded(path, bound),
  })
  .refine((one) => Object.keys(one).length > 0, "give at least one condition, or leave it out");

const named = <T extends z.ZodType>(one: T) => z.array(one).min(1).max(PATTERNS_MAX);
const policy = z
  .strictObject({
    id,
    effect: z.enum(["permit", "forbid"]),
    description: z.string().max(POLICY_DESCRIPTION_MAX).exactOptional(),
    agents: named(agent).exactOptional(),
    roles: named(role).exactOptional(),
    operations: named(operation),
    resources: named(printable(RESOURCE_LENGTH_MAX)).exactOptional(),
    when: conditions.exactOptional(),
  })
  .refine(({ effect, when }) => effect === "permit" || when?.rate === undefined, {
    path: ["when", "rate"],
    message: "belongs to a permit: limit what is permitted",
  })
  .refine((one) => JSON.stringify(one).length <= POLICY_LENGTH_MAX, `is larger than ${POLICY_LENGTH_MAX} characters of JSON`);

/** Names that a schema's parser passes over in silence: a bound under one would be no bound. */
const PROTOTYPE_KEYS = new Set(["__proto__", "constructor", "prototype"]);

function holdsPrototypeKey(value: unknown, depth = 0): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depth > JSON_DEPTH_MAX) return true;
  return (
    Object.keys(value).some((key) => PROTOTYPE_KEYS.has(key)) ||
    Object.values(value).some((each) => holdsPrototypeKey(each, depth + 1))
  );
}

/** Whether this version knows every word of the policy. */
export function isPolicy(value: unknown): value is Policy {
  return !holdsPrototypeKey(value) && policy.safeParse(value).success;
}

/**
 * A policy as somebody wrote it.
 * @throws SwarmError invalid_argument with the path of what is wrong
 */
export function parsePolicy(json: unknown): Policy {
  if (holdsPrototypeKey(json)) {
    throw new SwarmError("invalid_argument", "This is not a policy: it is nested too deeply, or a name in it is not allowed.", {
      hint: `Name no field ${[...PROTOTYPE_KEYS].join(", ")}.`,
    });
  }
  const parsed = policy.safeParse(json);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.slice(0, PROBLEMS_MAX).map((issue) => {
    const at = issue.path.map((step) => shown(String(step))).join(".");
    const where = at === "" ? "the policy" : `"${at}"`;
    if (issue.code !== "unrecognized_keys") return `${where}: ${issue.message}`;
    const keys = issue.keys.slice(0, PROBLEMS_MAX).map((key) => `"${shown(key)}"`);
    return `${where}: unknown field ${keys.join(", ")}`;
  });
  throw new SwarmError("invalid_argument", `This is not a policy: ${problems.join("; ")}.`, {
    hint: "A policy has id, effect (permit or forbid) and operations; it may have description, agents, roles, resources and when {time, rate, arguments, attributes, context}.",
  });
}

/**
 * All policies of a swarm, or of a file.
 * @throws SwarmError invalid_argument, also when two have one id or there are more than `POLICIES_MAX`
 */
export function parsePolicies(json: unknown): Policy[] {
  if (!Array.isArray(json)) {
    throw new SwarmError("invalid_argument", "This is not a list of policies.", { hint: "Give a JSON array of policies." });
  }
  if (json.length > POLICIES_MAX) {
    throw new SwarmError("invalid_argument", `A swarm has at most ${POLICIES_MAX} policies.`, {
      hint: "Say with roles and wildcards in one policy what many say.",
    });
  }
  const policies = json.map((one: unknown) => parsePolicy(one));
  const seen = new Set<string>();
  for (const one of policies) {
    if (seen.has(one.id)) {
      throw new SwarmError("invalid_argument", `Two policies have the id ${one.id}.`, { hint: "Give each an id of its own." });
    }
    seen.add(one.id);
  }
  return policies;
}

/** A name as it is; what could be a sentence, or more, is not repeated. */
function shown(name: string): string {
  return PLAIN_NAME.test(name) ? name : "?";
}
