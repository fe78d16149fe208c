/** What our way in and out of a tool costs: sequential calls over stdio, against a bare server of the official SDK. */
import { join } from "node:path";
import { type Era, LineClient } from "./drivers/line-client.ts";
import { ECHO, READS, type ToolCall } from "./reads.ts";
import type { Options, Row } from "./row.ts";
import { echoServer, SERVER_NAMES, type ServerName, scratch, swarmServer } from "./servers.ts";
import { contest, perSecond } from "./stats.ts";

const CALLS = 1_500;
const ROUNDS = 9;
const GOAL = 0.75;

export async function stdioCall({ quick }: Options): Promise<Row[]> {
  const rows: Row[] = [];
  for (const server of SERVER_NAMES) {
    for (const era of ["modern", "legacy"] as const) rows.push(await measure(server, era, quick ? 3 : ROUNDS));
  }
  return rows;
}

async function measure(server: ServerName, era: Era, rounds: number): Promise<Row> {
  using folder = scratch();
  const store = `sqlite:${join(folder.path, "swarm.db")}`;
  const ours = new LineClient(swarmServer(server, { store, durability: "full", agent: "agent-1" }), era);
  const bare = new LineClient(await echoServer(), era);
  try {
    await ours.open();
    await bare.open();
    const { subject, control, ratio } = await contest(rounds, {
      subject: () => callsPerSecond(ours, READS[server]),
      control: () => callsPerSecond(bare, ECHO),
    });
    return {
      what: `${server}: tool call over stdio, sequential, ${era === "modern" ? "revision 2026-07-28" : "revision 2025-11-25"}`,
      subject: perSecond(subject),
      control: perSecond(control),
      ratio,
      goal: { atLeast: GOAL },
      note: `${READS[server].tool}, which reads the store, against echo`,
    };
  } finally {
    await Promise.all([ours.close(), bare.close()]);
  }
}

async function callsPerSecond(host: LineClient, { tool, args }: ToolCall): Promise<number> {
  const start = performance.now();
  for (let call = 0; call < CALLS; call++) await host.ask(tool, args);
  return (CALLS * 1_000) / (performance.now() - start);
}
