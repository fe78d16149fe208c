/** Folders of runs: who may enter them, what is written there, and that nothing of them is left. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { createWorkFolder, sweepWorkFolders } from "../src/sandbox/work-folder.ts";

describe("the folder of a run", () => {
  verifies("EXEC-12");

  it("is its worker's alone, and holds what was written", async () => {
    const folder = await createWorkFolder();
    await folder.write("input", [{ path: "data/deep/a.txt", bytes: Buffer.from("a") }]);
    expect(statSync(folder.path).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder.path, "input/data/deep/a.txt")).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(folder.path, "input/data/deep/a.txt"), "utf8")).toBe("a");
    await folder.remove();
    expect(existsSync(folder.path)).toBe(false);
  });

  it.each(["../out.txt", "/etc/x", "a/../../b", "a\\b", "", "a//b", "a\nb"])("takes no file with the path %j", async (path) => {
    const folder = await createWorkFolder();
    await expect(folder.write("input", [{ path, bytes: Buffer.from("x") }])).rejects.toMatchObject({ code: "invalid_argument" });
    await folder.remove();
  });

  it("is removed whatever rights and depth code has given to what is in it", async () => {
    const folder = await createWorkFolder();
    const nest = `import os
for n in range(200):
    os.mkdir("x" * 200)
    os.chdir("x" * 200)
os.mkdir("shut")
os.chmod("shut", 0)
os.chmod(".", 0)`;
    execFileSync("python3", ["-c", nest], { cwd: folder.path });
    await folder.remove();
    expect(existsSync(folder.path)).toBe(false);
  });

  it("is swept once its worker was killed, and not before", async () => {
    const base = mkdtempSync(join(tmpdir(), "sweep-"));
    const worker = spawn(process.execPath, [join(import.meta.dirname, "support", "leave-folder.ts")], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { PATH: process.env.PATH ?? "", TMPDIR: base },
    });
    const [said] = (await once(worker.stdout, "data")) as [Buffer];
    const path = said.toString().trim();
    const own = await createWorkFolder({ base });
    expect(await sweepWorkFolders(base)).toBe(0);
    expect(existsSync(path)).toBe(true);
    const gone = once(worker, "exit");
    worker.kill("SIGKILL");
    await gone;
    expect(await sweepWorkFolders(base)).toBe(1);
    expect(existsSync(path)).toBe(false);
    expect(existsSync(own.path)).toBe(true);
    rmSync(base, { recursive: true });
  });
});
