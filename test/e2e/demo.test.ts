import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { temporaryFolder } from "../support/host.ts";

const DEMO = join(import.meta.dirname, "..", "..", "demo", "main.ts");

/** Runs it over 90 files in three folders, and so four parts of the report: one for each folder and the total. */
function demo(...options: readonly string[]): { report: string; transcript: string; stderr: string } {
  using temporary = temporaryFolder();
  const folder = join(temporary.path, "project");
  for (const name of ["a", "b", "c"]) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < 30; i++) writeFileSync(join(folder, name, `${i}.txt`), `${name}\n\nline ${i}\n`);
  }
  const out = join(temporary.path, "report.md");
  const run = spawnSync(process.execPath, [DEMO, folder, ...options, "--pause", "10", "--out", out], { encoding: "utf8" });
  expect(run.status, `${run.stdout}\n${run.stderr}`).toBe(0);
  const report = readFileSync(out, "utf8");
  expect(report).toContain("# project: 90 files, 270 lines");
  expect(report).toContain("Every file was counted once: yes");
  return { report, transcript: run.stdout, stderr: run.stderr };
}

test("the demo finishes its job although a worker and its servers are killed while it holds the report's lock", () => {
  verifies("TASK-07", "TASK-13", "TASK-14", "STATE-08", "COMM-07");
  const { report } = demo("--kill");
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

test("in a secured swarm the demo finishes although one worker is killed and one revoked, each with the report's lock in its hands", () => {
  verifies("SEC-05", "SEC-08", "SEC-09");
  const { report, transcript, stderr } = demo("--kill", "--secure");
  expect(stderr).toBe("");
  const lost = [...report.matchAll(/(worker-\d) was (killed|revoked) while it held it \(token \d+\); (worker-\d) had it/g)];
  expect(lost.map(([, , how]) => how)).toEqual(["killed", "revoked"]);
  const [[, killed], [, revoked, , next]] = lost as [RegExpMatchArray, RegExpMatchArray];
  expect(new Set([killed, revoked, next]).size).toBe(3);
  // what the audit log says: the lock was the last thing that it was given, and then it was refused
  expect(report).toMatch(
    new RegExp(
      `${revoked} was revoked while it held the lock and the task \\S+\\.\n` +
        "Its last accepted write: acquire_lock on lock/report, [\\d,]+ ms before the revocation. " +
        "Its first refusal: [\\d,]+ ms after it\\.",
    ),
  );
  for (const tool of ["set_state", "update_task", "claim_next_task", "broadcast_message"]) {
    expect(report).toContain(`${tool} (permission_denied)`);
    expect(transcript).toContain(`${revoked} goes on and is refused: ${tool}: permission_denied: ${revoked} was revoked`);
  }
  expect(report).toMatch(
    /The audit log has [\d,]+ entries in \d+ chains, .* copied outside the store\. Verified: nothing was changed;/,
  );
});

test("the demo does not secure a store that somebody may want to use again", () => {
  using temporary = temporaryFolder();
  const store = join(temporary.path, "swarm.db");
  const run = spawnSync(process.execPath, [DEMO, temporary.path, "--secure", "--store", `sqlite:${store}`], { encoding: "utf8" });
  expect(run.status).toBe(1);
  expect(run.stderr).toContain("the keys are thrown away");
  expect(existsSync(store)).toBe(false);
});
