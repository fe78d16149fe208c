/** The operator's file: what it means, and how each mistake in it is told. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { CEILING_DEFAULT } from "../src/manifest.ts";
import { NO_OPERATOR_FILE, parseOperatorFile, readOperatorFile } from "../src/operator-file.ts";

const FILE = {
  ceiling: { limits: { memoryMiB: 4_096 }, network: { mode: "hosts", hosts: ["pypi.org"] }, packages: true },
  environments: [{ name: "science", runtime: "python", packages: ["numpy"], network: { mode: "hosts", hosts: ["pypi.org"] } }],
  worker: { labels: ["gpu", "big", "gpu"], environments: ["science", "python"], slots: 4 },
  mcpServers: { thinking: { command: "npx" } },
  profiles: { coordination: {} },
};

const mistake = (json: unknown): SwarmError => {
  try {
    parseOperatorFile(json);
  } catch (error) {
    if (error instanceof SwarmError && error.code === "invalid_argument") return error;
    throw error;
  }
  throw new Error("It was accepted.");
};

describe("an operator's file", () => {
  test("sets the ceiling where it says something, adds environments, and says what workers take", () => {
    verifies("EXEC-03");
    const read = parseOperatorFile(FILE);
    expect(read.ceiling).toEqual({
      ...CEILING_DEFAULT,
      limits: { ...CEILING_DEFAULT.limits, memoryMiB: 4_096 },
      network: { mode: "hosts", hosts: ["pypi.org"] },
      packages: true,
    });
    expect(read.environments).toMatchObject([{ name: "science", drivers: ["pyodide"], packages: ["numpy"] }]);
    expect(read.worker).toEqual({ labels: ["big", "gpu"], environments: ["science", "python"], slots: 4 });
    expect(read).toMatchObject({ mcpServers: FILE.mcpServers, profiles: FILE.profiles });
    expect(parseOperatorFile({})).toEqual(NO_OPERATOR_FILE);
  });

  test.each<[unknown, RegExp]>([
    [[], /the whole/],
    [{ ceilings: {} }, /unknown field "ceilings"/],
    [{ ceiling: { limits: { memoryMiB: 8 } } }, /ceiling: "limits\.memoryMiB" is out of bounds: it may be 16 to/],
    [{ ceiling: { limits: { memory: 8 } } }, /"ceiling\.limits\.memory"/],
    [{ ceiling: { drivers: ["docker", "vm2"] } }, /"ceiling\.drivers\[1\]"/],
    [{ ceiling: { network: { mode: "hosts" } } }, /ceiling: "network\.hosts" is missing/],
    [{ ceiling: { mounts: [{ below: "data" }] } }, /"ceiling\.mounts\[0\]\.below"/],
    [
      {
        environments: [
          { name: "a", runtime: "bash" },
          { name: "B", runtime: "bash" },
        ],
      },
      /"environments\[1\]\.name"/,
    ],
    [{ environments: [{ name: "a", runtime: "cobol" }] }, /environments\[0\]: "runtime"/],
    [
      {
        environments: [
          { name: "a", runtime: "bash" },
          { name: "a", runtime: "bash" },
        ],
      },
      /"environments\[1\]\.name": a is there already/,
    ],
    [{ environments: [{ name: "python", runtime: "bash" }] }, /"environments\[0\]\.name": python is there already/],
    [{ worker: { slots: -1 } }, /"worker\.slots"/],
    [{ worker: { labels: ["a b"] } }, /"worker\.labels\[0\]"/],
  ])("with %j is refused with the place", (json, place) => {
    verifies("EXEC-03");
    const { message, hint } = mistake(json);
    expect(message).toMatch(/^The file that SWARM_EXEC_CONFIG names is not valid: /);
    expect(message).toMatch(place);
    expect(hint).toBeDefined();
  });

  test("of the README is one, and holds what it says of it", () => {
    verifies("EXEC-03");
    const readme = readFileSync(join(import.meta.dirname, "..", "README.md"), "utf8");
    const [, json = ""] = /```json\n(\{\s+"ceiling"[\s\S]+?)```/.exec(readme) ?? [];
    const read = parseOperatorFile(JSON.parse(json));
    expect(read.environments).toMatchObject([
      { name: "data", drivers: ["bwrap", "sandbox-runtime"], mounts: [{ readOnly: true }] },
    ]);
    expect(read.ceiling).toMatchObject({ network: { mode: "hosts" }, drivers: expect.arrayContaining(["docker"]) });
    const table = readme.split("| member | what |")[1]?.split("\n\n")[0] ?? "";
    for (const member of [...Object.keys(JSON.parse(json) as object), "mcpServers", "profiles"])
      expect(table).toContain(`\`${member}\``);
  });

  test("that is missing, no JSON or too long is refused with what to do", () => {
    const folder = mkdtempSync(join(tmpdir(), "mcp-swarm-test-"));
    try {
      const path = join(folder, "exec.json");
      expect(() => readOperatorFile(path)).toThrow(/cannot be read/);
      writeFileSync(path, '{"ceiling": {,}');
      expect(() => readOperatorFile(path)).toThrow(/is not JSON/);
      writeFileSync(path, `"${"x".repeat(1024 * 1024)}"`);
      expect(() => readOperatorFile(path)).toThrow(/longer than/);
      expect(() => readOperatorFile(folder)).toThrow(/cannot be read/);
      writeFileSync(path, JSON.stringify(FILE));
      expect(readOperatorFile(path)).toEqual(parseOperatorFile(FILE));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
