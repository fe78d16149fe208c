/** Nothing gets out of a container, of a real engine. */
import { afterAll, beforeAll, describe } from "vitest";
import { escapeBattery } from "../../../test/escape/battery.ts";
import { TestEngine } from "../../../test/support/engine.ts";
import { canTestContainers, dockerOn } from "./support/containers.ts";

describe.runIf(canTestContainers())("containers", () => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await TestEngine.start();
  }, 120_000);
  afterAll(() => engine?.stop(), 120_000);

  escapeBattery({ name: "docker", runtime: "bash", language: "bash", open: () => dockerOn(engine) });
});
