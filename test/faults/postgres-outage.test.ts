/** PostgreSQL goes away and comes back while hosts work on it. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, type ToolAnswer } from "../support/host.ts";
import { type PostgresServer, startPostgres } from "../support/postgres.ts";
import { Crew, LOCK_WORDS, type Member, someOutcome } from "./crew.ts";
import { census, size } from "./engines.ts";

const HOSTS = 8;
/** A multiple of the hosts. */
const TASKS = size(160, 800);
const ROUNDS = size(1, 4);
const SEED = Number(process.env.SWARM_SEED ?? 5_432);
/** Longer than an outage lasts: what lives keeps what it holds. */
const LEASE_MS = 60_000;
const TASK = { maxAttempts: 100, backoff: { initialMs: 0 } };

/** Tells of the server being away, in words that say that repeating is right; nothing else may be told. */
function mayBeTold({ isError, text }: ToolAnswer): boolean {
  if (LOCK_WORDS.test(text)) throw new Error(`A word of locks: ${text}`);
  if (!isError) return true;
  expect(text).toMatch(/^unavailable: .*\nThe same call may succeed if you repeat it\.$/s);
  return false;
}

let server: PostgresServer;
beforeAll(async () => {
  server = await startPostgres();
});
afterAll(async () => {
  await server.stop();
});

/** Ends every connection to the database but its own, as an administrator or a failing network does. */
async function cutConnections(store: string): Promise<number> {
  const client = new pg.Client({ connectionString: store });
  await client.connect();
  try {
    const { rows } = await client.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    return rows.length;
  } finally {
    await client.end();
  }
}

class Work {
  readonly crew: Crew;
  unavailable = 0;
  finished = 0;

  constructor(crew: Crew) {
    this.crew = crew;
  }

  /** The first answer that is not `unavailable`. Repeats under one idempotency key, since the first try may have succeeded. */
  async #insist(call: (idempotencyKey: string) => Promise<ToolAnswer>, idempotencyKey: string): Promise<ToolAnswer> {
    return await eventually(
      "an answer",
      async () => {
        const answer = await call(idempotencyKey);
        if (mayBeTold(answer)) return answer;
        this.unavailable += 1;
        return undefined;
      },
      120_000,
    );
  }

  async member(member: Member, random: Random): Promise<void> {
    const { ledger } = this.crew;
    let calls = 0;
    const key = () => `${member.agent}-${++calls}`;
    for (let n = 0; n < TASKS / HOSTS; n++) {
      const id = `${member.agent}-task-${n}`;
      const task = { id, description: "made during an outage", ...TASK };
      await this.#insist((idempotencyKey) => member.try("add_task", { ...task, idempotencyKey }), key());
      ledger.added.add(id);
      const answer = await this.#insist((idempotencyKey) => member.try("claim_next_task", { idempotencyKey }), key());
      const given = answer.structured.task as { id: string } | null;
      if (given) await this.#report(member, given.id, Number(answer.structured.fencingToken), someOutcome(random), key());
    }
    for (;;) {
      const answer = await this.#insist((idempotencyKey) => member.try("claim_next_task", { idempotencyKey }), key());
      const given = answer.structured.task as { id: string } | null;
      if (given) await this.#report(member, given.id, Number(answer.structured.fencingToken), "done", key());
      else if (this.finished >= TASKS) return;
    }
  }

  async #report(member: Member, taskId: string, token: number, outcome: "done" | "failed" | "available", key: string) {
    const { ledger } = this.crew;
    const by = member.agent;
    ledger.claims.push({ taskId, by, token });
    const note = `${outcome} by ${by} with ${token}`;
    const field = { done: "output", failed: "error", available: "checkpoint" }[outcome];
    await this.#insist(
      (idempotencyKey) =>
        member.try("update_task", { taskId, status: outcome, fencingToken: token, [field]: note, idempotencyKey }),
      key,
    );
    ledger.reports.push({ taskId, by, token, outcome, note });
    if (outcome === "done") this.finished += 1;
  }
}

describe("PostgreSQL", () => {
  test(`restarts, a crash and cut connections under ${HOSTS} working hosts lose nothing and double nothing`, {
    timeout: 900_000,
  }, async () => {
    verifies("CORE-09", "CORE-14");
    for (let round = 0; round < ROUNDS; round++) {
      const store = await server.freshDatabase();
      await using crew = await Crew.start({ store, size: HOSTS, leaseMs: LEASE_MS });
      const work = new Work(crew);
      const reached = (part: number) => eventually("progress", () => crew.ledger.reports.length >= part * TASKS, 120_000);
      const faults = async () => {
        await reached(0.1);
        expect(await cutConnections(store)).toBeGreaterThan(0);
        await reached(0.3);
        await server.restart("fast");
        await reached(0.5);
        await server.restart("crash");
        await reached(0.7);
        expect(await cutConnections(store)).toBeGreaterThan(0);
      };
      const seed = SEED + round * 100;
      await Promise.all([faults(), ...crew.members.map((member, index) => work.member(member, seededRandom(seed + index)))]);
      await crew.close();
      const found = await census(store);
      expect(found.problems, `seed ${seed}`).toEqual([]);
      expect(crew.ledger.missing(found), `seed ${seed}`).toEqual([]);
      expect(found.tasks.size).toBe(TASKS);
      for (const task of found.tasks.values()) {
        expect(task.status).toBe("done");
        expect(task.history.filter(({ event }) => event === "done")).toHaveLength(1);
        expect(task.fencingToken).toBe(crew.ledger.claims.filter(({ taskId }) => taskId === task.id).length);
      }
      console.log(`4 outages: ${crew.ledger.acknowledged} acknowledged writes kept, ${work.unavailable} times unavailable`);
    }
  });
});
