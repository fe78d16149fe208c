/**
 * Locks: how soon a waiter in another process has what its holder released, and how many can be taken and given back in a
 * second where nobody else wants them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Host } from "../test/support/host.ts";
import { LineClient } from "./drivers/line-client.ts";
import { latencyRows } from "./hand-over.ts";
import { ECHO } from "./reads.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { type Engine, echoServer, onEachEngine, rawServer, swarmServer } from "./servers.ts";
import { contest, perSecond } from "./stats.ts";

const CONTENDERS = [2, 8] as const;
const HAND_OVERS = { full: 600, quick: 100 };
const HELD_MS = 5;
const WAIT_MS = 50_000;
const LOCK = "bench-lock";
const PAIRS = 300;
const ROUNDS = 5;

export async function lockHandOver({ quick }: Options): Promise<Row[]> {
  return await onEachEngine(async (engine) => {
    const rows: Row[] = [];
    for (const contenders of CONTENDERS) {
      const latencies = await handOvers(engine, contenders, quick ? HAND_OVERS.quick : HAND_OVERS.full);
      rows.push(...latencyRows(`lock released, the next of ${contenders} contenders has it, ${engine.name}`, latencies));
    }
    rows.push(await uncontended(engine, quick ? 2 : ROUNDS));
    return rows;
  });
}

/** Hosts that take one lock in turn, each with a server process; two holders at once, or a token that does not rise, ends the run. */
async function handOvers(engine: Engine, contenders: number, count: number) {
  const store = await engine.freshStore(`hand-over-${contenders}`);
  const { args: prefix } = await echoServer();
  await using bare = await Host.start({ prefix });
  const hosts: Host[] = [];
  const latencies = { ours: [] as number[], floor: [] as number[] };
  let holder: string | undefined;
  let lastToken = 0;
  let releasedAt: number | undefined;
  const unheard = contenders * 2;
  let grants = 0;
  const takeTurns = async (host: Host) => {
    const agent = host.agent ?? "";
    while (grants < unheard + count) {
      const { lock } = await host.call<{ lock: { fencingToken: number } }>("acquire_lock", { name: LOCK, waitMs: WAIT_MS });
      const grantedAt = performance.now();
      if (holder !== undefined) throw new Error(`${agent} was given the lock that ${holder} holds`);
      if (lock.fencingToken <= lastToken) throw new Error(`Token ${lock.fencingToken} came after ${lastToken}`);
      holder = agent;
      lastToken = lock.fencingToken;
      grants += 1;
      if (releasedAt !== undefined && grants > unheard) latencies.ours.push(grantedAt - releasedAt);
      await sleep(HELD_MS); // the others stand in line by then
      const floorAt = performance.now();
      await bare.call(ECHO.tool, ECHO.args);
      await bare.call(ECHO.tool, ECHO.args);
      latencies.floor.push(performance.now() - floorAt);
      holder = undefined;
      releasedAt = performance.now();
      await host.call("release_lock", { name: LOCK, fencingToken: lock.fencingToken });
    }
  };
  try {
    for (let at = 1; at <= contenders; at++) {
      const env = { SWARM_DURABILITY: engine.durability };
      hosts.push(await Host.start({ server: "shared-state", store, agent: `contender-${at}`, env }));
    }
    await Promise.all(hosts.map(takeTurns));
  } finally {
    await Promise.all(hosts.map((host) => host.close()));
  }
  return latencies;
}

async function uncontended(engine: Engine, rounds: number): Promise<Row> {
  const mount = async (name: string) => ({
    store: await engine.freshStore(name),
    durability: engine.durability,
    agent: "agent-1",
  });
  const ours = new LineClient(swarmServer("shared-state", await mount("ours")));
  const raw = new LineClient(await rawServer("tables", await mount("raw")));
  const pairs = async (host: LineClient) => {
    const start = performance.now();
    for (let n = 0; n < PAIRS; n++) {
      await host.ask("acquire_lock", { name: `lock-${n % 10}` });
      await host.ask("release_lock", { name: `lock-${n % 10}` });
    }
    return (PAIRS * 1_000) / (performance.now() - start);
  };
  try {
    await ours.open();
    await raw.open();
    const { subject, control, ratio } = await contest(rounds, { subject: () => pairs(ours), control: () => pairs(raw) });
    return {
      what: `lock taken and given back, uncontended, through MCP, ${engine.name}`,
      subject: perSecond(subject),
      control: perSecond(control),
      ratio,
    };
  } finally {
    await Promise.all([ours.close(), raw.close()]);
  }
}

if (import.meta.main) {
  console.log(formatTable(await lockHandOver({ quick: process.argv.includes("--quick") })));
}
