import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { binOf } from "../support/host.ts";

/** Bytes of bundled code that a server may load before its first answer; the official SDK and zod are most of it, and zod with its translations would be over. */
const START_BYTES_MAX = 800_000;

/** The file at the heart of a built server and all that it imports, in turn; what is imported when needed is not among them. */
function loadedAtStart(server: string): Map<string, string> {
  const dist = dirname(binOf(server));
  const loaded = new Map<string, string>();
  const next = ["app.js"];
  for (let name = next.pop(); name !== undefined; name = next.pop()) {
    if (loaded.has(name)) continue;
    const code = readFileSync(join(dist, name), "utf8");
    loaded.set(name, code);
    for (const [, imported] of code.matchAll(/(?:\bfrom|\bimport) ?"\.\/([^"]+\.js)"/g)) if (imported) next.push(imported);
  }
  return loaded;
}

describe.each(["task-coordination", "distributed-execution"])("what %s loads at its start", (server) => {
  const loaded = loadedAtStart(server);
  const code = [...loaded.values()].join("\n");

  it("is bounded, so that a host waits little longer for it than for a bare server", () => {
    expect(loaded.size).toBeGreaterThan(1); // it is in parts at all
    expect(Buffer.byteLength(code)).toBeLessThan(START_BYTES_MAX);
  });

  it("holds no engine, no HTTP and no command line", () => {
    const asked = [...code.matchAll(/getBuiltinModule\("([^"]+)"\)/g)].map(([, name]) => name);
    expect(asked).toContain("node:crypto"); // the pattern finds what is there
    for (const name of ["node:http", "node:http2", "node:net", "node:sqlite", "node:child_process"])
      expect(asked).not.toContain(name);
  });

  it("imports none of Node's own modules by a statement, which would load all that each of them can", () => {
    expect(code).toContain("getBuiltinModule");
    const imported = [...code.matchAll(/^import[^\n"]*"(node:[^"]+)"/gm)].map(([, name]) => name);
    expect(new Set(imported)).toEqual(new Set(["node:module"])); // the bridge for CommonJS, in the banner of each file
  });
});
