/** kill -9 of working servers: what was acknowledged stays, what was half done leaves nothing. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Crew, HostKilled, LOCK_WORDS, type Member, someOutcome } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";
import { Killer } from "./killer.ts";

const HOSTS = 8;
const KILLS = size(20, 100);
const SEED = Number(process.env.SWARM_SEED ?? 20_26);
/** Long enough that a busy machine does not cost a living holder its claim. */
const LEASE_MS = 3_000;
const TASKS_MAX = 400;
/** Attempts are not to run out: kills, failures and leases use them up. */
const TASK = { maxAttempts: 100, backoff: { initialMs: 0 } };
/** Longest wait of one claim while the leases of the dead run out. */
const WAIT_MS = 4_000;

async function workUntilAllIsDone(crew: Crew, member: Member, killer: Killer, random: Random): Promise<void> {
  const wrong = (answer: { isError: boolean; text: string }) => {
    if (answer.isError || LOCK_WORDS.test(answer.text)) throw new Error(`${member.agent} was told: ${answer.text}`);
  };
  for (;;) {
    try {
      if (killer.left > 0 && crew.ledger.added.size < TASKS_MAX) {
        wrong(await killer.during(member, () => crew.add(member, { ...TASK, files: [`src/${random.integer(50)}.ts`] })));
      }
      const answer = await killer.during(member, () => crew.claimNext(member, killer.left > 0 ? {} : { waitMs: WAIT_MS }));
      wrong(answer);
      const { claimed } = answer;
      if (!claimed) {
        if (killer.left > 0) continue;
        let open = 0; // held by the dead, it comes back; held by the living, it may be given back
        for (const status of ["claimed", "working", "available"]) {
          const listed = await member.try("get_all_tasks", { limit: 1, status });
          wrong(listed);
          open += (listed.structured.tasks as unknown[]).length;
        }
        if (open > 0) continue;
        return;
      }
      if (random.integer(4) === 0) {
        const { taskId, token: fencingToken } = claimed;
        wrong(await member.try("update_task", { taskId, status: "working", progress: { percent: 50 }, fencingToken }));
      }
      const outcome = killer.left > 0 ? someOutcome(random) : "done";
      wrong(await killer.during(member, () => crew.report(member, claimed, outcome)));
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await member.start();
    }
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  const title = `${KILLS} times kill -9 among ${HOSTS} working hosts loses nothing, doubles nothing, and leaves nothing half done`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("CORE-09", "TASK-05", "TASK-07");
    using meeting = await meet();
    const killer = new Killer(KILLS, seededRandom(SEED));
    await using crew = await Crew.start({ store: meeting.store, size: HOSTS, leaseMs: LEASE_MS });
    await Promise.all(
      crew.members.map((member, index) => workUntilAllIsDone(crew, member, killer, seededRandom(SEED + index + 1))),
    );
    await crew.close();

    const found = await census(meeting.store);
    expect(killer.left).toBe(0);
    expect(found.problems, `seed ${SEED}`).toEqual([]);
    expect(crew.ledger.missing(found), `seed ${SEED}`).toEqual([]);
    expect(crew.ledger.acknowledged).toBeGreaterThan(KILLS);
    const statuses = new Set([...found.tasks.values()].map(({ status }) => status));
    expect([...statuses]).toEqual(["done"]);
    expect(found.reservations).toEqual([]);
    // kills in the middle of a claim were among them: some lease ran out instead of being given back
    const events = new Set([...found.tasks.values()].flatMap(({ history }) => history.map(({ event }) => event)));
    expect(events).toContain("lease_expired");
    const claims = [...found.tasks.values()].reduce((sum, { fencingToken }) => sum + fencingToken, 0);
    const silent = found.tasks.size - crew.ledger.added.size + claims - crew.ledger.claims.length;
    console.log(
      `${KILLS} kills: ${crew.ledger.acknowledged} acknowledged writes kept; ${silent} adds and claims took place without an answer`,
    );
  });
});
