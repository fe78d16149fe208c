/** What the tools of every server say of themselves: checked over what a host really receives. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, type ToolListing, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import { proofOf, Recall } from "./proofs/index.ts";

/** Hosts cut instructions and descriptions at 2 KB. */
const INSTRUCTIONS_BYTES_MAX = 2_048;
const DESCRIPTION_CHARS_MAX = 200;
const TITLE_CHARS_MAX = 40;
/** Characters of the JSON in which hosts give a model a tool: name, description and input schema. */
const DEFINITION_CHARS_AVERAGE = 650;
const DEFINITION_CHARS_MAX = 1_900;
/** Most tools of one server. */
const TOOLS_MAX = 27;

const VERBS = new Set(
  `acknowledge acquire add assign authenticate authorize broadcast cancel cast check claim create decrypt delete elect encrypt end estimate execute get initiate list mark patch
   pause put quarantine redeliver register release renew request reserve reset resign restore resume reveal revoke rotate save search send set start submit subscribe
   delegate recuse seal verify transact unregister unsubscribe update validate wait whoami`.split(/\s+/),
);

/** Named by the framework these tools follow; reading takes the messages out of the inbox for a while. */
const TAKES_WHAT_IT_READS = "get_messages";

type Schema = Record<string, unknown>;

/** Any JSON, or a field that another tool describes: no keyword could say its bound; the server keeps it (bad-input.test.ts). */
const ANY_JSON = (schema: Schema) => Object.keys(schema).every((key) => key === "description");

/** What in an input schema has no bound, with its path. */
function unbounded(schema: Schema, path: string): string[] {
  if (ANY_JSON(schema)) return [];
  const missing: string[] = [];
  const need = (keyword: string) => {
    if (!(keyword in schema)) missing.push(`${path}: no ${keyword}`);
  };
  const alternatives = (schema.anyOf ?? schema.oneOf) as Schema[] | undefined;
  if (alternatives) return alternatives.flatMap((one, index) => unbounded(one, `${path}|${index}`));
  if ("enum" in schema || "const" in schema) return [];
  switch (schema.type) {
    case "boolean":
    case "null":
      break;
    case "string":
      // an anchored pattern whose repetitions are all counted is a bound too
      if (
        !(
          typeof schema.pattern === "string" &&
          /^\^.*\$$/.test(schema.pattern) &&
          !/[*+]|,\}/.test(schema.pattern.replace(/\[[^\]]*\]/g, ""))
        )
      ) {
        need("maxLength");
      }
      break;
    case "integer":
    case "number":
      need("minimum");
      need("maximum");
      for (const bound of [schema.minimum, schema.maximum]) {
        if (typeof bound === "number" && Math.abs(bound) >= Number.MAX_SAFE_INTEGER) missing.push(`${path}: bound is none`);
      }
      break;
    case "array":
      need("maxItems");
      missing.push(...unbounded((schema.items ?? {}) as Schema, `${path}[]`));
      break;
    case "object": {
      for (const [name, member] of Object.entries((schema.properties ?? {}) as Record<string, Schema>)) {
        missing.push(...unbounded(member, `${path}.${name}`));
      }
      const names = schema.propertyNames as Schema | undefined;
      if (names !== undefined) missing.push(...unbounded(names, `${path} names`));
      else if (schema.additionalProperties !== false) missing.push(`${path}: takes any member`);
      break;
    }
    default:
      missing.push(`${path}: type ${String(schema.type)}`);
  }
  return missing;
}

test("the walk over schemas finds each kind of missing bound", () => {
  const broken: Schema = {
    type: "object",
    additionalProperties: false,
    properties: {
      text: { type: "string" },
      pattern: { type: "string", pattern: "^[a-z]+$" },
      list: { type: "array", items: { type: "integer", minimum: 0 } },
      number: { type: "number" },
      open: { type: "object", properties: {} },
      either: { anyOf: [{ type: "null" }, { type: "string" }] },
      safe: { type: "integer", minimum: -Number.MAX_SAFE_INTEGER, maximum: Number.MAX_SAFE_INTEGER },
      fine: { type: "string", pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" },
    },
  };
  expect(unbounded(broken, "in")).toEqual([
    "in.text: no maxLength",
    "in.pattern: no maxLength",
    "in.list: no maxItems",
    "in.list[]: no maximum",
    "in.number: no minimum",
    "in.number: no maximum",
    "in.open: takes any member",
    "in.either|1: no maxLength",
    "in.safe: bound is none",
    "in.safe: bound is none",
  ]);
});

const definitionChars = ({ name, description, inputSchema }: ToolListing) =>
  JSON.stringify({ name, description, input_schema: inputSchema }).length;

describe.each(SERVERS)("the tools of %s", (server) => {
  const folder = temporaryFolder();
  let host: Host;
  let tools: ToolListing[];
  beforeAll(async () => {
    host = await Host.start({ server, store: folder.store });
    tools = (await host.client.listTools()).tools;
  });
  afterAll(async () => {
    await host.close();
    folder[Symbol.dispose]();
  });

  test("are few, and named snake_case with a verb first", () => {
    verifies("CORE-04");
    expect(tools.length).toBeLessThanOrEqual(TOOLS_MAX);
    for (const { name } of tools) {
      expect(name).toMatch(/^([a-z]+(_[a-z]+)+|recuse|subscribe|unsubscribe|whoami)$/);
      expect([...VERBS], name).toContain(name.split("_")[0]);
    }
    expect(new Set(tools.map(({ name }) => name)).size).toBe(tools.length);
  });

  test("have a title and a description of one or two sentences", () => {
    verifies("CORE-04");
    for (const { name, title = "", description = "" } of tools) {
      expect(title, name).toMatch(/^[A-Z]/);
      expect(title.length, name).toBeLessThanOrEqual(TITLE_CHARS_MAX);
      expect(description, name).toMatch(/^[A-Z].*\.$/);
      expect(description.length, `${name}: ${description}`).toBeLessThanOrEqual(DESCRIPTION_CHARS_MAX);
      expect(description.match(/[.!?](\s|$)/g)?.length, `${name}: ${description}`).toBeLessThanOrEqual(2);
    }
  });

  test("give all four annotations, and none that contradict", () => {
    verifies("CORE-04");
    for (const { name, title, annotations } of tools) {
      expect(annotations, name).toEqual({
        title,
        readOnlyHint: expect.any(Boolean),
        destructiveHint: expect.any(Boolean),
        idempotentHint: expect.any(Boolean),
        openWorldHint: expect.any(Boolean),
      });
      if (annotations?.readOnlyHint) expect(annotations, name).toMatchObject({ destructiveHint: false, idempotentHint: true });
      if (name === TAKES_WHAT_IT_READS) continue;
      if (/^(get|list|check|validate|estimate|wait)_/.test(name)) expect(annotations?.readOnlyHint, name).toBe(true);
      if (/^(cancel|delete|reset)_/.test(name)) expect(annotations?.destructiveHint, name).toBe(true);
    }
  });

  test("bound every string, number and list that they take, and take no other fields", () => {
    verifies("CORE-04");
    for (const { name, inputSchema } of tools) {
      expect(inputSchema, name).toMatchObject({ type: "object", additionalProperties: false });
      expect(unbounded(inputSchema, name)).toEqual([]);
    }
  });

  test("take an idempotencyKey exactly when they write", () => {
    verifies("CORE-12");
    for (const { name, inputSchema, annotations } of tools) {
      expect("idempotencyKey" in (inputSchema.properties as object), name).toBe(annotations?.readOnlyHint === false);
    }
  });

  test("say what they answer: an object that names the caller", () => {
    verifies("CORE-04", "CORE-15");
    for (const { name, outputSchema } of tools) {
      expect(outputSchema, name).toMatchObject({
        type: "object",
        required: expect.arrayContaining(["caller"]),
        properties: { caller: { required: ["agentId", "verified"] } },
      });
    }
  });

  test("cost a model little: definitions within the budget, instructions under 2 KB", () => {
    verifies("CORE-04");
    const sizes = tools.map((tool) => [tool.name, definitionChars(tool)] as const);
    const average = sizes.reduce((sum, [, size]) => sum + size, 0) / sizes.length;
    expect(average, JSON.stringify(sizes)).toBeLessThanOrEqual(DEFINITION_CHARS_AVERAGE);
    for (const [name, size] of sizes) expect(size, name).toBeLessThanOrEqual(DEFINITION_CHARS_MAX);
    const instructions = host.client.getInstructions() ?? "";
    expect(instructions.length).toBeGreaterThan(100);
    expect(Buffer.byteLength(instructions)).toBeLessThan(INSTRUCTIONS_BYTES_MAX);
    for (const word of instructions.match(/\b[a-z]+_[a-z_]+\b/g) ?? []) expect(tools.map(({ name }) => name)).toContain(word);
  });
});

describe.each(SERVERS)("the answers of %s", (server) => {
  test("fit their output schema, and their text is the same as JSON", async () => {
    verifies("CORE-04", "CORE-15");
    using folder = temporaryFolder();
    // the maintenance line's client checks every structured answer against the schema it was listed with, by ajv
    await using swarm = await Surroundings.of(server, folder.store);
    await using host = await swarm.host("teller", { era: "v1" });
    const { tools } = await host.client.listTools();
    const answered = new Set<string>();
    const recall = new Recall();
    await using _ = await proofOf(server).meanwhile?.(folder.store, server);
    for (const [tool, args] of proofOf(server).story) {
      if (!tools.some(({ name }) => name === tool)) continue;
      const answer = await host.try(tool, recall.fill(args));
      expect(answer.isError, `${tool}: ${answer.text}`).toBe(false);
      recall.learn(answer.structured);
      expect(JSON.parse(answer.text), tool).toEqual(answer.structured);
      expect(answer.text, tool).toBe(JSON.stringify(answer.structured));
      expect(answer.structured.caller, tool).toEqual({ agentId: "teller", verified: swarm.verified });
      answered.add(tool);
    }
    expect(tools.map(({ name }) => name).filter((name) => !answered.has(name))).toEqual([]);
  });
});
