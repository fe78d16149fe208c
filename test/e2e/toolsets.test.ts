/** Mounting some of a server's tools. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { encode } from "gpt-tokenizer";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { runBin } from "../support/bin.ts";
import { ERAS, type Era, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

async function namesOf(server: string, store: string, args: readonly string[], era: Era = "v2-modern"): Promise<string[]> {
  await using host = await Host.start({ server, store, args, era });
  return (await host.client.listTools()).tools.map(({ name }) => name);
}

/** The toolsets that `--help` names. */
async function toolsetsOf(server: string): Promise<string[]> {
  const { stdout } = await runBin(server, ["--help"]);
  const listed = /\nToolsets:\n([\s\S]*?)\n\n/.exec(stdout)?.[1] ?? "";
  return [...listed.matchAll(/^ {2}([a-z-]+) +\S/gm)].map(([, name]) => name ?? "");
}

describe.each(SERVERS)("%s", (server) => {
  test("--toolsets mounts the named groups: each tool is in exactly one, and all together are all", async () => {
    verifies("CORE-17");
    using folder = temporaryFolder();
    const toolsets = await toolsetsOf(server);
    expect(toolsets.length).toBeGreaterThan(1);
    const all = await namesOf(server, folder.store, []);
    const seen: string[] = [];
    for (const toolset of toolsets) seen.push(...(await namesOf(server, folder.store, ["--toolsets", toolset])));
    expect(seen.toSorted()).toEqual(all.toSorted());
    expect(await namesOf(server, folder.store, ["--toolsets", toolsets.join(", ")])).toEqual(all);
  });

  test("--read-only mounts what changes nothing, and what is not mounted cannot be called", async () => {
    verifies("CORE-17");
    using folder = temporaryFolder();
    await using whole = await Host.start({ server, store: folder.store });
    const { tools } = await whole.client.listTools();
    const reading = tools.filter(({ annotations }) => annotations?.readOnlyHint === true).map(({ name }) => name);
    const writing = tools.filter(({ annotations }) => annotations?.readOnlyHint !== true).map(({ name }) => name);
    expect(reading.length).toBeGreaterThan(0);
    expect(writing.length).toBeGreaterThan(0);
    for (const era of ERAS) expect(await namesOf(server, folder.store, ["--read-only"], era)).toEqual(reading);
    await using reader = await Host.start({ server, store: folder.store, args: ["--read-only"] });
    for (const name of writing) await expect(reader.try(name, {}), name).rejects.toThrow(/Unknown tool/);
  });

  test("a toolset that does not exist is refused in one line that names those that do", async () => {
    verifies("CORE-17", "CORE-13");
    const toolsets = await toolsetsOf(server);
    for (const [asked, named] of [
      ["nonsense", "nonsense"],
      [`${toolsets[0]},nonsense`, "nonsense"],
      ["__proto__", "__proto__"],
    ] as const) {
      const outcome = await runBin(server, ["--toolsets", asked], { env: { SWARM_STORE: "memory:" } });
      expect(outcome).toMatchObject({
        code: 1,
        stdout: "",
        stderr: `${server} has no toolset "${named}". It has: ${toolsets.join(", ")}.\n`,
      });
    }
  });
});

test("task-coordination has the groups its users know", async () => {
  verifies("CORE-17");
  expect(await toolsetsOf("task-coordination")).toEqual(["tasks", "slots", "workflows", "assignment", "metrics"]);
});

describe.each(SERVERS)("the README's table of %s", (server) => {
  test("names the tools of each toolset, and what they cost in tokens within a tenth", async () => {
    verifies("CORE-17");
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const section = readme.split(`\n### ${server}\n`)[1]?.split(/\n##+ /)[0] ?? "";
    for (const toolset of await toolsetsOf(server)) {
      const [, named = "", tokens = ""] = new RegExp(`^\\| \`${toolset}\` \\| (.+) \\| ([\\d,]+) \\|$`, "m").exec(section) ?? [];
      await using host = await Host.start({ server, store: "memory:", args: ["--toolsets", toolset] });
      const { tools } = await host.client.listTools();
      expect(named.split(" ").toSorted(), toolset).toEqual(tools.map(({ name }) => `\`${name}\``).toSorted());
      // what hosts give a model of a definition
      const texts = tools.map(({ name, description, inputSchema }) =>
        JSON.stringify({ name, description, input_schema: inputSchema }),
      );
      const real = texts.reduce((sum, text) => sum + encode(text).length, 0);
      const written = Number(tokens.replace(",", ""));
      expect(Math.abs(written - real) / real, `${toolset}: README ${tokens}, really ${real}`).toBeLessThan(0.1);
    }
  });
});
