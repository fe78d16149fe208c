/** Nothing gets out of Pyodide in Deno: not Python, and not the JavaScript that Python can reach. */
import { escapeBattery } from "../../../test/escape/battery.ts";
import type { Driver } from "../src/sandbox/driver.ts";
import { openPyodideDriver } from "../src/sandbox/pyodide/driver.ts";

/** Deno and Pyodide take about 190 MiB of it. A start takes CPU time of its own, which a machine under load counts in wall time. */
const limits = { memoryMiB: 512 };
/** What JavaScript began is given a moment, as an event loop would. */
const SETTLE_S = 0.3;

const open = (): Driver =>
  openPyodideDriver({
    slots: 1,
    onError: (error) => {
      throw error;
    },
  });

/** The same driver, whose code is JavaScript run by Python. */
function openJavaScript(): Driver {
  const driver = open();
  return {
    name: driver.name,
    probe: () => driver.probe(),
    close: () => driver.close(),
    run: (task, hooks) => {
      if (task.code === "pass") return driver.run(task, hooks); // asked after each probe, whether it still runs Python
      const code = `from pyodide.code import run_js
import asyncio
run_js(${JSON.stringify(task.code)})
await asyncio.sleep(${SETTLE_S})`;
      return driver.run({ ...task, code }, hooks);
    },
  };
}

escapeBattery({ name: "pyodide", runtime: "python", language: "python", open, limits });
escapeBattery({ name: "pyodide, by way of JavaScript", runtime: "python", language: "javascript", open: openJavaScript, limits });
