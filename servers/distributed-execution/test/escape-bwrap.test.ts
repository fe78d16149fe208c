/** Nothing gets out of bubblewrap, in any of its languages. */
import { escapeBattery } from "../../../test/escape/battery.ts";
import { BwrapDriver } from "../src/sandbox/bwrap/driver.ts";

const open = (): BwrapDriver => new BwrapDriver();

escapeBattery({ name: "bwrap", runtime: "bash", language: "bash", open });
escapeBattery({ name: "bwrap", runtime: "python3", language: "python", open });
escapeBattery({ name: "bwrap", runtime: "node", language: "javascript", open });
