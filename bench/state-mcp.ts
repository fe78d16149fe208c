/** Values through MCP, sequentially: reading, setting, comparing and setting, and ten keys in one transaction, against one raw table. */
import { LineClient } from "./drivers/line-client.ts";
import { formatTable, type Options, type Row } from "./row.ts";
import { type Engine, onEachEngine, rawServer, swarmServer } from "./servers.ts";
import { contest, perSecond } from "./stats.ts";

const CALLS = 300;
const ROUNDS = 7;
const KEYS = 100;
const KEYS_AT_ONCE = 10;
const TEXT = "x".repeat(100);

type Operation = (host: LineClient, call: number) => Promise<void>;
const keyOf = (n: number) => `bench/key-${n % KEYS}`;

async function read(host: LineClient, key: string): Promise<{ rev: number; value: { n: number } }> {
  const { entry } = await host.ask("get_state", { key });
  return entry as { rev: number; value: { n: number } };
}

/** The revision that a compare-and-set read or made last, for each host. */
const lastRev = new WeakMap<LineClient, number>();
const COUNTER = "bench/counter";

const OPERATIONS: Readonly<Record<string, Operation>> = {
  set_state: async (host, n) => void (await host.ask("set_state", { key: keyOf(n), value: { n, text: TEXT } })),
  async get_state(host, n) {
    const entry = await read(host, keyOf(n));
    if (entry?.value === undefined) throw new Error(`${keyOf(n)} was set and is gone`);
  },
  async "compare and set"(host, n) {
    const ifRev = lastRev.get(host) ?? (await read(host, COUNTER)).rev;
    const { entry } = (await host.ask("set_state", { key: COUNTER, value: { n, text: TEXT }, ifRev })) as {
      entry: { rev?: number };
    };
    if (entry.rev === undefined || entry.rev <= ifRev) throw new Error("A compare-and-set of the newest revision did not take");
    lastRev.set(host, entry.rev);
  },
  "transact_state of 10 keys": async (host, n) => {
    const writes = Array.from({ length: KEYS_AT_ONCE }, (_, at) => ({
      key: keyOf(n * KEYS_AT_ONCE + at),
      value: { n, text: TEXT },
    }));
    await host.ask("transact_state", { writes });
  },
};

export async function stateMcp({ quick }: Options): Promise<Row[]> {
  return await onEachEngine((engine) => measure(engine, quick ? 2 : ROUNDS));
}

async function measure(engine: Engine, rounds: number): Promise<Row[]> {
  const mount = async (name: string) => ({
    store: await engine.freshStore(name),
    durability: engine.durability,
    agent: "agent-1",
  });
  const ours = new LineClient(swarmServer("shared-state", await mount("ours")));
  const raw = new LineClient(await rawServer("tables", await mount("raw")));
  try {
    for (const host of [ours, raw]) {
      await host.open();
      await host.ask("set_state", { key: COUNTER, value: { n: 0, text: TEXT } });
    }
    const rows: Row[] = [];
    for (const [name, operation] of Object.entries(OPERATIONS)) {
      const rate = async (host: LineClient) => {
        const start = performance.now();
        for (let n = 0; n < CALLS; n++) await operation(host, n);
        return (CALLS * 1_000) / (performance.now() - start);
      };
      const { subject, control, ratio } = await contest(rounds, { subject: () => rate(ours), control: () => rate(raw) });
      rows.push({
        what: `${name} through MCP, ${engine.name}`,
        subject: perSecond(subject),
        control: perSecond(control),
        ratio,
      });
    }
    return rows;
  } finally {
    await Promise.all([ours.close(), raw.close()]);
  }
}

if (import.meta.main) {
  console.log(formatTable(await stateMcp({ quick: process.argv.includes("--quick") })));
}
