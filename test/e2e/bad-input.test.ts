/** What a server does with input that no well-behaved host would send. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { badInputs } from "../support/bad-input.ts";
import { RawHost } from "../support/bin.ts";
import { lookInto } from "../support/content.ts";
import { Host, type ToolListing, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import { proofOf } from "./proofs/index.ts";

/** Bad inputs for each tool; SWARM_TEST_LONG multiplies them. */
const INPUTS_PER_TOOL = process.env.SWARM_TEST_LONG ? 2_000 : 200;
const ERROR_CHARS_MAX = 2_000;
const INVALID_PARAMS = -32_602;
const INVALID_REQUEST = -32_600;

describe.each(SERVERS)("%s", (server) => {
  test(`refuses ${INPUTS_PER_TOOL} bad inputs for each tool, names the field, changes nothing and lives on`, {
    timeout: 240_000,
  }, async () => {
    verifies("CORE-05");
    using folder = temporaryFolder();
    await using swarm = await Surroundings.of(server, folder.store);
    await using raw = await swarm.raw("a1", {
      ...{ SWARM_LEASE_MS: "3600000", SWARM_DURABILITY: "normal" },
      SWARM_EXEC_SLOTS: "0", // a worker writes rows of its own
    });
    await raw.initialize();
    for (const [tool, args] of proofOf(server).setup) {
      expect((await raw.callText(tool, JSON.stringify(args))).result?.isError, tool).not.toBe(true);
    }
    const listed = await raw.ask("tools/list", {});
    const tools = (listed.result?.tools ?? []) as ToolListing[];
    expect(tools.length).toBeGreaterThan(5);
    await using look = await lookInto(folder.store);
    const before = JSON.stringify(await look.content());
    const seen = new Set<string>();
    for (const tool of tools) {
      await fc.assert(
        fc.asyncProperty(badInputs(tool, tools), async ({ kind, json, named }) => {
          const answer = await raw.callText(tool.name, json);
          seen.add(kind);
          const shown = `${tool.name} with ${kind}: ${json.slice(0, 300)} → ${JSON.stringify(answer).slice(0, 600)}`;
          if (answer.error) {
            // the protocol's own rule that arguments are an object
            expect([INVALID_PARAMS, INVALID_REQUEST], shown).toContain(answer.error.code);
            expect(kind, shown).toBe("no object");
            return;
          }
          const { content, isError, _meta } = answer.result as {
            content: { text: string }[];
            isError: boolean;
            _meta: Record<string, unknown>;
          };
          const text = content[0]?.text ?? "";
          expect(isError, shown).toBe(true);
          expect(_meta["mcp-swarm/error"], shown).toMatchObject({ code: "invalid_argument" });
          expect(text.startsWith("invalid_argument: "), shown).toBe(true);
          for (const field of named) expect(text, shown).toContain(field);
          expect(text.length, shown).toBeLessThan(ERROR_CHARS_MAX);
          expect(text, shown).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f]/);
        }),
        { numRuns: INPUTS_PER_TOOL },
      );
      expect(JSON.stringify(await look.content()) === before, `${tool.name} changed the store`).toBe(true);
    }
    expect(seen.size).toBeGreaterThan(10);
    expect(Reflect.get({}, "polluted")).toBeUndefined();
    expect((await raw.ask("tools/list", {})).result?.tools).toEqual(tools);
    expect(raw.strays).toEqual([]);
    expect(raw.alive).toBe(true);
  });

  test("a __proto__ among the arguments is as if it were not there, for the call and for every other", async () => {
    verifies("CORE-05");
    using folder = temporaryFolder();
    await using raw = new RawHost(server, { SWARM_STORE: folder.store, SWARM_AGENT: "a1" });
    await raw.initialize();
    const tools = ((await raw.ask("tools/list", {})).result?.tools ?? []) as ToolListing[];
    const reader = tools.find(({ annotations, inputSchema }) => annotations?.readOnlyHint && inputSchema.required === undefined);
    const polluting = '{"__proto__":{"isError":true,"limit":1,"polluted":true,"agentId":"evil"}}';
    const plain = await raw.callText(reader?.name ?? "", "{}");
    const polluted = await raw.callText(reader?.name ?? "", polluting);
    expect(plain.result?.isError).not.toBe(true);
    expect(polluted.result).toEqual(plain.result);
    expect((await raw.callText(reader?.name ?? "", "{}")).result).toEqual(plain.result);
  });

  test("answers the next good request after lines that are no requests, and writes nothing but the protocol", async () => {
    verifies("CORE-05", "CORE-06");
    using folder = temporaryFolder();
    const garbage = Buffer.from(
      Array.from({ length: 4_096 }, (_, index) => createHash("md5").update(String(index)).digest()[0] ?? 0),
    );
    const lines: Record<string, string | Buffer> = {
      "empty lines": "\n\n\r\n \n",
      "no JSON": "GET / HTTP/1.1\nHost: x\n\n",
      "half a message": '{"jsonrpc":"2.0","id":900,"meth\n',
      "a message of another protocol": '{"jsonrpc":"1.0","id":901,"method":"tools/list"}\n',
      "no method": '{"jsonrpc":"2.0","id":902}\n',
      "an id that is an object": '{"jsonrpc":"2.0","id":{"a":1},"method":"tools/list"}\n',
      "an id that is null": '{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n',
      "a bare value": 'null\n7\ntrue\n"text"\n',
      "an empty batch": "[]\n",
      "a batch": '[{"jsonrpc":"2.0","id":903,"method":"tools/list"},{"jsonrpc":"2.0","id":904,"method":"ping"}]\n',
      "an answer nobody asked for":
        '{"jsonrpc":"2.0","id":905,"result":{}}\n{"jsonrpc":"2.0","id":906,"error":{"code":1,"message":"x"}}\n',
      "an unknown notification": '{"jsonrpc":"2.0","method":"notifications/nothing","params":{"a":1}}\n',
      "a cancellation of nothing": '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":907}}\n',
      "a tool call as a notification":
        '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"add_task","arguments":{"description":"x"}}}\n',
      "bytes that are no UTF-8": Buffer.concat([garbage, Buffer.from("\n")]),
      "a prototype in the message":
        '{"jsonrpc":"2.0","id":908,"method":"tools/call","__proto__":{"a":1},"params":{"__proto__":{"name":"x"},"name":"constructor"}}\n',
    };
    await using raw = new RawHost(server, { SWARM_STORE: folder.store, SWARM_AGENT: "a1" });
    await raw.initialize();
    await using look = await lookInto(folder.store);
    const before = await look.content();
    for (const [what, bytes] of Object.entries(lines)) {
      raw.write(bytes);
      const good = await raw.ask("tools/list", {});
      expect((good.result?.tools as unknown[])?.length, what).toBeGreaterThan(5);
    }
    const unknown = await raw.ask("no/such_method", {});
    expect(unknown.error?.code).toBe(-32_601);
    for (const name of ["no_such_tool", "__proto__", "constructor", "toString", "\u001b[31mred", "x".repeat(10_000)]) {
      const answer = await raw.ask("tools/call", { name, arguments: {} });
      expect(answer.error?.code, name.slice(0, 20)).toBe(INVALID_PARAMS);
      expect(answer.error?.message.length).toBeLessThan(200);
    }
    expect(await look.content()).toEqual(before);
    expect(raw.strays).toEqual([]);
    expect(raw.alive).toBe(true);
    await raw.end();
    expect(raw.child.exitCode).toBe(0);
  });

  test("a line longer than any request ends the connection cleanly or is answered, and never harms the store", async () => {
    verifies("CORE-05", "CORE-06");
    using folder = temporaryFolder();
    await using raw = new RawHost(server, { SWARM_STORE: folder.store, SWARM_AGENT: "a1" });
    await raw.initialize();
    const huge = "x".repeat(11 * 1024 * 1024);
    raw.write(
      `{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"add_task","arguments":{"description":"${huge}"}}}\n`,
    );
    raw.write(`{"jsonrpc":"2.0","id":78,"method":"tools/list","params":{}}\n`);
    raw.child.stdin?.end();
    await raw.end();
    const answered = raw.messages.find(({ id }) => id === 77);
    if (answered?.result) expect(answered.result).toMatchObject({ isError: true });
    expect(raw.strays).toEqual([]);
    expect(raw.child.signalCode).toBeNull();
    await using after = await Host.start({ server, store: folder.store });
    expect((await after.client.listTools()).tools.length).toBeGreaterThan(5);
    await using look = await lookInto(folder.store);
    expect(JSON.stringify(await look.content())).not.toContain("xxxx");
  });

  test("nothing but garbage on stdin ends in a clean exit without a word on stdout", async () => {
    verifies("CORE-06");
    using folder = temporaryFolder();
    const raw = new RawHost(server, { SWARM_STORE: folder.store });
    raw.write(Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7_919) % 256)));
    await raw.end();
    expect(raw).toMatchObject({ strays: [], messages: [] });
    expect(raw.child.signalCode).toBeNull();
  });
});
