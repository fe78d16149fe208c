/** kill -9 of servers that send and receive: what was sent comes, what was acknowledged stays away, and the order holds. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { openStore } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually } from "../support/host.ts";
import { HostKilled, type Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { Killer } from "./killer.ts";
import { type Message, Post, postCensus, strayRows } from "./post.ts";

const SEED = Number(process.env.SWARM_SEED ?? 20_26);
const KILLS = size(20, 100);
/** Eight processes; two of the agents have two each. */
const PROCESSES = ["ann", "ann", "bob", "bob", "cat", "dan", "eve", "fay"];
const AGENTS = [...new Set(PROCESSES)];
const TOPICS = ["news.web", "news.store"];
/** Long enough that a busy machine does not cost a living process its presence. */
const LEASE_MS = 3_000;
const VISIBILITY_MS = 1_000;
/** Processes on PostgreSQL know its clock to within this; on one machine with SQLite there is one clock. */
const SKEW_MS = { SQLite: 50, PostgreSQL: 500 };
/** Messages expire so soon, if they do. */
const TTL_MS = 1_500;
const REPLY_WAIT_MS = 300;
/** Reading, sending and acknowledging are short. */
const CALLS_PER_KILL = 30;
const SENT_MAX = size(600, 4_000);

const pick = <T>(from: readonly T[], random: Random): T => from[random.integer(from.length)] ?? (from[0] as T);

async function sendSomething(post: Post, member: Member, random: Random): Promise<void> {
  const to = pick(AGENTS, random);
  const kind = random.integer(10);
  if (kind < 1) return await post.broadcast(member);
  if (kind < 4) return await post.publish(member, pick(TOPICS, random));
  if (kind < 5) return await post.request(member, to, REPLY_WAIT_MS);
  await post.send(member, to, {
    priority: pick([5, 5, 5, 9], random),
    ...(random.integer(8) === 0 ? { ttlMs: TTL_MS } : {}),
    ...(random.integer(8) === 0 ? { ackWithinMs: 100 } : {}),
    ...(random.integer(12) === 0 ? { notBefore: Date.now() + 300 } : {}),
  });
}

async function deal(post: Post, member: Member, message: Message, random: Random): Promise<void> {
  if (message.messageType === "request") await post.send(member, message.from, { replyTo: message.id }, "reply");
  const roll = random.integer(20);
  if (roll < 15) await post.acknowledge(member, message.id, "done");
  else if (roll < 17) await post.acknowledge(member, message.id, "later");
  else if (roll < 18) await post.acknowledge(member, message.id, "reject");
}

async function readSomething(post: Post, member: Member, random: Random): Promise<readonly Message[]> {
  const acknowledge = random.integer(4) === 0;
  const messages = await post.read(member, {
    limit: 1 + random.integer(10),
    acknowledge,
    visibilityMs: VISIBILITY_MS + random.integer(VISIBILITY_MS),
    ...(random.integer(3) === 0 ? { waitMs: 200 } : {}),
  });
  return acknowledge ? [] : messages;
}

/** Sends, reads and acknowledges until the kills are over. */
async function correspond(post: Post, member: Member, killer: Killer, random: Random): Promise<void> {
  let sent = 0;
  while (killer.left > 0) {
    try {
      if (sent++ < SENT_MAX) await killer.during(member, () => sendSomething(post, member, random));
      if (sent % 2 === 0) continue;
      for (const message of await killer.during(member, () => readSomething(post, member, random))) {
        await killer.during(member, () => deal(post, member, message, random));
      }
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await post.revive(member);
    }
  }
}

/** One process of each agent reads until there is nothing more to come. */
async function drain(post: Post, store: Parameters<typeof postCensus>[0]): Promise<void> {
  await Promise.all(post.members.map((member) => post.retire(member)));
  const readers = AGENTS.map((agent) => post.members.find((member) => member.agent === agent)).filter((one) => one !== undefined);
  await Promise.all(readers.map((member) => post.revive(member)));
  const read = (member: Member) => post.read(member, { limit: 25, acknowledge: true, visibilityMs: VISIBILITY_MS, waitMs: 50 });
  await eventually(
    "everything is read",
    async () => {
      const counts = await Promise.all(readers.map(async (member) => (await read(member)).length));
      if (counts.some((count) => count > 0)) return false;
      return (await postCensus(store)).deliveries.every(({ state }) => state === "done" || state === "dead");
    },
    120_000,
  );
}

describe.each(ENGINES)("$name", ({ name, meet }) => {
  const title = `${KILLS} times kill -9 among ${PROCESSES.length} processes that send and receive loses no message, and none comes twice or out of turn`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("CORE-09", "CORE-12", "COMM-03", "COMM-04", "COMM-05", "COMM-06", "COMM-07", "COMM-08");
    using meeting = await meet();
    const skewMs = SKEW_MS[name as keyof typeof SKEW_MS];
    await using post = await Post.start({ store: meeting.store, agents: PROCESSES, leaseMs: LEASE_MS, skewMs, seed: SEED });
    for (const agent of AGENTS) {
      const member = post.members.find((one) => one.agent === agent) as Member;
      await member.try("register_agent", { agentType: "tester", capabilities: [] });
      for (const topic of TOPICS) await post.subscribe(member, topic);
    }
    const killer = new Killer(KILLS, seededRandom(SEED), CALLS_PER_KILL);
    await Promise.all(post.members.map((member, index) => correspond(post, member, killer, seededRandom(SEED + index + 1))));

    const store = await openStore(meeting.store);
    await drain(post, store);
    const census = await postCensus(store);
    const { deliveries } = census;
    expect(killer.left).toBe(0);
    expect(post.wrong(census), `seed ${SEED}`).toEqual([]);
    expect(await strayRows(store), `seed ${SEED}`).toEqual([]);
    expect(post.acknowledged).toBeGreaterThan(KILLS * 5);
    expect(post.stderr).not.toMatch(/"level":[56]0/);
    // kills in the middle of reading were among them: something came again
    expect(deliveries.some(({ deliveries: times }) => times > 1)).toBe(true);
    const dead = deliveries.filter(({ state }) => state === "dead").length;
    console.log(
      `${KILLS} kills: ${post.acknowledged} promises kept, ${post.received} messages received, ${dead} dead letters; ${post.repeated} calls were repeated`,
    );
    await store.close();
  });
});
