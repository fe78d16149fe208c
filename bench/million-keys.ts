/** Whether reading, setting and listing stay as fast with a million keys as with a thousand: the server's tools, without transport. */
import { join } from "node:path";
import { definition } from "@mcp-swarm/shared-state";
import { flatness, type Sized, Stopwatch } from "./flat.ts";
import { InProcess } from "./in-process.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { scratch } from "./servers.ts";

const SIZES = { full: [1_000, 1_000_000], quick: [1_000, 10_000] } as const;
const ROUNDS = 9;
const TURNS = 150;
const KEYS_AT_ONCE = 100;
const IN_FLIGHT = 16;
/** Keys below one prefix: what a list looks at. */
const FOLDER = 500;
const LISTED = 20;

const keyOf = (n: number) => `folder-${Math.floor(n / FOLDER)}/key-${n % FOLDER}`;

export async function millionKeys({ quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const sized: Sized[] = [];
  try {
    for (const size of quick ? SIZES.quick : SIZES.full) sized.push(await keysOf(folder.path, size));
    return await flatness(sized, { rounds: ROUNDS, turns: TURNS, of: "keys" });
  } finally {
    for (const one of sized) await one.close();
  }
}

async function keysOf(folder: string, size: number): Promise<Sized> {
  // what a power loss would take is no matter here, and a synced disk would drown what is measured
  const mount = { store: `sqlite:${join(folder, `${size}.db`)}`, durability: "normal", agent: "agent-1" } as const;
  const server = new InProcess(definition, mount);
  const value = (n: number) => ({ n, text: "x".repeat(60) });
  const setMany = (from: number) =>
    server.ask("transact_state", {
      writes: Array.from({ length: KEYS_AT_ONCE }, (_, at) => ({ key: keyOf(from + at), value: value(0) })),
    });
  for (let from = 0; from < size; from += KEYS_AT_ONCE * IN_FLIGHT) {
    const starts = Array.from({ length: IN_FLIGHT }, (_, at) => from + at * KEYS_AT_ONCE).filter((start) => start < size);
    await Promise.all(starts.map(setMany));
  }
  const random = spread(size);
  return {
    size,
    async turns(count) {
      const watch = new Stopwatch();
      for (let turn = 0; turn < count; turn++) {
        const key = keyOf(random());
        const { entry } = await watch.time("get_state", () => server.ask<{ entry: { rev: number } }>("get_state", { key }));
        await watch.time("set_state", () => server.ask("set_state", { key, value: value(turn), ifRev: entry.rev }));
        const prefix = key.slice(0, key.indexOf("/") + 1);
        const { entries } = await watch.time("list_state", () =>
          server.ask<{ entries: readonly unknown[] }>("list_state", { prefix, limit: LISTED }),
        );
        if (entries.length !== LISTED) throw new Error(`${entries.length} keys were listed, of ${LISTED}`);
      }
      return watch.medians();
    },
    close: () => server.close(),
  };
}

/** Numbers below `size` that are far apart from one another, the same in each run. */
function spread(size: number): () => number {
  const STEP = 7_919; // a prime that divides no size, so that each number comes once before one comes again
  let last = 0;
  return () => {
    last = (last + STEP) % size;
    return last;
  };
}

if (import.meta.main) {
  console.log(formatTable(await millionKeys({ quick: process.argv.includes("--quick") })));
}
