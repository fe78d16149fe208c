/** Nothing gets out of QuickJS. */
import { escapeBattery } from "../../../test/escape/battery.ts";
import { openQuickJs } from "../src/sandbox/quickjs/driver.ts";

escapeBattery({
  name: "quickjs",
  runtime: "javascript",
  language: "javascript",
  open: () =>
    openQuickJs({
      slots: 1,
      onError: (error) => {
        throw error;
      },
    }),
});
