import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { temporaryFolder } from "../support/host.ts";

const DEMO = join(import.meta.dirname, "..", "..", "demo", "main.ts");

/** 90 files in three folders, and so four parts of the report: one for each folder and the total. */
test("the demo finishes its job although a worker and its servers are killed while it holds the report's lock", () => {
  verifies("TASK-07", "TASK-13", "TASK-14", "STATE-08", "COMM-07");
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
  expect(report).toMatch(/\| worker-\d +\| +\d+ \| +[\d.]+ % \| +\d+ \| killed +\|/);
  expect(report).toMatch(/from worker-\d to worker-\d, [\d,]+ ms after it was claimed/);
  // the dead worker's holding and one for each part, each with a token of its own
  expect(report).toMatch(/Held ([5-9]|\d\d) times, by one worker at a time, for 4 parts\./);
  const [, dead, token, next, nextToken] =
    /(worker-\d) was killed while it held it \(token (\d+)\); (worker-\d) had it [\d,]+ ms later \(token (\d+)\)/.exec(report) ??
    [];
  expect(next).not.toBe(dead);
  expect(Number(nextToken)).toBeGreaterThan(Number(token));
  expect(report).toMatch(
    /The planner heard of 4 parts\. The auditor came when [1-4] were announced, and read of 4 on the topic\./,
  );
});
