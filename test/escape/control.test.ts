/** Each probe of the escape battery succeeds where nothing holds it: a probe that cannot fail would prove nothing. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { verifies } from "../requirements.ts";
import { describeEvidence } from "./battery.ts";
import { runInTheOpen } from "./control.ts";
import { LANGUAGES, LIMITS, PROBES, TRIES } from "./probes.ts";
import { Surroundings } from "./surroundings.ts";

describe.each(LANGUAGES)("code in %s without a sandbox", (language) => {
  verifies("EXEC-08");
  let surroundings: Surroundings;
  beforeAll(async () => {
    surroundings = await Surroundings.open();
  });
  afterEach(() => surroundings.reset());
  afterAll(() => surroundings.close());

  it.each(PROBES.filter((probe) => probe.language === language))("can $name", async (probe) => {
    const attempt = { surroundings, limits: { ...LIMITS, ...probe.limits }, victimPid: await surroundings.victim() };
    const evidence = await runInTheOpen(probe, attempt);
    expect(evidence.stdout).toContain(TRIES);
    await expect.poll(() => probe.escaped(evidence, attempt), { message: describeEvidence(evidence) }).toBe(true);
  });
});
