/** A worker's process: runs one piece of JavaScript in QuickJS, passing on what it prints. Its argument: the code. */
import { openQuickJs } from "../../src/sandbox/quickjs/driver.ts";
import { runCode } from "./runs.ts";

const [code = ""] = process.argv.slice(2);
const driver = openQuickJs({ slots: 1, onError: () => process.exit(1) });
await runCode(driver, "javascript", code, {
  limits: { wallMs: 60_000, cpuMs: 60_000 },
  onStdout: (text) => process.stdout.write(text),
});
await driver.close();
