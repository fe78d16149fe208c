/** What must hold besides who, what and on what: taken apart once, judged for each request. */
import type { Json } from "@mcp-swarm/core";
import { Pattern } from "./pattern.ts";
import type { Bound, Conditions, Policy, PolicyRequest, Scalar } from "./policy.ts";

/** Why a policy whose scope applies does not hold: it was looked at and is not so, or it could not be judged. */
export interface Shortfall {
  readonly error: boolean;
  /** For a sentence: `argument priority is not within its bound`. Holds names that the policy's writer chose, and no values. */
  readonly what: string;
}

/** Undefined: it holds. */
export type Check = (request: PolicyRequest) => Shortfall | undefined;

type Verdict = "holds" | "unmet" | "error";
type Judge = (value: Json | undefined) => Verdict;

const MINUTE_MS = 60_000;
const DAY_MINUTES = 24 * 60;
const WEEK_DAYS = 7;
/** 1970-01-01 was a Thursday. */
const EPOCH_DAY = 4;

/** A condition that this version does not know: it denies wherever its policy applies. */
export const UNKNOWN: Check = () => ({ error: true, what: "it holds something that this version does not know" });

/** The checks of a policy; rates are no part of them, because the count lies in the store. */
export function checksOf({ effect, when }: Policy): readonly Check[] {
  if (when === undefined) return [];
  return [
    ...(when.time === undefined ? [] : [timeCheck(when.time)]),
    ...Object.entries(when.arguments ?? {}).map(([path, bound]) => argumentCheck(path, bound, effect)),
    ...Object.entries(when.attributes ?? {}).map(([name, bound]) => attributeCheck(name, bound)),
    ...Object.entries(when.context ?? {}).map(([path, bound]) => contextCheck(path, bound, effect)),
  ];
}

function timeCheck({ from, to, days }: NonNullable<Conditions["time"]>): Check {
  const begin = from === undefined ? 0 : minutesOf(from);
  const end = to === undefined ? DAY_MINUTES : minutesOf(to);
  const on = new Set(days ?? [0, 1, 2, 3, 4, 5, 6]);
  const unmet: Shortfall = { error: false, what: "the time is not within its hours" };
  const error: Shortfall = { error: true, what: "the time is not known" };
  return ({ now }) => {
    if (!Number.isFinite(now)) return error;
    const minutes = Math.floor(now / MINUTE_MS);
    const minute = minutes % DAY_MINUTES;
    const day = (Math.floor(minutes / DAY_MINUTES) + EPOCH_DAY) % WEEK_DAYS;
    if (begin < end) return on.has(day) && minute >= begin && minute < end ? undefined : unmet;
    if (minute >= begin) return on.has(day) ? undefined : unmet;
    return minute < end && on.has((day + WEEK_DAYS - 1) % WEEK_DAYS) ? undefined : unmet;
  };
}

function minutesOf(time: string): number {
  return Number(time.slice(0, 2)) * 60 + Number(time.slice(3));
}

function argumentCheck(path: string, bound: Bound, effect: Policy["effect"]): Check {
  const steps = path.split(".");
  const judge = judgeOf(bound);
  const absent: Verdict = bound.present === false ? "holds" : "unmet";
  const judgeArgument = (value: Json | undefined) => (value === undefined ? absent : judge(value));
  return valueCheck(`argument ${path}`, (request) =>
    request.arguments === undefined ? "error" : judgeAt(request.arguments, steps, 0, effect, judgeArgument),
  );
}

function attributeCheck(name: string, bound: Bound): Check {
  const judge = judgeKnown(bound);
  return valueCheck(`attribute ${name}`, ({ attributes }) => judge(own(attributes, name)));
}

function contextCheck(path: string, bound: Bound, effect: Policy["effect"]): Check {
  const steps = path.split(".");
  const judge = judgeKnown(bound);
  return valueCheck(`context ${path}`, ({ context }) => judgeAt(context, steps, 0, effect, judge));
}

function valueCheck(what: string, verdictOn: (request: PolicyRequest) => Verdict): Check {
  const unmet: Shortfall = { error: false, what: `${what} is not within its bound` };
  const error: Shortfall = { error: true, what: `${what} is missing or of another kind than its bound` };
  return (request) => {
    const verdict = verdictOn(request);
    if (verdict === "holds") return undefined;
    return verdict === "unmet" ? unmet : error;
  };
}

/** For what must be there. */
function judgeKnown(bound: Bound): Judge {
  const judge = judgeOf(bound);
  return (value) => (value === undefined ? "error" : judge(value));
}

function own(record: Readonly<Record<string, Json | undefined>>, name: string): Json | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}

/** Follows the path and judges what is there. A star asks for all of the values there in a permit, and for any in a forbid. */
function judgeAt(value: Json | undefined, path: readonly string[], at: number, effect: Policy["effect"], judge: Judge): Verdict {
  const step = path[at];
  if (step === undefined || value === undefined) return judge(value);
  if (value === null || typeof value !== "object") return "error";
  if (step === "*") {
    const verdicts = Object.values(value).map((each: Json | undefined) => judgeAt(each, path, at + 1, effect, judge));
    return effect === "permit" ? all(verdicts) : any(verdicts);
  }
  if (Array.isArray(value)) return "error";
  return judgeAt(own(value as Readonly<Record<string, Json | undefined>>, step), path, at + 1, effect, judge);
}

function all(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes("error")) return "error";
  return verdicts.includes("unmet") ? "unmet" : "holds";
}

function any(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes("error")) return "error";
  return verdicts.includes("holds") ? "holds" : "unmet";
}

/** Of a value that is there. */
function judgeOf(bound: Bound): Judge {
  const judges: Judge[] = [];
  const { equals, min, max, maxLength, like } = bound;
  if (equals !== undefined) judges.push(oneOf([equals]));
  if (bound.in !== undefined) judges.push(oneOf(bound.in));
  if (min !== undefined) judges.push((value) => (typeof value === "number" ? met(value >= min) : "error"));
  if (max !== undefined) judges.push((value) => (typeof value === "number" ? met(value <= max) : "error"));
  if (maxLength !== undefined) {
    judges.push((value) => (typeof value === "string" || Array.isArray(value) ? met(value.length <= maxLength) : "error"));
  }
  if (like !== undefined) {
    const pattern = new Pattern(like);
    judges.push((value) => (typeof value === "string" ? met(pattern.matches(value)) : "error"));
  }
  if (bound.present === false) judges.push(() => "unmet");
  return (value) => all(judges.map((judge) => judge(value)));
}

function oneOf(choices: readonly Scalar[]): Judge {
  const chosen = new Set<Json>(choices);
  return (value) => {
    if (typeof value === "object" && value !== null) return "error";
    return met(value !== undefined && chosen.has(value));
  };
}

const met = (holds: boolean): Verdict => (holds ? "holds" : "unmet");
