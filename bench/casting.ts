/**
 * Ballots a second through MCP when very many processes cast at once: one vote after another, each of whose participants belong to
 * 32 server processes. Beside it 32 bare servers that put a row for each ballot and know nothing of votes. The run fails when a
 * ballot is refused, lost or there twice, or when the last one does not end its vote.
 */
import { openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { LineClient } from "./drivers/line-client.ts";
import type { Options, Row } from "./row.ts";
import { type Engine, onEachEngine, rawServer, swarmServer } from "./servers.ts";
import { contest, perSecond } from "./stats.ts";

const PROCESSES = 32;
/** Ballots that each process casts in one vote, one after the other; it does so for its agent's subagents. */
const BALLOTS_EACH = [1, 8] as const;
const ROUNDS = { full: 9, quick: 2 };
const VOTE_MS = 3_600_000;
const RESULT_WAIT_MS = 30_000;
/** Presence is renewed by all of them meanwhile, at a third of this. */
const LEASE = { SWARM_LEASE_MS: "60000" };

const agents = Array.from({ length: PROCESSES }, (_, at) => `agent-${at}`);
const children = (each: number) => Array.from({ length: each }, (_, at) => `child-${at}`);

interface Result {
  status: string;
  result: { outcome: string; turnout: { voted: number } } | null;
}

export async function casting({ quick }: Options): Promise<Row[]> {
  const rounds = quick ? ROUNDS.quick : ROUNDS.full;
  return await onEachEngine(async (engine) => await measure(engine, rounds));
}

async function measure(engine: Engine, rounds: number): Promise<Row[]> {
  const { name, durability } = engine;
  const at = { ours: await engine.freshStore("ours"), raw: await engine.freshStore("raw") };
  const ours = agents.map((agent) => new LineClient(swarmServer("consensus", { store: at.ours, durability, agent }, LEASE)));
  const raw: LineClient[] = [];
  for (const agent of agents) raw.push(new LineClient(await rawServer("tables", { store: at.raw, durability, agent })));
  let store: Store | undefined;
  try {
    await Promise.all([...ours, ...raw].map((host) => host.open()));
    await Promise.all(ours.map((host) => host.ask("list_active_votes"))); // all have opened the store
    store = await openStore(at.ours);
    const beside = store;
    const rows: Row[] = [];
    for (const each of BALLOTS_EACH) {
      let votes = 0;
      const { subject, control, ratio } = await contest(rounds, {
        subject: () => castAll(ours, beside, each),
        control: () => putAll(raw, each, ++votes),
      });
      rows.push({
        what: `${PROCESSES * each} ballots of one vote, cast by ${PROCESSES} processes at once, ${name}`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio,
        note: "0 lost, 0 twice; the control only puts a row for each",
      });
    }
    return rows;
  } finally {
    await store?.close();
    await Promise.all([...ours, ...raw].map((host) => host.close()));
  }
}

/** Answers ballots a second, from the first one sent to the last one acknowledged. */
async function castAll(hosts: readonly LineClient[], store: Store, each: number): Promise<number> {
  const [first] = hosts as readonly [LineClient];
  const participants = agents.flatMap((agent) => children(each).map((child) => `${agent}/${child}`));
  // nothing but the last ballot decides it
  const { vote } = (await first.ask("initiate_vote", {
    ...{ proposal: "Ship it", participants, method: "unanimity", timeout: VOTE_MS },
  })) as { vote: { id: string } };
  const voteId = vote.id;
  const started = performance.now();
  await Promise.all(
    hosts.map(async (host) => {
      for (const agentId of children(each)) await host.ask("cast_vote", { voteId, vote: "yes", agentId });
    }),
  );
  const tookMs = performance.now() - started;
  const { status, result } = (await first.ask("get_result", { voteId, waitMs: RESULT_WAIT_MS })) as unknown as Result;
  if (status !== "closed" || result?.outcome !== "accepted" || result.turnout.voted !== participants.length) {
    throw new Error(`Of ${participants.length} ballots the result is ${JSON.stringify({ status, result })}`);
  }
  const rows = await store.scan(prefixRange(`ballot/${voteId}/`, participants.length + 1));
  const voters = rows.map(({ value }) => (value as { voter: string }).voter);
  if (voters.toSorted().join() !== participants.toSorted().join()) {
    throw new Error(`${participants.length} voted, and there are ${voters.length} ballots: ${voters.join(", ")}`);
  }
  return (participants.length * 1_000) / tookMs;
}

async function putAll(hosts: readonly LineClient[], each: number, vote: number): Promise<number> {
  const started = performance.now();
  await Promise.all(
    hosts.map(async (host, at) => {
      for (const child of children(each)) {
        await host.ask("set_state", { key: `ballot/${each}-${vote}/agent-${at}/${child}`, value: { vote: "yes" } });
      }
    }),
  );
  return (hosts.length * each * 1_000) / (performance.now() - started);
}
