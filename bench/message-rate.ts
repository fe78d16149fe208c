/**
 * Messages a second through MCP, each read and acknowledged: from one agent to another, from one to a hundred by broadcast, and
 * from one to a hundred through a topic. The run fails when one is lost, comes twice, or comes out of its sender's order.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { LineClient } from "./drivers/line-client.ts";
import { FLAT } from "./flat.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { type Engine, onEachEngine, rawServer, swarmServer } from "./servers.ts";
import { contest, median, perSecond } from "./stats.ts";

const MESSAGES = { full: 600, quick: 100 };
const ROUNDS = { full: 5, quick: 2 };
/** Calls that the sender has under way at once. */
const IN_FLIGHT = [1, 16] as const;
const PAGE = 25;
const WAIT_MS = 30_000;
/** The raw control cannot wait: it is asked again after so long. */
const ASK_AGAIN_MS = 1;

const AGENTS = 100;
const HOSTS = 4;
const TO_MANY = { full: 30, quick: 5 };
/** Messages that one round publishes while nobody reads. */
const PUBLISHED = 100;
const TYPE = "bench-reader";
const TOPIC = "bench-topic";
const TOPIC_OF_NOBODY = "bench-topic-of-nobody";

/** As fast as it goes: what is measured is the server, not what it allows one agent. */
const UNLIMITED = { SWARM_MESSAGE_RATE: "1000000" };
const TEXT = "x".repeat(100);

interface Message {
  id: string | number;
  payload: { n: number };
}

export async function messageRate({ quick }: Options): Promise<Row[]> {
  const [messages, rounds, toMany] = quick
    ? [MESSAGES.quick, ROUNDS.quick, TO_MANY.quick]
    : [MESSAGES.full, ROUNDS.full, TO_MANY.full];
  return await onEachEngine(async (engine) => [
    ...(await oneToOne(engine, messages, rounds)),
    ...(await oneToMany(engine, toMany, rounds)),
  ]);
}

// ── one to one ──

async function oneToOne(engine: Engine, messages: number, rounds: number): Promise<Row[]> {
  const { durability } = engine;
  const at = { ours: await engine.freshStore("ours"), raw: await engine.freshStore("raw") };
  const ours = ["sender", "receiver"].map(
    (agent) => new LineClient(swarmServer("agent-comm", { store: at.ours, durability, agent }, UNLIMITED)),
  );
  const raw: LineClient[] = [];
  for (const agent of ["sender", "receiver"]) {
    raw.push(new LineClient(await rawServer("tables", { store: at.raw, durability, agent })));
  }
  try {
    for (const host of [...ours, ...raw]) await host.open();
    await ours[1]?.ask("list_agents"); // it is there
    const rows: Row[] = [];
    for (const inFlight of IN_FLIGHT) {
      const { subject, control, ratio } = await contest(rounds, {
        subject: () => stream(ours, { messages, inFlight, waits: true }),
        control: () => stream(raw, { messages, inFlight, waits: false }),
      });
      rows.push({
        what: `messages from one agent to another, sent, read and acknowledged through MCP, ${inFlight} sent at once, ${engine.name}`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio,
      });
    }
    return rows;
  } finally {
    await Promise.all([...ours, ...raw].map((host) => host.close()));
  }
}

interface Stream {
  messages: number;
  inFlight: number;
  waits: boolean;
}

/** Messages a second, from the first send to the last acknowledgement. */
async function stream(hosts: readonly LineClient[], { messages, inFlight, waits }: Stream): Promise<number> {
  const [sender, receiver] = hosts;
  if (!sender || !receiver) throw new Error("A stream has two ends");
  const send = (n: number) =>
    sender.ask("send_message", { targetAgent: "receiver", messageType: "status_update", payload: { n, text: TEXT } });
  const start = performance.now();
  const [got] = await Promise.all([
    receive(receiver, messages, waits ? { waitMs: WAIT_MS } : {}),
    eachOf(messages, inFlight, send),
  ]);
  const ms = performance.now() - start;
  check(got, messages, waits && inFlight === 1);
  return (messages * 1_000) / ms;
}

async function eachOf(count: number, inFlight: number, work: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
}

/** Reads and acknowledges until it has so many. */
async function receive(host: LineClient, count: number, more: Record<string, unknown>): Promise<number[]> {
  const got: number[] = [];
  const speaker = "agentId" in more ? { agentId: more.agentId } : {};
  while (got.length < count) {
    const { messages } = (await host.ask("get_messages", { limit: PAGE, ...more })) as { messages: readonly Message[] };
    if (messages.length === 0) {
      if ("waitMs" in more) throw new Error(`${count - got.length} of ${count} messages did not come within ${WAIT_MS} ms`);
      await sleep(ASK_AGAIN_MS);
      continue;
    }
    got.push(...messages.map(({ payload }) => payload.n));
    await host.ask("acknowledge_messages", { messageIds: messages.map(({ id }) => id), ...speaker });
  }
  return got;
}

function check(got: readonly number[], count: number, inOrder: boolean): void {
  const distinct = new Set(got);
  if (distinct.size !== count || got.length !== count) {
    throw new Error(`Of ${count} messages ${distinct.size} came, in ${got.length} deliveries`);
  }
  if (inOrder && got.some((n, at) => n !== at)) throw new Error("Messages did not come in the order in which they were sent");
}

// ── one to many ──

/** A hundred agents, the subagents of a few hosts: each waits for its messages by a call of its own. */
async function oneToMany(engine: Engine, messages: number, rounds: number): Promise<Row[]> {
  const store = await engine.freshStore("many");
  const open = async (agent: string) => {
    const host = new LineClient(swarmServer("agent-comm", { store, durability: engine.durability, agent }, UNLIMITED));
    await host.open();
    return host;
  };
  const sender = await open("sender");
  const hosts: LineClient[] = [];
  try {
    const readers: Reader[] = [];
    for (let at = 1; at <= HOSTS; at++) {
      const host = await open(`host-${at}`);
      hosts.push(host);
      for (let n = 1; n <= AGENTS / HOSTS; n++) readers.push({ host, agentId: `host-${at}/reader-${n}` });
    }
    for (const { host, agentId } of readers) await host.ask("register_agent", { agentId, agentType: TYPE, capabilities: [] });
    const note = `${AGENTS} subagents of ${HOSTS} hosts`;
    const deliveries = (rates: readonly number[]) => `${perSecond(median(rates))} deliveries`;
    const toType = await toAll(sender, readers, { messages, rounds, target: { scope: "type", name: TYPE } });
    for (const { host, agentId } of readers) await host.ask("subscribe", { agentId, topics: [TOPIC] });
    const topic = await toAll(sender, readers, { messages, rounds, target: { scope: "topic", name: TOPIC } });
    const publish = (name: string) => () => publishOnly(sender, { scope: "topic", name });
    const { subject, control, ratio } = await contest(rounds, {
      subject: publish(TOPIC),
      control: publish(TOPIC_OF_NOBODY),
    });
    return [
      {
        what: `broadcast to ${AGENTS} agents, each reads and acknowledges, ${engine.name}`,
        subject: deliveries(toType),
        note,
      },
      { what: `topic with ${AGENTS} subscribers, each reads and acknowledges, ${engine.name}`, subject: deliveries(topic), note },
      {
        what: `publishing in a topic with ${AGENTS} subscribers who do not read, over one with none, ${engine.name}`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio: 1 / ratio,
        goal: { atMost: FLAT },
        note: "the ratio is of times",
      },
    ];
  } finally {
    await Promise.all([sender, ...hosts].map((host) => host.close()));
  }
}

interface Reader {
  host: LineClient;
  agentId: string;
}

interface ToMany {
  messages: number;
  rounds: number;
  target: { scope: string; name: string };
}

function broadcast(sender: LineClient, target: ToMany["target"], n: number): Promise<Record<string, unknown>> {
  return sender.ask("broadcast_message", { ...target, messageType: "status_update", payload: { n, text: TEXT } });
}

/** Deliveries a second of each round, from the first send to the last acknowledgement. */
async function toAll(sender: LineClient, readers: readonly Reader[], { messages, rounds, target }: ToMany): Promise<number[]> {
  const rates: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const start = performance.now();
    const [received] = await Promise.all([
      Promise.all(readers.map(({ host, agentId }) => receive(host, messages, { agentId, waitMs: WAIT_MS }))),
      eachOf(messages, 1, (n) => broadcast(sender, target, n)),
    ]);
    const ms = performance.now() - start;
    for (const got of received) check(got, messages, true);
    if (round > 0) rates.push((messages * readers.length * 1_000) / ms); // the first round warms up
  }
  return rates;
}

/** Messages published a second while nobody reads. */
async function publishOnly(sender: LineClient, target: ToMany["target"]): Promise<number> {
  const start = performance.now();
  await eachOf(PUBLISHED, 1, (n) => broadcast(sender, target, n));
  return (PUBLISHED * 1_000) / (performance.now() - start);
}

if (import.meta.main) {
  console.log(formatTable(await messageRate({ quick: process.argv.includes("--quick") })));
}
