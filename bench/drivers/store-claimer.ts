/** A process that claims from a queue until it is empty: through our store, or by raw SQL. Forked by ../store-claims.ts. */
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import { openStore, ordered, prefixRange, type Store } from "@mcp-swarm/store";

export interface Errand {
  side: "store" | "raw";
  path: string;
  durability: "full" | "normal";
  worker: string;
}

export interface Claimed {
  ids: string[];
  /** `performance.timeOrigin + performance.now()`, which processes of one machine share. */
  startedAt: number;
  endedAt: number;
}

const LEASE_MS = 15_000;
const SQLITE_BUSY = 5;
const RETRY_MS_MAX = 4;

/** What a task queue does to claim: the first ready entry, its record, and the four writes that move it. */
export function claim(store: Store, worker: string): Promise<string | undefined> {
  return store.transact((tx) => {
    const head = tx.pick(prefixRange("ready/", 1), 2);
    if (!head) return undefined;
    const id = head.key.slice(head.key.lastIndexOf("/") + 1);
    const task = tx.get(`task/${id}`);
    if (!task) throw new SwarmError("internal", "a ready task has no record");
    tx.delete(head.key);
    tx.put(`task/${id}`, { ...(task.value as JsonObject), state: "claimed", worker, attempts: 1 });
    tx.put(`lease/${ordered(tx.now + LEASE_MS)}/${id}`, { id });
    tx.put(`held/${worker}/${id}`, { id });
    return id;
  });
}

async function claimFromStore({
  path,
  durability,
  worker,
}: Errand): Promise<{ next(): Promise<string | undefined>; close(): Promise<void> }> {
  const store = await openStore(`sqlite:${path}`, { durability });
  return { next: () => claim(store, worker), close: () => store.close() };
}

/** One statement in BEGIN IMMEDIATE: as little as a queue on SQLite can do. */
async function claimByHand({ path, durability, worker }: Errand): ReturnType<typeof claimFromStore> {
  const db = new DatabaseSync(path, { timeout: 0 });
  db.exec(`PRAGMA synchronous=${durability.toUpperCase()}`);
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");
  const take = db.prepare(
    "UPDATE queue SET state = 'claimed', worker = ? WHERE id = (SELECT id FROM queue WHERE state = 'ready' ORDER BY id LIMIT 1) RETURNING id",
  );
  return {
    async next() {
      for (let tries = 1; ; tries++) {
        try {
          begin.run();
          break;
        } catch (error) {
          const busy = error instanceof Error && "errcode" in error && Number(error.errcode) % 256 === SQLITE_BUSY;
          if (!busy) throw error;
        }
        await sleep(Math.random() * Math.min(tries, RETRY_MS_MAX));
      }
      const row = take.get(worker);
      commit.run();
      return row === undefined ? undefined : String(row.id);
    },
    close: async () => db.close(),
  };
}

async function run(errand: Errand): Promise<Claimed> {
  const queue = await (errand.side === "store" ? claimFromStore(errand) : claimByHand(errand));
  process.send?.("ready");
  await new Promise((resolve) => process.once("message", resolve));
  const now = () => performance.timeOrigin + performance.now();
  const ids: string[] = [];
  const startedAt = now();
  for (let id = await queue.next(); id !== undefined; id = await queue.next()) ids.push(id);
  const endedAt = now();
  await queue.close();
  return { ids, startedAt, endedAt };
}

if (process.argv[1] === import.meta.filename) {
  const claimed = await run(JSON.parse(process.argv[2] ?? "") as Errand);
  process.send?.(claimed, () => process.disconnect());
}
