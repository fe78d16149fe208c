import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { temporaryFolder } from "../support/host.ts";

const DEMO = join(import.meta.dirname, "..", "..", "demo", "main.ts");

test("the demo finishes its job although a worker and its server are killed in the middle, every file counted once", () => {
  verifies("TASK-07", "TASK-13", "TASK-14");
  using temporary = temporaryFolder();
  const folder = join(temporary.path, "project");
  for (const name of ["a", "b", "c"]) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < 30; i++) writeFileSync(join(folder, name, `${i}.txt`), `${name}\n\nline ${i}\n`);
  }
  const out = join(temporary.path, "report.md");
  const run = spawnSync(process.execPath, [DEMO, folder, "--kill", "--pause", "10", "--out", out], { encoding: "utf8" });
  expect(run.status, `${run.stdout}\n${run.stderr}`).toBe(0);
  const report = readFileSync(out, "utf8");
  expect(report).toContain("# project: 90 files, 270 lines");
  expect(report).toContain("Every file was counted once: yes");
  expect(report).toMatch(/\| worker-\d +\| +\d+ \| +[\d.]+ % \| killed +\|/);
  expect(report).toMatch(/from worker-\d to worker-\d, [\d,]+ ms after it was claimed/);
});
