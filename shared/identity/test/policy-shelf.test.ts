import fc from "fast-check";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { Pattern } from "../src/policy/pattern.ts";
import { type Compiled, isAbout, Shelf } from "../src/policy/shelf.ts";

const unit = fc.constantFrom("a", "b", "/");
const pattern = fc.string({ unit: fc.oneof(unit, fc.constant("*")), maxLength: 6 }).map((text) => new Pattern(text));
const policies: fc.Arbitrary<Compiled[]> = fc
  .array(
    fc.record({
      effect: fc.constantFrom("permit" as const, "forbid" as const),
      resources: fc.option(fc.array(pattern, { minLength: 1, maxLength: 3 }), { nil: undefined, freq: 8 }),
    }),
    { maxLength: 40 },
  )
  .map((all) => all.map((one, at) => ({ ...one, id: `p${at}`, operations: [], who: undefined, checks: [], rate: undefined })));
const resource = fc.tuple(fc.string({ unit, maxLength: 7 }), fc.constantFrom("", "*")).map(([text, star]) => text + star);

test("a shelf finds exactly the policies that asking each would find, and each once", () => {
  verifies("SEC-04");
  fc.assert(
    fc.property(policies, fc.array(resource, { minLength: 1, maxLength: 10 }), (all, resources) => {
      const shelf = new Shelf(all);
      for (const one of resources) {
        const asked = all.filter((policy) => isAbout(policy, one)).map(({ id }) => id);
        expect(
          shelf
            .about(one)
            .map(({ id }) => id)
            .sort(),
        ).toEqual(asked.sort());
      }
    }),
    { numRuns: 1_000 },
  );
});
