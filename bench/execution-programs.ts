/** What a sandbox adds to a program of this machine: one task after the other on each driver that runs them, and the bare program beside it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { DriverName } from "../servers/distributed-execution/src/sandbox/driver.ts";
import { driverFor, emptyTask, type Kind, openDrivers, runEmpty } from "./execution-tasks.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { contest } from "./stats.ts";

const ROUNDS = { full: 25, quick: 5 };
const PROGRAMS = [
  { kind: "bash", command: "bash", args: ["-c"] },
  { kind: "node", command: process.execPath, args: ["-e"] },
  { kind: "python3", command: "python3", args: ["-I", "-c"] },
] as const satisfies readonly { kind: Kind; command: string; args: readonly string[] }[];
const DRIVERS = ["bwrap", "sandbox-runtime"] as const satisfies readonly DriverName[];

export async function executionPrograms({ quick }: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const name of DRIVERS) for (const program of PROGRAMS) rows.push(await measure(name, program, quick));
  return rows;
}

async function measure(name: DriverName, { kind, command, args }: (typeof PROGRAMS)[number], quick: boolean): Promise<Row> {
  const drivers = openDrivers(1);
  try {
    const what = `${kind} in ${name}, one task`;
    const driver = await driverFor(drivers, kind, name);
    const probe = await driver.probe();
    if (!probe.available) return { what, subject: "not measured", note: probe.reason };
    let n = 0;
    const { subject, control, ratio } = await contest(quick ? ROUNDS.quick : ROUNDS.full, {
      subject: () => runEmpty(driver, kind, ++n),
      control: () => runBare(command, [...args, emptyTask(kind, ++n).code], emptyTask(kind, n).stdout),
    });
    return {
      what,
      subject: `${subject.toFixed(0)} ms`,
      control: `${control.toFixed(0)} ms`,
      ratio,
      note: "over the bare program",
    };
  } finally {
    await drivers.close();
  }
}

async function runBare(command: string, args: readonly string[], stdout: string): Promise<number> {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  await once(child, "close");
  if (said !== stdout) throw new Error(`${command} said ${JSON.stringify(said)}`);
  return performance.now() - started;
}

if (import.meta.main) {
  console.log(formatTable(await executionPrograms({ quick: process.argv.includes("--quick") })));
}
