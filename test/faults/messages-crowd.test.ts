/** Broadcasts to hundreds of living agents whose senders are killed at random moments: all get a message, or nobody does. */
import { seededRandom } from "@mcp-swarm/core";
import { openStore, prefixRange } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually } from "../support/host.ts";
import { HostKilled, type Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { Killer } from "./killer.ts";
import { Post, postCensus, strayRows } from "./post.ts";

const SEED = Number(process.env.SWARM_SEED ?? 20_26);
const KILLS = size(5, 100);
/** Every second broadcast is cut off. */
const CALLS_PER_KILL = 2;
const SENDERS = ["sender-0", "sender-1"];
/** Processes that stay alive, each with so many subagents. */
const HUBS = ["hub-0", "hub-1", "hub-2", "hub-3"];
const CROWD_EACH = 80;
const READ_MAX = 25;
/** Longer than the test: nobody is taken for dead who is not. */
const LEASE_MS = 600_000;
const VISIBILITY_MS = 300_000;
/** A broadcast counts as one message for each receiver. */
const RATE = { SWARM_MESSAGE_RATE: "1000000" };

async function broadcastUntilKilled(post: Post, member: Member, killer: Killer): Promise<void> {
  while (killer.left > 0) {
    try {
      await killer.during(member, () => post.broadcast(member));
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await post.revive(member);
    }
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  const title = `${KILLS} times kill -9 of processes that send to ${HUBS.length * CROWD_EACH} agents: whoever was to get a message gets it once`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("COMM-04", "COMM-05", "CORE-09");
    using meeting = await meet();
    const agents = [...SENDERS, ...HUBS];
    await using post = await Post.start({ store: meeting.store, agents, leaseMs: LEASE_MS, skewMs: 0, seed: SEED, env: RATE });
    const hubs = post.members.filter(({ agent }) => HUBS.includes(agent));
    const children = Array.from({ length: CROWD_EACH }, (_, n) => `child-${n}`);
    for (const hub of hubs) {
      for (const agentId of children) {
        const { isError, text } = await hub.try("register_agent", { agentId, agentType: "child", capabilities: [] });
        expect(isError, text).toBe(false);
      }
    }
    const crowd = hubs.flatMap(({ agent }) => children.map((name) => `${agent}/${name}`));
    const killer = new Killer(KILLS, seededRandom(SEED), CALLS_PER_KILL);
    const senders = post.members.filter(({ agent }) => SENDERS.includes(agent));
    await Promise.all(senders.map((sender) => broadcastUntilKilled(post, sender, killer)));

    const store = await openStore(meeting.store);
    await eventually(
      "others finish what was cut off",
      async () => (await store.scan(prefixRange("fanout-part/", 1))).length === 0,
    );
    const read = new Map<string, Set<string>>();
    for (const hub of hubs) {
      for (const name of children) {
        const agent = `${hub.agent}/${name}`;
        let count = READ_MAX;
        while (count === READ_MAX) {
          const messages = await post.read(hub, {
            agentId: name,
            limit: READ_MAX,
            acknowledge: true,
            visibilityMs: VISIBILITY_MS,
          });
          for (const { id } of messages) read.set(id, (read.get(id) ?? new Set()).add(agent));
          count = messages.length;
        }
      }
    }
    const census = await postCensus(store);
    const ofTheCrowd = census.deliveries.filter(({ to }) => crowd.includes(to));
    expect(ofTheCrowd.filter(({ state, deliveries }) => state !== "done" || deliveries !== 1)).toEqual([]);
    expect(ofTheCrowd.length).toBe([...read.values()].reduce((sum, { size }) => sum + size, 0));
    for (const [id, readers] of read) expect(readers.size, `${id}, seed ${SEED}`).toBe(crowd.length);
    // the others have read nothing: what waits for them is no loss
    const deliveries = census.deliveries.map((one) => (crowd.includes(one.to) ? one : { ...one, state: "dead" as const }));
    expect(post.wrong({ ...census, deliveries }), `seed ${SEED}`).toEqual([]);
    expect(await strayRows(store)).toEqual([]);
    expect(read.size).toBeGreaterThanOrEqual(KILLS / 2);
    await store.close();
    console.log(`${KILLS} kills; ${read.size} broadcasts reached all ${crowd.length} agents, each once`);
  });
});
