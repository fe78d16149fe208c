/** What is taken of what code left behind, and what is not. */
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { isCleanPath } from "../src/file-path.ts";
import { collectFiles, shownPath } from "../src/sandbox/collector.ts";

const LIMITS = { files: 20, fileBytes: 1_000, diskBytes: 10_000 };

describe("the collector", () => {
  verifies("EXEC-12");
  let folder: string;
  let out: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "collector-"));
    out = join(folder, "out");
    mkdirSync(out);
    writeFileSync(join(folder, "secret.txt"), "secret");
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const collect = async (limits = LIMITS) => {
    const { files, refused } = await collectFiles(out, limits);
    return { files: Object.fromEntries(files.map(({ path, bytes }) => [path, Buffer.from(bytes).toString()])), refused };
  };

  it("takes regular files, in folders too, in the order of their names", async () => {
    mkdirSync(join(out, "b", "c"), { recursive: true });
    writeFileSync(join(out, "b", "c", "deep.txt"), "deep");
    writeFileSync(join(out, "a.txt"), "a");
    writeFileSync(join(out, "empty"), "");
    expect(await collect()).toEqual({ files: { "a.txt": "a", "b/c/deep.txt": "deep", empty: "" }, refused: [] });
    expect(Object.keys((await collect()).files)).toEqual(["a.txt", "b/c/deep.txt", "empty"]);
  });

  it("takes nothing when nothing was left", async () => {
    rmSync(out, { recursive: true });
    expect(await collect()).toEqual({ files: {}, refused: [] });
  });

  it("follows no link, to a file or a folder or in place of its own folder", async () => {
    symlinkSync(join(folder, "secret.txt"), join(out, "file"));
    symlinkSync(folder, join(out, "folder"));
    symlinkSync("nowhere", join(out, "nothing"));
    expect(await collect()).toEqual({
      files: {},
      refused: ["file", "folder", "nothing"].map((path) => ({ path, because: "it is a link" })),
    });
    rmSync(out, { recursive: true });
    symlinkSync(folder, out);
    expect(await collect()).toEqual({ files: {}, refused: [{ path: "out", because: "it is not a folder" }] });
  });

  it("takes no file that has a second name", async () => {
    linkSync(join(folder, "secret.txt"), join(out, "hard"));
    expect(await collect()).toEqual({ files: {}, refused: [{ path: "hard", because: "it has more than one link" }] });
  });

  it("takes no pipe and no socket, and waits for neither", async () => {
    execFileSync("mkfifo", [join(out, "fifo")]);
    const server = createServer().listen(join(out, "socket"));
    await once(server, "listening");
    const { files, refused } = await collect();
    server.close();
    expect(files).toEqual({});
    expect(refused).toEqual(["fifo", "socket"].map((path) => ({ path, because: "it is not a regular file" })));
  });

  it("takes no file that is larger than it may be, however little room it takes", async () => {
    writeFileSync(join(out, "giant"), "");
    truncateSync(join(out, "giant"), 2 ** 40);
    writeFileSync(join(out, "more"), "x".repeat(1_001));
    writeFileSync(join(out, "just"), "x".repeat(1_000));
    const { files, refused } = await collect();
    expect(Object.keys(files)).toEqual(["just"]);
    expect(refused.map(({ path }) => path)).toEqual(["giant", "more"]);
  });

  it("stops at the number of files and at their size together", async () => {
    for (let n = 10; n < 40; n += 1) writeFileSync(join(out, `${n}`), "x");
    expect(Object.keys((await collect()).files)).toHaveLength(20);
    expect((await collect()).refused).toHaveLength(10);
    rmSync(out, { recursive: true });
    mkdirSync(out);
    for (const name of ["a", "b", "c"]) writeFileSync(join(out, name), "x".repeat(900));
    const { files, refused } = await collect({ ...LIMITS, diskBytes: 1_900 });
    expect(Object.keys(files)).toEqual(["a", "b"]);
    expect(refused).toEqual([{ path: "c", because: "all files together are too large" }]);
  });

  it("looks at a bounded number of entries, and tells a bounded number of refusals", async () => {
    for (let n = 0; n < 4_200; n += 1) symlinkSync("x", join(out, `${n}`));
    const { refused } = await collect();
    expect(refused).toHaveLength(20);
    expect(refused[0]).toMatchObject({ path: "out", because: expect.stringContaining("more than 4096") });
  });

  it("goes no deeper than a path may be", async () => {
    const deep = Array.from({ length: 40 }, () => "d").join("/");
    mkdirSync(join(out, deep), { recursive: true });
    writeFileSync(join(out, deep, "file"), "x");
    const { files, refused } = await collect();
    expect(files).toEqual({});
    expect(refused).toHaveLength(1);
  });

  it.each([
    ["..\\evil.txt", "..\\evil.txt"],
    ["two\nlines", "two?lines"],
    ["esc\u001b[31m", "esc?[31m"],
    ["turned\u202etxt.exe", "turned?txt.exe"],
    ["c:stream", "c:stream"],
    ["...", "..."],
  ])("refuses the name %j and shows it as %j", async (name, shown) => {
    writeFileSync(join(out, name), "x");
    expect(await collect()).toEqual({ files: {}, refused: [{ path: shown, because: "its path is not a clean one" }] });
  });

  it("refuses a name that is no text", async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${out}/`), Buffer.from([0x66, 0xff, 0xfe])]), "x");
    const { files, refused } = await collect();
    expect(files).toEqual({});
    expect(refused).toHaveLength(1);
  });

  it("takes files under clean names alone, whatever names there are", async () => {
    const name = fc
      .string({ unit: "binary", minLength: 1, maxLength: 40 })
      .filter(
        (text) => !text.includes("/") && !text.includes("\0") && text !== "." && text !== ".." && Buffer.byteLength(text) < 256,
      );
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(name, { maxLength: 8 }), async (names) => {
        rmSync(out, { recursive: true });
        mkdirSync(out);
        for (const one of names) writeFileSync(join(out, one), "x");
        const { files, refused } = await collect();
        expect(Object.keys(files).every(isCleanPath)).toBe(true);
        expect(Object.keys(files).length + refused.length).toBe(
          new Set(names.map((one) => Buffer.from(one).toString("hex"))).size,
        );
        for (const { path } of refused) expect(path).toBe(shownPath(path));
      }),
      { numRuns: 60 },
    );
  });
});
