/** Nothing gets out of sandbox-runtime, in any of its languages. */
import { escapeBattery } from "../../../test/escape/battery.ts";
import { SandboxRuntimeDriver } from "../src/sandbox/sandbox-runtime/driver.ts";

const open = (): SandboxRuntimeDriver => new SandboxRuntimeDriver();

/** Its disk is the machine's own: what is written is counted, as its capabilities say, and not refused beforehand. */
const except = { "fill a disk with empty files": "they are counted several times a second, and these are made in less" };

escapeBattery({ name: "sandbox-runtime", runtime: "bash", language: "bash", open, except });
escapeBattery({ name: "sandbox-runtime", runtime: "python3", language: "python", open });
escapeBattery({ name: "sandbox-runtime", runtime: "node", language: "javascript", open });
