/** How soon a server answers after its host started it, and what it holds when idle, against a bare server of the official SDK. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Launch, LineClient } from "./drivers/line-client.ts";
import { ECHO, READS, type ToolCall } from "./reads.ts";
import type { Options, Row } from "./row.ts";
import { echoServer, SERVER_NAMES, type ServerName, scratch, swarmServer } from "./servers.ts";
import { contest } from "./stats.ts";

const ROUNDS = 21;
const MEMORY_ROUNDS = 7;
/** How long a server is left alone before its memory is read. */
const SETTLE_MS = 2_000;
const GOAL = 1.15;

interface Start {
  firstMs: number;
  toolMs: number;
  /** After both answers and a while of nothing. Linux only. */
  idleMiB: number;
}

export async function start(options: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const server of SERVER_NAMES) rows.push(...(await startOf(server, options)));
  return rows;
}

async function startOf(server: ServerName, { quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const store = `sqlite:${join(folder.path, "swarm.db")}`;
  const ours = swarmServer(server, { store, durability: "full", agent: "agent-1" });
  const read = READS[server];
  const bare = await echoServer();
  const rounds = quick ? 5 : ROUNDS;
  const row = async (
    what: string,
    pick: (start: Start) => number,
    unit: string,
    settleMs: number,
    times: number,
  ): Promise<Row> => {
    const { subject, control, ratio } = await contest(times, {
      subject: async () => pick(await startOnce(ours, read, settleMs)),
      control: async () => pick(await startOnce(bare, ECHO, settleMs)),
    });
    const shown = (value: number) => `${value.toFixed(1)} ${unit}`;
    return { what: `${server}: ${what}`, subject: shown(subject), control: shown(control), ratio, goal: { atMost: GOAL } };
  };
  const rows = [
    await row("spawn to first answer", (one) => one.firstMs, "ms", 0, rounds),
    await row("spawn to first tool answer, with the store opened", (one) => one.toolMs, "ms", 0, rounds),
  ];
  if (process.platform === "linux") {
    rows.push(await row("idle memory of a server", (one) => one.idleMiB, "MiB", SETTLE_MS, quick ? 2 : MEMORY_ROUNDS));
  }
  return rows;
}

async function startOnce(launch: Launch, { tool, args }: ToolCall, settleMs: number): Promise<Start> {
  const spawned = performance.now();
  const host = new LineClient(launch);
  try {
    await host.open();
    const firstMs = performance.now() - spawned;
    await host.ask(tool, args);
    const toolMs = performance.now() - spawned;
    if (settleMs > 0) await sleep(settleMs);
    return { firstMs, toolMs, idleMiB: settleMs > 0 ? residentMiB(host.pid) : Number.NaN };
  } finally {
    await host.close();
  }
}

function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  if (kib === undefined) throw new Error(`The memory of process ${pid} cannot be read`);
  return Number(kib) / 1024;
}
