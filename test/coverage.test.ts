import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { requirements } from "./requirements.ts";

const root = join(import.meta.dirname, "..");
/** The servers that are finished: each promise in their part of the catalogue must be proven. */
const FINISHED = ["CORE", "TASK", "COMM", "STATE", "EXEC", "VOTE", "SEC"];

test("every promise of a finished server is cited by a test", () => {
  const files = globSync(
    ["test/**/*.test.ts", "shared/*/test/**/*.test.ts", "servers/*/test/**/*.test.ts", "test/contract/suite.ts"],
    { cwd: root },
  );
  expect(files.length).toBeGreaterThan(10);
  const cited = new Set<string>();
  for (const file of files) {
    for (const [, ids] of readFileSync(join(root, file), "utf8").matchAll(/\bverifies\(([^)]*)\)/g)) {
      for (const [, id] of (ids ?? "").matchAll(/"([A-Z]+-\d+)"/g)) cited.add(id ?? "");
    }
  }
  const wanted = Object.keys(requirements).filter((id) => FINISHED.includes(id.split("-")[0] ?? ""));
  expect(wanted.filter((id) => !cited.has(id))).toEqual([]);
});
