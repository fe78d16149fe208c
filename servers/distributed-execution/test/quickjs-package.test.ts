import { readFileSync, rmSync } from "node:fs";
import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundle, type Part } from "../../../scripts/bundle.mjs";
import { verifies } from "../../../test/requirements.ts";
import type { Driver } from "../src/sandbox/driver.ts";
import { runCode } from "./support/runs.ts";

const PACKAGE = join(import.meta.dirname, "..");

describe("the published package", () => {
  verifies("EXEC-04");
  let dist: string;
  let driver: Driver;
  beforeAll(async () => {
    dist = await mkdtemp(join(tmpdir(), "quickjs-package-"));
    const manifest = JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8")) as {
      engines: { node: string };
      bundle: Omit<Part, "folder">;
    };
    const entry = join(PACKAGE, "src", "sandbox", "quickjs", "driver.ts");
    await bundle({ entry, dist, engines: manifest.engines.node, parts: [{ folder: PACKAGE, ...manifest.bundle }] });
    const { openQuickJs } = await import(pathToFileURL(join(dist, "app.js")).href);
    driver = openQuickJs({ slots: 1, onError: () => {} });
  });
  afterAll(async () => {
    await driver?.close();
    rmSync(dist, { recursive: true, force: true });
  });

  it("runs JavaScript and TypeScript with nothing installed beside it", async () => {
    const ran = await runCode(driver, "javascript", "console.log({ args }); writeFile('out/a.txt', btoa('a')); [1 + 1]", {
      args: ["x"],
    });
    expect(ran).toMatchObject({ value: [2], stdout: '{ args: [ "x" ] }\n', files: { "a.txt": "YQ==" } });
    expect((await runCode(driver, "typescript", "enum A { B = 'b' }\nconst a: A = A.B; a")).value).toBe("b");
    expect((await driver.probe()).available).toBe(true);
  });

  it("lets the child read its program and the engine alone", async () => {
    const own = `/proc/${process.pid}/task/${process.pid}/children`;
    const pids = readFileSync(own, "latin1").trim().split(" ");
    const lines = pids.map((pid) => readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0"));
    const line = lines.find((words) => words.some((word) => word.startsWith(dist))) ?? [];
    expect(line).toContain("--permission");
    const allowed = line.filter((word) => word.startsWith("--allow"));
    expect(allowed).toEqual(["quickjs-child.js", "quickjs.wasm"].map((name) => `--allow-fs-read=${join(dist, name)}`));
    expect(await readdir(dist)).toEqual(expect.arrayContaining(["quickjs-child.js", "quickjs.wasm"]));
  });
});
