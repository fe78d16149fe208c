/** Whether adding, claiming and listing stay as fast with a million tasks as with a hundred: the task domain on the store, without MCP. */
import { join } from "node:path";
import { LeaseKeeper } from "@mcp-swarm/coordination";
import { LEASE_MS_DEFAULT, newId, systemClock, systemRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import { openStore } from "@mcp-swarm/store";
import { taskCoordination } from "../servers/task-coordination/src/task-coordination.ts";
import { flatness, type Sized, Stopwatch } from "./flat.ts";
import type { Options, Row } from "./row.ts";
import { scratch } from "./servers.ts";

const SIZES = { full: [100, 10_000, 1_000_000], quick: [100, 10_000] } as const;
const ROUNDS = 9;
const TURNS = 150;
const ADDED_AT_ONCE = 500;

export async function millionTasks({ quick }: Options): Promise<Row[]> {
  using folder = scratch();
  const sized: Sized[] = [];
  try {
    for (const size of quick ? SIZES.quick : SIZES.full) sized.push(await tasksOf(folder.path, size));
    return await flatness(sized, { rounds: ROUNDS, turns: TURNS, of: "tasks" });
  } finally {
    for (const one of sized) await one.close();
  }
}

/** A store with so many available tasks, and turns that leave it with as many. */
async function tasksOf(folder: string, size: number): Promise<Sized> {
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
  return {
    size,
    async turns(count) {
      const watch = new Stopwatch();
      for (let turn = 0; turn < count; turn++) {
        await watch.time("add", () => tasks.add(call, fresh));
        const claimed = await watch.time("claim", () => claims.claimNext(call, {}));
        if (!claimed) throw new Error("There was no task to claim");
        const done = { taskId: claimed.task.id, status: "done", fencingToken: claimed.fencingToken } as const;
        await watch.time("complete", () => claims.update(call, done));
        await watch.time("list", () => tasks.list(call, { limit: 50 }));
      }
      return watch.medians();
    },
    async close() {
      await keeper.releaseAll();
      await store.close();
    },
  };
}
