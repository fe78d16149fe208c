/**
 * A process that runs tasks on one sandbox driver and knows of no queue and no store: what the sandboxes take by themselves. Forked by
 * ../workforce.ts; obeys over IPC.
 */
import { driverFor, type Kind, openDrivers, runEmpty } from "../execution-tasks.ts";

/** Runs so many tasks, one after the other. */
export interface Order {
  kind: Kind;
  tasks: number;
}

/** When it began and ended, in ms since the epoch. */
export interface Ran {
  startedAt: number;
  endedAt: number;
}
export type Report = { ran: Ran } | { failed: string };

const drivers = openDrivers(1);
const now = () => performance.timeOrigin + performance.now();
let runs = 0;

async function obey({ kind, tasks }: Order): Promise<Ran> {
  const startedAt = now();
  const driver = await driverFor(drivers, kind);
  for (const last = runs + tasks; runs < last; ) await runEmpty(driver, kind, ++runs);
  return { startedAt, endedAt: now() };
}

process.on("message", (order: Order) => {
  obey(order).then(
    (ran) => process.send?.({ ran } satisfies Report),
    (error: unknown) =>
      process.send?.({ failed: error instanceof Error ? (error.stack ?? error.message) : "unknown" } satisfies Report),
  );
});
// the benchmark is gone, or has what it wanted: what is kept warm goes too
process.on("disconnect", () => {
  drivers.close().finally(() => process.exit(0));
});
