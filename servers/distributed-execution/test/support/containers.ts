/** A driver of containers over an engine of the test's own. */
import { IMAGE, noEngineBecause, type TestEngine } from "../../../../test/support/engine.ts";
import { type OperatorFile, parseOperatorFile } from "../../src/operator-file.ts";
import { DockerDriver } from "../../src/sandbox/docker/driver.ts";
import type { Driver, SandboxTask } from "../../src/sandbox/driver.ts";

export { IMAGE };

/**
 * Whether containers can be tested here. On CI and where there could be an engine the tests run, and fail for what is missing; elsewhere it
 * is said aloud that they are left out.
 */
export function canTestContainers(): boolean {
  const because = noEngineBecause();
  if (because === undefined || process.env.CI !== undefined || process.getuid?.() === 0) return true;
  process.stderr.write(`\nLEFT OUT: containers are not tested here: ${because}.\n\n`);
  return false;
}

export function operatorOf(engine: { readonly host: string }): OperatorFile {
  return parseOperatorFile({
    ceiling: { drivers: ["docker"], images: ["localhost/*"] },
    worker: { containerEngine: engine.host },
  });
}

/** Each task is of the test's image. */
export class TestDocker extends DockerDriver {
  override run(task: SandboxTask, hooks: Parameters<Driver["run"]>[1]): ReturnType<Driver["run"]> {
    return super.run({ ...task, options: { image: IMAGE, ...task.options } }, hooks);
  }
}

export function dockerOn(engine: Pick<TestEngine, "host">, onError: (error: unknown) => void = () => {}): TestDocker {
  return new TestDocker({ operator: operatorOf(engine), onError }, {});
}
