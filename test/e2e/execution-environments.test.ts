/** Every environment that is there from the start, run by the real bin and read back by another agent's server. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";

const SERVER = "distributed-execution";
const WAIT = { waitMs: 50_000, timeout: 60_000 };

/** Reads what it is given in each way, and leaves something in each way. */
const PROGRAMS = {
  javascript: {
    code: "writeFile('out/made.txt', readFile('in.txt') + args[0]); console.error('warned'); console.log(stdin); 6 * 7",
    value: 42,
  },
  typescript: {
    code: "const n: number = 6; writeFile('out/made.txt', readFile('in.txt') + args[0]); console.error('warned'); console.log(stdin); n * 7",
    value: 42,
  },
  python: {
    code: "import sys\nopen('out/made.txt','w').write(open('in.txt').read() + sys.argv[1])\nprint('warned', file=sys.stderr)\nprint(sys.stdin.read())\n6 * 7",
    value: 42,
  },
  bash: { code: 'mkdir -p out; printf %s "$(cat in.txt)$1" > out/made.txt; echo warned >&2; cat; echo' },
  node: {
    code: "const fs = require('fs'); fs.mkdirSync('out', {recursive: true}); fs.writeFileSync('out/made.txt', fs.readFileSync('in.txt', 'utf8') + process.argv[2]); console.error('warned'); console.log(fs.readFileSync(0, 'utf8'))",
  },
  python3: {
    code: "import os, sys\nos.makedirs('out', exist_ok=True)\nopen('out/made.txt','w').write(open('in.txt').read() + sys.argv[1])\nprint('warned', file=sys.stderr)\nprint(sys.stdin.read())",
  },
} as const;

interface Result {
  task: { status: string };
  result: { files: { path: string; artifactId: string }[] };
}

describe.each(Object.entries(PROGRAMS))("%s", (environment, program) => {
  test("takes code, arguments, input and files, and gives back output, exit code and files", { timeout: 120_000 }, async () => {
    verifies("EXEC-01", "EXEC-02", "EXEC-04", "EXEC-05", "EXEC-06", "EXEC-12");
    using folder = temporaryFolder();
    await using host = await Host.start({ server: SERVER, store: folder.store, agent: "ann" });
    await using other = await Host.start({ server: SERVER, store: folder.store, agent: "ben", env: { SWARM_EXEC_SLOTS: "0" } });
    const answer = await host.call<Result>("submit_task", {
      ...{ environment, code: program.code, args: ["!"], stdin: "read", files: [{ path: "in.txt", text: "given" }], ...WAIT },
    });
    expect(answer, host.stderr).toMatchObject({
      task: { status: "succeeded", environment },
      result: {
        ...{ exitCode: 0, stdout: "read\n", stderr: "warned\n", files: [{ path: "made.txt", mimeType: "text/plain" }] },
        ...("value" in program ? { value: program.value } : {}),
      },
    });
    const [made] = answer.result.files;
    expect(await other.call("get_artifact", { artifactId: made?.artifactId })).toMatchObject({ part: { text: "given!" } });
  });

  test("tells of a failure of the code's own, and does not repeat it", { timeout: 120_000 }, async () => {
    verifies("EXEC-02", "EXEC-09");
    using folder = temporaryFolder();
    await using host = await Host.start({ server: SERVER, store: folder.store, agent: "ann" });
    const answer = await host.call("submit_task", { environment, code: "this is no program (", ...WAIT });
    expect(answer, host.stderr).toMatchObject({
      task: { status: "failed", attempt: 1 },
      result: { exitCode: expect.toSatisfy((code: number) => code > 0), stderr: expect.stringMatching(/\S/) },
    });
  });
});

test("a Python session keeps variables between its tasks, and another session has none of them", {
  timeout: 180_000,
}, async () => {
  verifies("EXEC-13", "EXEC-05");
  using folder = temporaryFolder();
  await using host = await Host.start({ server: SERVER, store: folder.store, agent: "ann" });
  const begin = async () => (await host.call<{ session: { id: string } }>("start_session", { environment: "python" })).session.id;
  const [one, two] = [await begin(), await begin()];
  const run = (sessionId: string, code: string) => host.call("submit_task", { environment: "python", sessionId, code, ...WAIT });
  expect(await run(one, "kept = 41\nkept")).toMatchObject({ task: { status: "succeeded" }, result: { value: 41 } });
  expect(await run(one, "kept + 1")).toMatchObject({ task: { status: "succeeded" }, result: { value: 42 } });
  expect(await run(two, "kept")).toMatchObject({
    task: { status: "failed" },
    result: { stderr: expect.stringContaining("NameError") },
  });
});
