/** From `send_message` in one process to the `get_messages` that waits in another. */

import { findProgram, PEER_KINDS } from "./drivers/peers.ts";
import { type HandOver, handOverRows, handOvers, inMs } from "./hand-over.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { onEachEngine, scratch } from "./servers.ts";
import { percentile } from "./stats.ts";

const MESSAGES = { full: 1_000, quick: 150 };
const WAIT_MS = 30_000;
/** Messages that are looked for at the end, when all should be gone. */
const LEFT_MAX = 10;

interface Received {
  messages: readonly { id: string; from: string; payload: { n: number } }[];
}

export async function messageLatency({ quick }: Options): Promise<Row[]> {
  const count = quick ? MESSAGES.quick : MESSAGES.full;
  const ours = await onEachEngine(async (engine) => {
    const latencies = await handOvers(engine, count, messages());
    return handOverRows("message sent, a waiting receiver in another process has it", engine.name, latencies);
  });
  return [...ours, ...(await peers(count))];
}

function messages(): HandOver {
  let messageId = "";
  return {
    server: "agent-comm",
    async receive(host, n) {
      const { messages: got } = await host.call<Received>("get_messages", { waitMs: WAIT_MS, limit: LEFT_MAX });
      const [first] = got;
      if (!first || got.length !== 1 || first.payload.n !== n || first.from !== "sender") {
        throw new Error(`Message ${n} was sent, and received was ${JSON.stringify(got)}`);
      }
      messageId = first.id;
    },
    async send(host, n) {
      await host.call("send_message", { targetAgent: "receiver", messageType: "status_update", payload: { n } });
    },
    async after(host) {
      await host.call("acknowledge_messages", { messageIds: [messageId] });
    },
  };
}

/** The same between two connections to a broker, where its server is installed: no MCP, no process between host and broker. */
async function peers(count: number): Promise<Row[]> {
  using folder = scratch();
  const rows: Row[] = [];
  for (const { name, binary, open } of PEER_KINDS) {
    const what = `for comparison, without MCP: ${name}`;
    const path = findProgram(binary);
    if (path === undefined) {
      rows.push({ what, subject: "not measured", note: `no ${binary} on PATH` });
      continue;
    }
    const peer = await open(path, folder.path);
    try {
      const times: number[] = [];
      for (let n = 0; n < count; n++) times.push(await peer.handOver(`{"n":${n}}`));
      rows.push({ what, subject: `p50 ${inMs(percentile(times, 0.5))}, p99 ${inMs(percentile(times, 0.99))}` });
    } finally {
      await peer.close();
    }
  }
  return rows;
}

if (import.meta.main) {
  console.log(formatTable(await messageLatency({ quick: process.argv.includes("--quick") })));
}
