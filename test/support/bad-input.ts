/** Inputs that a tool must refuse, made from its own input schema. */
import fc from "fast-check";
import type { ToolListing } from "./host.ts";

type Schema = Record<string, unknown> & { properties?: Record<string, Schema>; required?: string[]; items?: Schema };

export interface BadInput {
  kind: Kind;
  /** The text of `arguments`; not always what an encoder would write. */
  json: string;
  /** The answer names one of these; empty when the input as a whole is wrong. */
  named: string[];
}

/** One place of an input: the way to it, and what belongs there. */
interface Place {
  path: (string | 0)[];
  schema: Schema;
  /** Whether the object it stands in cannot do without it. */
  required: boolean;
}

const KINDS = [
  "no object",
  "wrong type",
  "missing field",
  "unknown field",
  "too long",
  "out of bounds",
  "no integer",
  "not of the enumeration",
  "NUL",
  "half a surrogate pair",
  "number too large",
  "nested too deeply",
  "prototype member",
  "null",
] as const;
type Kind = (typeof KINDS)[number];

/** What JSON can write and no number can hold. */
const TOO_LARGE = ["1e400", "-1e400", "9007199254740993", "1e308", "-9007199254740992000"];
const RAW = "raw-json:";

/** Fields that this definition only names are as another tool of the server describes them. */
function completed(schema: Schema, siblings: ReadonlyMap<string, Schema>): Schema {
  const properties = Object.entries(schema.properties ?? {}).map(([name, member]) => {
    const described = Object.keys(member).length === 0 ? (siblings.get(name) ?? member) : member;
    return [name, completed(described, siblings)] as const;
  });
  return {
    ...schema,
    ...(schema.properties === undefined ? {} : { properties: Object.fromEntries(properties) }),
    ...(schema.items === undefined ? {} : { items: completed(schema.items, siblings) }),
  };
}

function places(schema: Schema, path: (string | 0)[] = [], required = true): Place[] {
  const here = [{ path, schema, required }];
  if (schema.items) return [...here, ...places(schema.items, [...path, 0], false)];
  const members = Object.entries(schema.properties ?? {});
  return [...here, ...members.flatMap(([name, one]) => places(one, [...path, name], schema.required?.includes(name) ?? false))];
}

/** The smallest value that fits. */
function sample(schema: Schema): unknown {
  if (Array.isArray(schema.enum)) return schema.enum[0];
  if (Array.isArray(schema.anyOf)) return sample(schema.anyOf[0] as Schema);
  if ("const" in schema) return schema.const;
  switch (schema.type) {
    case "string":
      return "a1";
    case "integer":
    case "number":
      return schema.minimum ?? 0;
    case "boolean":
      return true;
    case "array":
      return [sample(schema.items ?? {})];
    case "object":
      return Object.fromEntries((schema.required ?? []).map((name) => [name, sample(schema.properties?.[name] ?? {})]));
    default:
      return "any";
  }
}

/** A valid input but for what stands at `path`. */
function withValueAt(schema: Schema, path: readonly (string | 0)[], value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (step === 0) return [withValueAt(schema.items ?? {}, rest, value)];
  const whole = sample({ ...schema, type: "object" }) as Record<string, unknown>;
  return { ...whole, [step]: withValueAt(schema.properties?.[step] ?? {}, rest, value) };
}

function without(schema: Schema, path: readonly (string | 0)[]): unknown {
  const field = path.at(-1);
  const parent = path.slice(0, -1);
  let at = schema;
  for (const step of parent) at = (step === 0 ? at.items : at.properties?.[step]) ?? {};
  const rest = Object.fromEntries(Object.entries(sample(at) as object).filter(([name]) => name !== field));
  return withValueAt(schema, parent, rest);
}

const isObject = ({ schema }: Place) => schema.type === "object" && schema.properties !== undefined;
const isText = ({ schema }: Place) => schema.type === "string";
const isNumber = ({ schema }: Place) => schema.type === "integer" || schema.type === "number";
const isTyped = ({ schema, path }: Place) => path.length > 0 && ("type" in schema || "enum" in schema);
const isAny = ({ schema, path }: Place) => path.length > 0 && !("type" in schema || "enum" in schema || "anyOf" in schema);
const holdsText = (place: Place) => isText(place) || isAny(place);

/** At which places a kind of mistake can be made, and the wrong value there. */
const MISTAKES: Record<Kind, { fits: (place: Place) => boolean; wrong?: (place: Place, pick: number) => unknown }> = {
  "no object": { fits: ({ path }) => path.length === 0, wrong: (_, pick) => [[], "text", 7, true, [{}]][pick % 5] },
  "wrong type": {
    fits: isTyped,
    wrong: ({ schema }, pick) => {
      const values: unknown[] = ["7x", true, 7, [], { a: 1 }, [[]], false];
      const own = Array.isArray(schema.enum) ? "string" : schema.type === "integer" ? "number" : schema.type;
      const others = values.filter((value) => (Array.isArray(value) ? "array" : typeof value) !== own);
      return others[pick % others.length];
    },
  },
  "missing field": { fits: ({ path, required }) => path.length > 0 && required },
  "unknown field": { fits: isObject },
  "too long": {
    fits: ({ schema }) => schema.type === "array" || (schema.type === "string" && !("enum" in schema)),
    wrong: ({ schema }, pick) => {
      const extra = 1 + (pick % 50);
      if (schema.type === "array")
        return Array.from({ length: Number(schema.maxItems) + extra }, () => sample(schema.items ?? {}));
      return "a".repeat(Number(schema.maxLength ?? 64) + extra);
    },
  },
  "out of bounds": {
    fits: isNumber,
    wrong: ({ schema }, pick) =>
      pick % 2 === 0 ? Number(schema.minimum) - 1 - (pick % 9) : Number(schema.maximum) + 1 + (pick % 9),
  },
  "no integer": { fits: ({ schema }) => schema.type === "integer", wrong: ({ schema }) => Number(schema.minimum) + 0.5 },
  "not of the enumeration": {
    fits: ({ schema }) => "enum" in schema,
    wrong: ({ schema }, pick) => ["", "DONE", "hasOwnProperty", `${String((schema.enum as unknown[])[0])} `][pick % 4],
  },
  NUL: { fits: holdsText, wrong: (_, pick) => ["\0", "a\0b", "a\0"][pick % 3] },
  "half a surrogate pair": { fits: holdsText, wrong: (_, pick) => ["\ud83d", "a\udc00b", "\udc00\ud83d"][pick % 3] },
  "number too large": {
    fits: (place) => isNumber(place) || isAny(place),
    wrong: (_, pick) => RAW + TOO_LARGE[pick % TOO_LARGE.length],
  },
  "nested too deeply": {
    fits: ({ path }) => path.length > 0,
    wrong: (_, pick) => {
      const levels = 33 + (pick % 3_000);
      return RAW + (pick % 2 === 0 ? "[".repeat(levels) + "]".repeat(levels) : `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`);
    },
  },
  "prototype member": { fits: (place) => isObject(place) || isAny(place) },
  null: { fits: isTyped, wrong: () => null },
};

function toJson(value: unknown): string {
  return JSON.stringify(value).replace(new RegExp(`"${RAW}((?:[^"\\\\]|\\\\.)*)"`, "g"), (_, raw: string) =>
    JSON.parse(`"${raw}"`),
  );
}

const fieldOf = (path: readonly (string | 0)[]) => path.filter((step) => step !== 0).at(-1);

function make(
  schema: Schema,
  all: readonly Place[],
  kind: Kind,
  which: number,
  pick: number,
  junk: string,
): BadInput | undefined {
  const fitting = all.filter(MISTAKES[kind].fits);
  const place = fitting[which % fitting.length];
  if (!place) return undefined;
  const field = fieldOf(place.path);
  const named = field === undefined ? [] : [field];
  if (kind === "missing field") return { kind, json: toJson(without(schema, place.path)), named };
  if (kind === "unknown field") {
    const name = place.schema.properties?.[junk] === undefined && junk !== "__proto__" ? junk : `${junk}_`;
    const value = { ...(sample(place.schema) as object), [name]: pick };
    return {
      kind,
      json: toJson(withValueAt(schema, place.path, value)),
      named: [name.replace(/[^\x20-\x7e]/g, "?").slice(0, 100)],
    };
  }
  if (kind === "prototype member") {
    // the protocol's own parser drops a `__proto__` among the arguments themselves: it reaches nobody (see bad-input.test.ts)
    const names = place.path.length === 0 ? ["constructor", "prototype"] : ["__proto__", "constructor", "prototype"];
    const name = names[pick % names.length] ?? "constructor";
    const whole = isObject(place) ? JSON.stringify(sample(place.schema)).slice(1, -1) : "";
    const value = `${RAW}{${[`"${name}":{"polluted":true}`, whole].filter(Boolean).join(",")}}`;
    return { kind, json: toJson(withValueAt(schema, place.path, value)), named: [name] };
  }
  return { kind, json: toJson(withValueAt(schema, place.path, MISTAKES[kind].wrong?.(place, pick))), named };
}

/** Bad inputs for one tool; `tools` are all of its server. */
export function badInputs(tool: ToolListing, tools: readonly ToolListing[]): fc.Arbitrary<BadInput> {
  const siblings = new Map<string, Schema>();
  for (const other of tools) {
    for (const [name, member] of Object.entries((other.inputSchema as Schema).properties ?? {})) {
      if ("type" in member || "enum" in member) siblings.set(name, siblings.get(name) ?? member);
    }
  }
  // a list's own fields are described by the tool that takes one of them
  const single = tools.find(({ name }) => `${name}s` === tool.name);
  for (const [name, member] of Object.entries((single?.inputSchema as Schema | undefined)?.properties ?? {}))
    siblings.set(name, member);
  const schema = completed(tool.inputSchema as Schema, siblings);
  const all = places(schema);
  return fc
    .record({
      kind: fc.constantFrom(...KINDS),
      which: fc.nat(),
      pick: fc.nat(),
      junk: fc.string({ minLength: 1, maxLength: 80 }).filter((text) => !text.includes("\0") && text.trim() !== ""),
    })
    .map(
      ({ kind, which, pick, junk }) =>
        make(schema, all, kind, which, pick, junk) ??
        make(schema, all, "unknown field", which, pick, junk) ?? { kind: "no object", json: "7", named: [] },
    );
}
