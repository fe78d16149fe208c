/** One file has one name in all worktrees: with a real repository, made by git, and with layouts that git can make elsewhere. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { normalizeGlobs, normalizePath } from "@mcp-swarm/coordination";
import { commonGitDirectory } from "@mcp-swarm/server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Worktrees } from "../src/worktrees.ts";

const refused = expect.objectContaining({ code: "invalid_argument" });
let folder: string;
/** The main checkout, a worktree inside it, one beside it, and a folder that is in no repository. */
let main: string;
let inside: string;
let beside: string;
let elsewhere: string;

function git(at: string, ...args: string[]): void {
  const quiet = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" };
  execFileSync("git", ["-C", at, "-c", "user.name=t", "-c", "user.email=t@example.org", ...args], { env: quiet, stdio: "pipe" });
}

function write(path: string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, "x");
}

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "mcp-swarm-worktrees-")));
  main = join(folder, "main");
  inside = join(main, ".trees", "inside");
  beside = join(folder, "beside");
  elsewhere = join(folder, "elsewhere");
  for (const file of ["src/a.ts", "lib/b.ts", "packages/one/c.ts"]) write(join(main, file));
  mkdirSync(join(elsewhere, "src"), { recursive: true });
  git(folder, "init", "-q", "main");
  git(main, "add", ".");
  git(main, "commit", "-qm", "first");
  git(main, "worktree", "add", "-q", inside, "-b", "inside");
  git(main, "worktree", "add", "-q", beside, "-b", "beside");
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const optionsFor = (projectFolder: string) =>
  new Worktrees({ projectFolder, commonDirectory: () => commonGitDirectory(projectFolder) }).pathOptions();

describe("a path in a worktree", () => {
  test("is the file at that path below the root, whichever worktree asks and whichever is named", async () => {
    verifies("STATE-12");
    for (const asker of [main, inside, beside, join(main, "packages", "one")]) {
      const options = await optionsFor(asker);
      for (const root of [main, inside, beside]) {
        expect(normalizePath(join(root, "src", "a.ts"), options)).toBe("src/a.ts");
        expect(normalizePath(join(root, "new", "folder", "d.ts"), options)).toBe("new/folder/d.ts");
        expect(normalizeGlobs([join(root, "src", "**", "*.{ts,js}")], options)).toEqual(["src/**/*.ts", "src/**/*.js"]);
        expect(normalizeGlobs([root, `${root}/`], options)).toEqual(["**"]);
      }
      for (const given of ["src/a.ts", "./src//a.ts", "src\\a.ts", "lib/../src/a.ts"]) {
        expect(normalizePath(given, options)).toBe("src/a.ts");
      }
    }
    // from one worktree into another by a relative path
    const options = await optionsFor(main);
    expect(normalizePath(join(".trees", "inside", "src", "a.ts"), options)).toBe("src/a.ts");
    expect(normalizePath(relative(main, join(beside, "src", "a.ts")), options)).toBe("src/a.ts");
    expect(normalizeGlobs([".trees/inside/src/*.ts", ".trees/*/src/*.ts"], options)).toEqual(["src/*.ts", ".trees/*/src/*.ts"]);
  });

  test("outside the repository is refused, as a path and as a glob", async () => {
    verifies("STATE-12");
    const options = await optionsFor(main);
    for (const given of [
      join(elsewhere, "src", "a.ts"),
      folder,
      "/",
      "/*/src/a.ts",
      "../elsewhere/a.ts",
      "../../x",
      `${main}-2/a.ts`,
      "C:/w/a.ts",
    ]) {
      expect(() => normalizePath(given, options), given).toThrow(refused);
      expect(() => normalizeGlobs([given], options), given).toThrow(refused);
    }
    expect(() => normalizeGlobs(["src/*/../../../x"], options)).toThrow(refused);
  });

  test("that goes through links is the file that they lead to, as long as it is in the repository", async () => {
    verifies("STATE-12");
    symlinkSync("../lib", join(main, "src", "linked"));
    symlinkSync("a.ts", join(main, "src", "same.ts"));
    symlinkSync(elsewhere, join(main, "outside"));
    symlinkSync("nowhere", join(main, "dangling"));
    symlinkSync(main, join(folder, "by-another-name"));
    const options = await optionsFor(main);
    expect(normalizePath("src/linked/b.ts", options)).toBe("lib/b.ts");
    expect(normalizePath("src/linked/new.ts", options)).toBe("lib/new.ts");
    expect(normalizeGlobs(["src/linked/**"], options)).toEqual(["lib/**"]);
    expect(normalizePath("src/same.ts", options)).toBe("src/a.ts");
    expect(normalizePath("outside/src/a.ts", options)).toBe("outside/src/a.ts");
    expect(normalizePath("dangling/a.ts", options)).toBe("dangling/a.ts");
    expect(normalizePath(join(folder, "by-another-name", "src", "a.ts"), options)).toBe("src/a.ts");
    expect(await optionsFor(join(folder, "by-another-name")).then((mine) => normalizePath(join(main, "lib", "b.ts"), mine))).toBe(
      "lib/b.ts",
    );
  });

  test("is known as soon as the worktree is there, and no longer than it is", async () => {
    verifies("STATE-12");
    const worktrees = new Worktrees({ projectFolder: main, commonDirectory: () => commonGitDirectory(main) });
    const later = join(folder, "later");
    const file = join(later, "src", "a.ts");
    const before = await worktrees.pathOptions();
    expect(() => normalizePath(file, before)).toThrow(refused);
    git(main, "worktree", "add", "-q", later, "-b", "later");
    expect(normalizePath(file, await worktrees.pathOptions())).toBe("src/a.ts");
    git(main, "worktree", "remove", "--force", later);
    const after = await worktrees.pathOptions();
    expect(() => normalizePath(file, after)).toThrow(refused);
  });
});

describe("layouts of git", () => {
  test("a bare repository with worktrees, whose pointers may be relative", async () => {
    verifies("STATE-12");
    const bare = join(folder, "bare.git");
    git(folder, "clone", "-q", "--bare", main, bare);
    const [one, two] = [join(folder, "bare-one"), join(folder, "bare-two")];
    git(bare, "worktree", "add", "-q", one, "-b", "one");
    git(bare, "worktree", "add", "-q", two, "-b", "two");
    // as `worktree.useRelativePaths` has it since git 2.48
    const pointer = join(bare, "worktrees", "bare-two");
    writeFileSync(join(pointer, "gitdir"), `${relative(pointer, join(two, ".git"))}\n`);
    const options = await optionsFor(one);
    expect(normalizePath(join(two, "src", "a.ts"), options)).toBe("src/a.ts");
    expect(normalizePath(join(one, "src", "a.ts"), options)).toBe("src/a.ts");
    expect(() => normalizePath(join(bare, "config"), options)).toThrow(refused);
  });

  test("a worktree whose folder was taken away, or whose pointer is empty, is no hindrance", async () => {
    verifies("STATE-12");
    const gone = join(folder, "gone");
    git(main, "worktree", "add", "-q", gone, "-b", "gone");
    renameSync(gone, join(folder, "moved"));
    mkdirSync(join(main, ".git", "worktrees", "broken"));
    writeFileSync(join(main, ".git", "worktrees", "broken", "gitdir"), "");
    const options = await optionsFor(main);
    expect(normalizePath(join(beside, "src", "a.ts"), options)).toBe("src/a.ts");
    expect(normalizePath(join(gone, "src", "a.ts"), options)).toBe("src/a.ts");
    rmSync(join(main, ".git", "worktrees", "broken"), { recursive: true });
  });

  test("a repository in a folder whose name is written in decomposed characters", async () => {
    verifies("STATE-12");
    const named = join(folder, "caf\u0065\u0301");
    mkdirSync(join(named, "src"), { recursive: true });
    git(named, "init", "-q");
    const options = await optionsFor(named);
    for (const root of [named, named.normalize("NFC")])
      expect(normalizePath(join(root, "src", "a.ts"), options)).toBe("src/a.ts");
  });

  test("outside a repository the folder itself is the root", async () => {
    verifies("STATE-12");
    const options = await optionsFor(elsewhere);
    expect(normalizePath(join(elsewhere, "src", "a.ts"), options)).toBe("src/a.ts");
    expect(normalizePath("src/a.ts", options)).toBe("src/a.ts");
    expect(() => normalizePath(join(main, "src", "a.ts"), options)).toThrow(refused);
  });
});
