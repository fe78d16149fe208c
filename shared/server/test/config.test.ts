import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readConfig } from "../src/config.ts";

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "mcp-swarm-config-")));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function git(cwd: string, ...args: string[]): void {
  const result = spawnSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.org", ...args], { cwd, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`git ${args.join(" ")}: ${result.stderr}`);
}

describe("the default store", () => {
  test("is the same for a repository, its subfolders and its worktrees", () => {
    const repository = join(folder, "My Project");
    mkdirSync(join(repository, "src"), { recursive: true });
    git(repository, "init", "-q");
    writeFileSync(join(repository, "a"), "a");
    git(repository, "add", "a");
    git(repository, "commit", "-qm", "a");
    git(repository, "worktree", "add", "-q", join(folder, "elsewhere"));
    const url = readConfig({}, repository).storeUrl;
    expect(url).toMatch(/^sqlite:.*\/my-project-[0-9a-f]{10}\/swarm\.db$/);
    expect(readConfig({}, join(repository, "src")).storeUrl).toBe(url);
    expect(readConfig({}, join(folder, "elsewhere")).storeUrl).toBe(url);
    expect(readConfig({ CLAUDE_PROJECT_DIR: join(folder, "elsewhere") }, folder).storeUrl).toBe(url);
  });

  test("differs between folders that are in no repository", () => {
    for (const name of ["a", "b"]) mkdirSync(join(folder, name));
    expect(readConfig({}, join(folder, "a")).storeUrl).not.toBe(readConfig({}, join(folder, "b")).storeUrl);
  });
});

describe("a variable", () => {
  test.each([
    ["SWARM_LEASE_MS", "soon"],
    ["SWARM_LEASE_MS", "10"],
    ["SWARM_WORKER_SLOTS", "0"],
    ["SWARM_EXEC_SLOTS", "65"],
    ["SWARM_DURABILITY", "maybe"],
    ["SWARM_LOG", "loud"],
  ])("%s=%s is refused by name", (name, value) => {
    expect(() => readConfig({ [name]: value }, folder)).toThrow(name);
  });

  test("that is empty counts as not set", () => {
    expect(readConfig({ SWARM_LEASE_MS: "", SWARM_STORE: "" }, folder)).toMatchObject({ leaseMs: 15_000 });
  });
});

describe("what a secured swarm needs", () => {
  test("is read as it is written, files from where the process was started", () => {
    const rootKey = "A".repeat(43);
    const config = readConfig(
      { SWARM_KEY_FILE: "keys/ann.json", SWARM_ROOT_KEY: rootKey, SWARM_PUBLIC_URL: "https://swarm.example" },
      folder,
    );
    expect(config).toMatchObject({ keyFile: join(folder, "keys", "ann.json"), rootKey, publicUrl: "https://swarm.example" });
    expect(readConfig({ SWARM_KEY_FILE: "", SWARM_ROOT_KEY: "" }, folder)).toMatchObject({
      keyFile: undefined,
      rootKey: undefined,
    });
  });

  test.each([
    ["SWARM_ROOT_KEY", "A".repeat(42)],
    ["SWARM_ROOT_KEY", `${"A".repeat(42)}=`],
    ["SWARM_PUBLIC_URL", "swarm.example"],
    ["SWARM_CALL_RATE", "0"],
  ])("names %s when it is %s", (name, value) => {
    expect(() => readConfig({ [name]: value }, folder)).toThrow(
      expect.objectContaining({ message: expect.stringContaining(name) }),
    );
  });
});
