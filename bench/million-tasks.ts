/** Whether adding, claiming and listing stay as fast with a million tasks as with a hundred: the task domain on the store, without MCP. */
import { join } from "node:path";
import { LeaseKeeper } from "@mcp-swarm/coordination";
import { LEASE_MS_DEFAULT, newId, systemClock, systemRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { openStore } from "@mcp-swarm/store";
import { taskCoordination } from "../servers/task-coordination/src/task-coordination.ts";
import type { Options, Row } from "./row.ts";
import { scratch } from "./servers.ts";
import { median } from "./stats.ts";

const SIZES = [100, 10_000, 1_000_000] as const;
const ROUNDS = 9;
const TURNS = 150;
const ADDED_AT_ONCE = 500;
const FLAT = 1.3;

const OPERATIONS = ["add", "claim", "complete", "list"] as const;
type Times = Record<(typeof OPERATIONS)[number], number>;

export async function millionTasks({ quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const stores = new Map<number, Awaited<ReturnType<typeof tasksOf>>>();
  for (const size of quick ? SIZES.slice(0, 2) : SIZES) stores.set(size, await tasksOf(folder.path, size));
  try {
    const times = new Map<number, Times[]>();
    for (const { turns } of stores.values()) await turns(TURNS);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [size, { turns }] of stores) times.set(size, [...(times.get(size) ?? []), await turns(TURNS)]);
    }
    return compare(times, quick);
  } finally {
    for (const { close } of stores.values()) await close();
  }
}

function compare(times: ReadonlyMap<number, readonly Times[]>, quick: boolean): Row[] {
  const [least, ...more] = [...times];
  if (!least) return [];
  return more.flatMap(([size, rounds]) =>
    OPERATIONS.map((operation): Row => {
      const ratios = rounds.map((round, at) => round[operation] / (least[1][at]?.[operation] ?? Number.NaN));
      const shown = (all: readonly Times[]) => `${(median(all.map((round) => round[operation])) * 1_000).toFixed(0)} µs`;
      return {
        what: `${operation} with ${size.toLocaleString("en-US")} tasks, over ${least[0]} tasks`,
        subject: shown(rounds),
        control: shown(least[1]),
        ratio: median(ratios),
        goal: { atMost: FLAT },
        ...(quick ? { note: "1,000,000 tasks in the full form only" } : {}),
      };
    }),
  );
}

/** A store with so many available tasks, and turns that leave it with as many. */
async function tasksOf(folder: string, size: number) {
  // what a power loss would take is no matter here, and a synced disk would drown what is measured
  const store = await openStore(`sqlite:${join(folder, `${size}.db`)}`, { durability: "normal" });
  const keeper = new LeaseKeeper({
    store,
    clock: systemClock,
    leaseMs: LEASE_MS_DEFAULT,
    onError: (error) => {
      throw error;
    },
  });
  const { tasks, claims } = taskCoordination({ store, clock: systemClock, random: systemRandom, keeper });
  const call = plainCall(store, { agentId: "worker-1", verified: false, processId: newId("process") });
  const fresh = { description: "A task of a benchmark" };
  for (let added = 0; added < size; added += ADDED_AT_ONCE) {
    const count = Math.min(ADDED_AT_ONCE, size - added);
    await tasks.addMany(call, { tasks: Array.from({ length: count }, () => fresh) });
  }
  const timed = async <T>(work: Promise<T>, into: (ms: number) => void): Promise<T> => {
    const start = performance.now();
    const result = await work;
    into(performance.now() - start);
    return result;
  };
  return {
    async turns(count: number): Promise<Times> {
      const spent: Record<keyof Times, number[]> = { add: [], claim: [], complete: [], list: [] };
      for (let turn = 0; turn < count; turn++) {
        await timed(tasks.add(call, fresh), (ms) => spent.add.push(ms));
        const claimed = await timed(claims.claimNext(call, {}), (ms) => spent.claim.push(ms));
        if (!claimed) throw new Error("There was no task to claim");
        const done = { taskId: claimed.task.id, status: "done", fencingToken: claimed.fencingToken } as const;
        await timed(claims.update(call, done), (ms) => spent.complete.push(ms));
        await timed(tasks.list(call, { limit: 50 }), (ms) => spent.list.push(ms));
      }
      return { add: median(spent.add), claim: median(spent.claim), complete: median(spent.complete), list: median(spent.list) };
    },
    async close(): Promise<void> {
      await keeper.releaseAll();
      await store.close();
    },
  };
}
