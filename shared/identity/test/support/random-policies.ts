/** Policies and requests from a world so small that they meet. */
import fc from "fast-check";
import type { Bound, Conditions, Policy, PolicyRequest } from "../../src/policy/index.ts";

const AGENTS = ["build-7", "build-7/reviewer", "build-8", "ci", "ci/b"];
const ROLES = ["worker", "admin", "observer"];
const OPERATIONS = ["task:claim", "task:read", "message:send", "state:read", "state:write"];
const RESOURCES = [
  "task/x",
  "task/build-7",
  "task/build-71",
  "task/*",
  "state/global/*",
  'state/global/a "b" \\c',
  "state/a/b/a/b",
  "inbox/ci",
  "*",
  "täsk/ü",
];
const ATTRIBUTES = ["team", "site"];
const ARGUMENTS = ["priority", "task.title", "task.priority"];
const WORDS = ["red", "blue", "redblue", ""];

/** One of the texts, with some of it given to wildcards. */
function patternOf(texts: readonly string[], alphabet: RegExp): fc.Arbitrary<string> {
  const cut = fc.tuple(fc.constantFrom(...texts), fc.array(fc.tuple(fc.nat(12), fc.nat(6)), { maxLength: 2 }));
  return cut.map(([text, cuts]) => {
    let pattern = text;
    for (const [from, length] of cuts) pattern = `${pattern.slice(0, from)}*${pattern.slice(from + length)}`;
    return alphabet.test(pattern) ? pattern : "*";
  });
}

const someOf = <T>(one: fc.Arbitrary<T>) => fc.array(one, { minLength: 1, maxLength: 2 });
const scalar = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.constantFrom(...WORDS), fc.boolean());

const bound: fc.Arbitrary<Bound> = fc.oneof(
  scalar.map((equals) => ({ equals })),
  someOf(scalar).map((choices) => ({ in: choices })),
  fc.integer({ min: 0, max: 5 }).map((min) => ({ min })),
  fc.integer({ min: 0, max: 5 }).map((max) => ({ max })),
  fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 2, max: 5 })).map(([min, max]) => ({ min, max })),
  patternOf(["red", "redblue", "blue"], /^.+$/).map((like) => ({ like })),
);
const argumentBound: fc.Arbitrary<Bound> = fc.oneof(
  { weight: 5, arbitrary: bound },
  { weight: 1, arbitrary: fc.boolean().map((present) => ({ present })) },
  { weight: 1, arbitrary: bound.map((one) => ({ present: true, ...one })) },
);

const clock = fc.tuple(fc.nat(23), fc.constantFrom(0, 30)).map((both) => both.map((n) => `${n}`.padStart(2, "0")).join(":"));
const time: fc.Arbitrary<NonNullable<Conditions["time"]>> = fc
  .record({ from: clock, to: clock, days: fc.uniqueArray(fc.nat(6), { minLength: 1, maxLength: 6 }) }, { requiredKeys: [] })
  .map((one) => ((one.from ?? "00:00") === one.to || Object.keys(one).length === 0 ? { days: [1, 2, 3] } : one));

const bounds = (names: readonly string[], one: fc.Arbitrary<Bound>) =>
  fc.dictionary(fc.constantFrom(...names), one, { minKeys: 1, maxKeys: 2, noNullPrototype: true });

const conditions = {
  time,
  arguments: bounds(ARGUMENTS, argumentBound),
  attributes: bounds(ATTRIBUTES, bound),
  context: bounds(["ticket"], bound),
  /** Of a version that is not there yet. */
  weather: fc.constant("dry"),
};
const KINDS = ["time", "time", "arguments", "arguments", "arguments", "attributes", "attributes", "context", "weather"] as const;

const when: fc.Arbitrary<Conditions> = fc
  .tuple(fc.array(fc.constantFrom(...KINDS), { minLength: 1, maxLength: 2 }), fc.record(conditions))
  .map(([kinds, all]) => Object.fromEntries(kinds.map((kind) => [kind, all[kind]])));

const policy: fc.Arbitrary<Omit<Policy, "id">> = fc.record(
  {
    effect: fc.constantFrom("permit" as const, "permit" as const, "forbid" as const),
    agents: someOf(patternOf(AGENTS, /^[A-Za-z0-9._@/*-]+$/)),
    roles: someOf(fc.constantFrom(...ROLES)),
    operations: someOf(patternOf([...OPERATIONS, "*", "task:*", "*:read"], /^(?:\*|[a-z*]+:[a-z*]+)$/)),
    resources: someOf(patternOf(RESOURCES, /^.+$/)),
    when,
  },
  { requiredKeys: ["effect", "operations"] },
);

export const policies: fc.Arbitrary<Policy[]> = fc
  .array(policy, { minLength: 1, maxLength: 10 })
  .map((all) => all.map((one, index) => ({ id: `p${index}`, ...one })));

export const request: fc.Arbitrary<PolicyRequest> = fc.record(
  {
    agentId: fc.constantFrom(...AGENTS),
    roles: fc.subarray(ROLES, { maxLength: 2 }),
    attributes: fc.record({ team: scalar, site: scalar }, { requiredKeys: [], noNullPrototype: true }),
    operation: fc.constantFrom(...OPERATIONS),
    resource: fc.constantFrom(...RESOURCES),
    arguments: fc.record(
      {
        priority: scalar,
        task: fc.oneof(
          { weight: 5, arbitrary: fc.record({ title: scalar, priority: scalar }, { requiredKeys: [], noNullPrototype: true }) },
          { weight: 1, arbitrary: scalar },
        ),
      },
      { requiredKeys: [], noNullPrototype: true },
    ),
    context: fc.record({ ticket: scalar }, { requiredKeys: [], noNullPrototype: true }),
    now: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  },
  { requiredKeys: ["agentId", "roles", "attributes", "operation", "resource", "now"], noNullPrototype: true },
);
