/**
 * A process that works on a store with others. Started by workers.ts with one JSON argument; says `ready`, waits for `go`,
 * does its job and prints what it did as its last line.
 */
import { once } from "node:events";
import { type Json, systemRandom } from "@mcp-swarm/core";
import { openStore, ordered, prefixRange, type Store, searchable } from "@mcp-swarm/store";

/** The jobs a worker can do; each answers what the test checks. */
type Job = (store: Store, job: { index: number; count: number }) => Promise<Json>;

const number = (value: Json | undefined): number => (typeof value === "number" ? value : 0);

/** How long a worker waits for a wake-up before it gives up. */
const WAKE_MS_MAX = 20_000;

const jobs: Record<string, Job> = {
  /** Opens the store and writes one row. */
  async open(store, { index }) {
    await store.transact((tx) => tx.put(`opened/${index}`, index));
    return 1;
  },

  /** Adds one to a shared counter. */
  async count(store, { count }) {
    for (let i = 0; i < count; i++) {
      await store.transact((tx) => tx.put("race/counter", number(tx.get("race/counter")?.value) + 1));
    }
    return count;
  },

  /** Moves money between accounts, never below zero. */
  async transfer(store, { count }) {
    for (let i = 0; i < count; i++) {
      const [from, to] = [systemRandom.integer(5), systemRandom.integer(5)];
      const amount = systemRandom.integer(30);
      await store.transact((tx) => {
        const held = number(tx.get(`account/${from}`)?.value);
        if (from === to || held < amount) return;
        tx.put(`account/${from}`, held - amount);
        tx.put(`account/${to}`, number(tx.get(`account/${to}`)?.value) + amount);
      });
    }
    return count;
  },

  /** Takes numbers from a sequence; answers those it got. */
  async number(store, { index, count }) {
    const taken: number[] = [];
    for (let i = 0; i < count; i++) {
      const got = await store.transact((tx) => {
        const next = number(tx.get("race/sequence")?.value) + 1;
        if (tx.get(`number/${next}`)) throw new Error(`number ${next} was given twice`);
        tx.put("race/sequence", next);
        tx.put(`number/${next}`, index);
        return next;
      });
      taken.push(got);
    }
    return taken;
  },

  /** Takes a slot if fewer than three are taken: only a phantom can make it four. Answers the most it saw. */
  async slot(store, { index, count }) {
    let most = 0;
    for (let i = 0; i < count; i++) {
      const mine = `slot/${index}`;
      const taken = await store.transact((tx) => {
        const others = tx.scan(prefixRange("slot/", 100)).length;
        if (others >= 3) return others;
        tx.put(mine, index);
        return others + 1;
      });
      most = Math.max(most, taken);
      await store.transact((tx) => tx.delete(mine));
    }
    return most;
  },

  /** Takes entries from a queue until it is empty; answers them. */
  async take(store) {
    const taken: string[] = [];
    for (;;) {
      const key = await store.transact((tx) => {
        const head = tx.pick(prefixRange("queue/", 1), 2);
        if (!head) return undefined;
        tx.delete(head.key);
        return head.key;
      });
      if (key === undefined) return taken;
      taken.push(key);
    }
  },

  /** Two processes pass a number to and fro, each asleep until the other's commit wakes it. */
  async pass(store, { index, count }) {
    for (let round = index; round < count * 2; round += 2) {
      await new Promise<void>((resolve, reject) => {
        const limit = setTimeout(() => reject(new Error(`no wake-up for round ${round}`)), WAKE_MS_MAX);
        const look = () => {
          store.get("race/ball").then((ball) => {
            if (number(ball?.value) !== round) return;
            clearTimeout(limit);
            watching[Symbol.dispose]();
            resolve();
          }, reject);
        };
        const watching = store.watch("race/", look);
        look();
      });
      await store.transact((tx) => tx.put("race/ball", round + 1));
    }
    return count;
  },

  /** Writes pairs until it is killed, and says each number once it was acknowledged. */
  async pairs(store, { index }) {
    for (let i = 0; ; i++) {
      await store.transact((tx) => {
        tx.put(`left/${index}/${i}`, i);
        tx.put(`right/${index}/${i}`, i);
      });
      if (!process.stdout.write(`${i}\n`)) await once(process.stdout, "drain");
    }
  },

  /** Writes texts until it is killed, and says each number once it was acknowledged. */
  async texts(store, { index }) {
    for (let i = 0; ; i++) {
      await store.transact((tx) => {
        const text = searchable(`killed at ${i} ${"in the middle of it ".repeat(systemRandom.integer(20))}`, [`worker ${index}`]);
        tx.put(`text/${ordered(tx.now)}-${index}-${i}`, text);
      });
      if (!process.stdout.write(`${i}\n`)) await once(process.stdout, "drain");
    }
  },
};

const { url, job, ...task } = JSON.parse(process.argv[2] ?? "") as { url: string; job: string; index: number; count: number };
const work = jobs[job];
if (!work) throw new Error(`No such job: ${job}`);
let store = job === "open" ? undefined : await openStore(url);
process.stdout.write("ready\n");
await once(process.stdin, "data");
store ??= await openStore(url);
const answer = await work(store, task);
await store.close();
process.stdout.write(`${JSON.stringify(answer)}\n`);
process.stdin.destroy();
