/** From `set_state` in one process to the `wait_for_state` that waits in another. */
import { type HandOver, handOverRows, handOvers } from "./hand-over.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { onEachEngine } from "./servers.ts";

const CHANGES = { full: 1_000, quick: 150 };
const WAIT_MS = 30_000;
const KEY = "bench/watched";

interface Changes {
  changes: readonly { key: string; value?: { n: number } }[];
  nextRev: number;
}

export async function watchLatency({ quick }: Options): Promise<Row[]> {
  const count = quick ? CHANGES.quick : CHANGES.full;
  return await onEachEngine(async (engine) => {
    const latencies = await handOvers(engine, count, changes());
    return handOverRows("value set, a waiting wait_for_state in another process has it", engine.name, latencies);
  });
}

function changes(): HandOver {
  let sinceRev = 0;
  return {
    server: "shared-state",
    async receive(host, n) {
      const { changes, nextRev } = await host.call<Changes>("wait_for_state", { key: KEY, sinceRev, waitMs: WAIT_MS });
      const [first] = changes;
      if (!first || changes.length !== 1 || first.key !== KEY || first.value?.n !== n) {
        throw new Error(`Value ${n} was set, and seen was ${JSON.stringify(changes)}`);
      }
      sinceRev = nextRev;
    },
    async send(host, n) {
      await host.call("set_state", { key: KEY, value: { n } });
    },
  };
}

if (import.meta.main) {
  console.log(formatTable(await watchLatency({ quick: process.argv.includes("--quick") })));
}
