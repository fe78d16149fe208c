/** Lives of messages as scripts that a person can read: golden/delivery. */
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { golden } from "../../../test/support/golden.ts";
import { DeliveryScript } from "./support/delivery-script.ts";

const FOLDER = join(import.meta.dirname, "golden", "delivery");
const files = readdirSync(FOLDER).filter((name) => name.endsWith(".txt"));

test("there are scripts", () => {
  expect(files.length).toBeGreaterThan(3);
});

for (const file of files) {
  test(basename(file, ".txt").replaceAll("-", " "), async () => {
    verifies("COMM-05", "COMM-06", "COMM-08", "COMM-14");
    const script = new DeliveryScript();
    await golden(join(FOLDER, file), (line) => script.run(line));
  });
}
