/**
 * The escape battery: every probe of a language, run by a driver as tasks are.
 *
 * To hold another driver to it, write a test file with
 *
 *     escapeBattery({ name: "quickjs", runtime: "javascript", language: "javascript", open: () => new QuickJsDriver(…) });
 *
 * and nothing more. `limits` raises what the runtime itself needs (Pyodide alone takes more memory than most); `except` names probes that
 * say nothing about a driver, each with the reason, which stands in the test's name. `test/escape/control.test.ts` shows that each probe
 * succeeds where there is no sandbox.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Driver, Limits, SandboxOutcome, SandboxTask } from "../../servers/distributed-execution/src/sandbox/driver.ts";
import { verifies } from "../requirements.ts";
import { type Attempt, type EscapeProbe, type Evidence, type Language, LIMITS, PROBES, TRIES } from "./probes.ts";
import { Surroundings } from "./surroundings.ts";

export interface Subject {
  /** The driver's name. */
  readonly name: string;
  readonly runtime: string;
  readonly language: Language;
  readonly open: () => Driver | Promise<Driver>;
  readonly limits?: Partial<Limits>;
  readonly except?: Readonly<Record<string, string>>;
}

export function escapeBattery(subject: Subject): void {
  describe(`code in ${subject.runtime} (${subject.name})`, () => {
    verifies("EXEC-08");
    let surroundings: Surroundings;
    let driver: Driver;
    beforeAll(async () => {
      surroundings = await Surroundings.open();
      process.env.CANARY = surroundings.secret;
      driver = await subject.open();
      const probe = await driver.probe();
      if (!probe.available) throw new Error(`the driver ${subject.name} is not available here: ${probe.reason}`);
      expect(Object.keys(probe.capabilities.runtimes)).toContain(subject.runtime);
    });
    afterEach(() => surroundings.reset());
    afterAll(async () => {
      delete process.env.CANARY;
      await driver?.close();
      await surroundings?.close();
    });

    for (const probe of PROBES.filter(({ language }) => language === subject.language)) {
      const because = subject.except?.[probe.name];
      if (because !== undefined) {
        it.skip(`is not asked to ${probe.name}: ${because}`, () => {});
        continue;
      }
      it(`cannot ${probe.name}`, async () => {
        const limits = { ...LIMITS, ...subject.limits, ...probe.limits };
        const attempt = { surroundings, limits, victimPid: await surroundings.victim() };
        const evidence = await runInSandbox(driver, subject.runtime, probe, attempt);
        expect(evidence.stdout, describeEvidence(evidence)).toContain(TRIES);
        expect(probe.escaped(evidence, attempt), describeEvidence(evidence)).toBe(false);
        expect(evidence.hostDied, "it runs tasks as before").toBe(false);
        expect(evidence.strays, "nothing of it runs any more").toEqual([]);
      });
    }
  });
}

/** Runs a probe as a task, and a small task after it. */
export async function runInSandbox(driver: Driver, runtime: string, probe: EscapeProbe, attempt: Attempt): Promise<Evidence> {
  const said = { stdout: "", stderr: "" };
  let outputBytes = 0;
  const outcome = await driver.run(taskOf(runtime, probe.code(attempt), attempt.limits), {
    signal: new AbortController().signal,
    onOutput: (stream, bytes) => {
      outputBytes += bytes.length;
      said[stream] += Buffer.from(bytes).toString();
    },
  });
  const strays = attempt.surroundings.strays();
  return {
    ...said,
    outputBytes,
    ending: outcome.ending,
    files: outcome.files.map(({ path, bytes }) => ({ path, size: bytes.length, bytes })),
    hostDied: !(await stillRuns(driver, runtime, attempt.limits)),
    strays,
  };
}

const NOTHING: Readonly<Record<string, string>> = { bash: "true", python: "pass", python3: "pass" };

async function stillRuns(driver: Driver, runtime: string, limits: Limits): Promise<boolean> {
  const wallMs = LIMITS.wallMs;
  const outcome: SandboxOutcome = await driver.run(taskOf(runtime, NOTHING[runtime] ?? ";", { ...limits, wallMs }), {
    signal: new AbortController().signal,
    onOutput: () => {},
  });
  return outcome.ending.kind === "exit" && outcome.ending.code === 0;
}

export function taskOf(runtime: string, code: string, limits: Limits): SandboxTask {
  return {
    runId: "escape",
    runtime,
    code,
    args: [],
    stdin: new Uint8Array(),
    files: [],
    env: {},
    limits,
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
  };
}

/** Enough of it to see what went wrong. */
export function describeEvidence({ stdout, stderr, ending, files, outputBytes }: Evidence): string {
  const paths = files.map(({ path, size }) => `${path} (${size})`);
  return JSON.stringify({ stdout: stdout.slice(0, 2_000), stderr: stderr.slice(0, 2_000), ending, paths, outputBytes }, null, 2);
}
