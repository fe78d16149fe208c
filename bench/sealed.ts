/**
 * What it costs through MCP that nobody else can read a message: the same messages between two agents of a secured swarm, encrypted and
 * plain by turns; and what `encrypt_message` seals for several readers. `tokens.ts` measures the cryptography alone.
 */
import { SecuredSwarm } from "../test/support/secured.ts";
import { LineClient } from "./drivers/line-client.ts";
import type { Options, Row } from "./row.ts";
import { type Engine, onEachEngine, type ServerName, swarmServer } from "./servers.ts";
import { median } from "./stats.ts";

const MESSAGES = { full: 600, quick: 60 };
/** Those of each kind that are not counted. */
const WARM_UP = 30;
const SENDER = "sender";
const RECEIVER = "receiver";
/** `encrypt_message` takes 20 at most: what it answers is read by a model. */
const READERS = [1, 10, 20] as const;
const PAYLOAD = { text: "x".repeat(1_000) };
/** As fast as it goes: what is measured is the server, not what it allows one agent. */
const UNLIMITED = { SWARM_MESSAGE_RATE: "1000000", SWARM_CALL_RATE: "1000000" };

interface Received {
  messages: readonly { id: string; encrypted?: true; verified?: boolean; payload: unknown }[];
}

export async function sealed({ quick }: Options): Promise<Row[]> {
  return await onEachEngine((engine) => measure(engine, quick ? MESSAGES.quick : MESSAGES.full));
}

async function measure({ name, durability, freshStore }: Engine, count: number): Promise<Row[]> {
  await using swarm = await SecuredSwarm.secure({ store: await freshStore("secured") });
  const readers = Array.from({ length: Math.max(...READERS) - 1 }, (_, at) => `reader-${at}`);
  for (const agent of [SENDER, RECEIVER, ...readers]) await swarm.enroll(agent);
  const start = (server: ServerName | "security", agent: string) =>
    new LineClient(
      swarmServer(server, { store: swarm.url, durability, agent }, { ...UNLIMITED, SWARM_KEY_FILE: swarm.keyFile(agent) }),
    );
  const hosts = {
    sender: start("agent-comm", SENDER),
    receiver: start("agent-comm", RECEIVER),
    sealing: start("security", SENDER),
    opening: start("security", RECEIVER),
  };
  try {
    for (const host of Object.values(hosts)) await host.open();
    await hosts.receiver.ask("list_agents"); // it is there
    const plain = () => message(hosts, false);
    const rows = [
      row(
        "1 KB, encrypted message against plain one, sent, read and acknowledged",
        name,
        await pairs(count, () => message(hosts, true), plain),
      ),
    ];
    for (const size of READERS) {
      const recipients = [...readers.slice(0, size - 1), RECEIVER];
      const words = `${size} reader${size === 1 ? "" : "s"}`;
      rows.push(
        row(
          `1 KB, sealed to ${words} and opened by one, against a plain message as above`,
          name,
          await pairs(count, () => handOver(hosts, recipients), plain),
        ),
      );
    }
    return rows;
  } finally {
    await Promise.all(Object.values(hosts).map((host) => host.close()));
  }
}

function row(
  what: string,
  engine: string,
  { subject, control, ratio }: { subject: number; control: number; ratio: number },
): Row {
  const shown = (ms: number) => `${ms.toFixed(2)} ms`;
  return { what: `${what}, ${engine}`, subject: shown(subject), control: shown(control), ratio };
}

type Hosts = Readonly<Record<"sender" | "receiver" | "sealing" | "opening", LineClient>>;

async function message({ sender, receiver }: Hosts, encrypt: boolean): Promise<void> {
  await sender.ask("send_message", { targetAgent: RECEIVER, messageType: "bench", payload: PAYLOAD, encrypt });
  const { messages } = (await receiver.ask("get_messages", {})) as unknown as Received;
  const [first] = messages;
  if (messages.length !== 1 || !first || (first.encrypted ?? false) !== encrypt) {
    throw new Error(`One message was sent, ${encrypt ? "encrypted" : "plain"}, and received was ${JSON.stringify(messages)}`);
  }
  check(first.payload);
  await receiver.ask("acknowledge_messages", { messageIds: [first.id] });
}

async function handOver({ sealing, opening }: Hosts, recipients: readonly string[]): Promise<void> {
  const envelope = await sealing.ask("encrypt_message", { payload: PAYLOAD, recipients });
  const opened = (await opening.ask("decrypt_message", { sealed: envelope.sealed })) as { message: { payload: unknown } };
  check(opened.message.payload);
}

function check(payload: unknown): void {
  if (JSON.stringify(payload) !== JSON.stringify(PAYLOAD))
    throw new Error(`What came is not what was sent: ${JSON.stringify(payload)}`);
}

/** By turns, the first to go alternating: the middle of each, in ms. */
async function pairs(
  count: number,
  subject: () => Promise<void>,
  control: () => Promise<void>,
): Promise<{ subject: number; control: number; ratio: number }> {
  const sides = { subject, control };
  const took = { subject: [] as number[], control: [] as number[] };
  for (let n = 0; n < count + WARM_UP; n++) {
    for (const side of n % 2 === 0 ? (["subject", "control"] as const) : (["control", "subject"] as const)) {
      const started = performance.now();
      await sides[side]();
      if (n >= WARM_UP) took[side].push(performance.now() - started);
    }
  }
  const [ours, plain] = [median(took.subject), median(took.control)];
  return { subject: ours, control: plain, ratio: ours / plain };
}
