/** Whether an inbox in which very many messages wait is as fast as one with a hundred: the server's tools, without transport. */
import { join } from "node:path";
import { definition } from "@mcp-swarm/agent-comm";
import { flatness, type Sized, Stopwatch } from "./flat.ts";
import { InProcess } from "./in-process.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { scratch } from "./servers.ts";

/** The larger is a little below what an inbox takes at most, so that there is room for what the turns send. */
const SIZES = { full: [100, 99_000], quick: [100, 5_000] } as const;
const ROUNDS = 9;
const TURNS = 100;
const IN_FLIGHT = 64;

export async function fullInbox({ quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const sized: Sized[] = [];
  try {
    for (const size of quick ? SIZES.quick : SIZES.full) sized.push(await inboxOf(folder.path, size));
    return await flatness(sized, { rounds: ROUNDS, turns: TURNS, of: "messages waiting" });
  } finally {
    for (const one of sized) await one.close();
  }
}

/** An inbox with so many messages, and turns that leave it with as many. */
async function inboxOf(folder: string, size: number): Promise<Sized> {
  // what a power loss would take is no matter here, and a synced disk would drown what is measured
  const mount = { store: `sqlite:${join(folder, `${size}.db`)}`, durability: "normal", agent: "agent-1" } as const;
  const server = new InProcess(definition, mount, { SWARM_MESSAGE_RATE: "1000000" });
  let sent = 0;
  const send = () => {
    sent += 1;
    const message = { messageType: "status_update", payload: { n: sent, text: "x".repeat(60) } };
    return server.ask("send_message", { targetAgent: "agent-1", ...message });
  };
  for (let from = 0; from < size; from += IN_FLIGHT) {
    await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, size - from) }, send));
  }
  const seen = new Set<string>();
  return {
    size,
    async turns(count) {
      const watch = new Stopwatch();
      for (let turn = 0; turn < count; turn++) {
        await watch.time("send_message", send);
        const { messages } = await watch.time("get_messages", () =>
          server.ask<{ messages: readonly { id: string }[] }>("get_messages", { limit: 1 }),
        );
        const id = messages[0]?.id;
        if (id === undefined || seen.has(id)) throw new Error(`${id ?? "No message"} came, in an inbox where others wait`);
        seen.add(id);
        await watch.time("acknowledge_messages", () => server.ask("acknowledge_messages", { messageIds: [id] }));
      }
      return watch.medians();
    },
    close: () => server.close(),
  };
}

if (import.meta.main) {
  console.log(formatTable(await fullInbox({ quick: process.argv.includes("--quick") })));
}
