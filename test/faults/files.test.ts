/** Tasks that need files: no two agents ever hold tasks whose files overlap. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, type ToolAnswer } from "../support/host.ts";
import { type Claimed, Crew, HostKilled, LOCK_WORDS, type Member } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";

const HOSTS = 8;
const TASKS = size(48, 400);
const DEATHS = size(2, 30);
/** Long enough that a busy machine does not cost a living holder its claim. */
const LEASE_MS = 5_000;
const WAIT_MS = 2_000;
const SEED = Number(process.env.SWARM_SEED ?? 2_022);

/** Globs, and by hand which of six files each stands for: what overlaps is known without the code under test. */
const WANTED: readonly { globs: readonly string[]; files: readonly string[] }[] = [
  { globs: ["src/**"], files: ["src/a/x.ts", "src/a/y.ts", "src/b/x.ts", "src/b/y.ts"] },
  { globs: ["src/a/**"], files: ["src/a/x.ts", "src/a/y.ts"] },
  { globs: ["src/*/x.ts"], files: ["src/a/x.ts", "src/b/x.ts"] },
  { globs: ["src/b/?.ts"], files: ["src/b/x.ts", "src/b/y.ts"] },
  { globs: ["src/a/x.ts"], files: ["src/a/x.ts"] },
  { globs: ["src/b/{x,z}.ts"], files: ["src/b/x.ts"] },
  { globs: ["docs/*.md"], files: ["docs/a.md", "docs/b.md"] },
  { globs: ["docs/a.md", "src/b/y.ts"], files: ["docs/a.md", "src/b/y.ts"] },
  { globs: ["docs/b.md"], files: ["docs/b.md"] },
  { globs: ["**/y.ts"], files: ["src/a/y.ts", "src/b/y.ts"] },
];

/** From the answer to the claim until the report is sent, or the holder dies: surely held. */
interface Span {
  readonly by: string;
  readonly taskId: string;
  readonly files: readonly string[];
  readonly from: number;
  until: number;
}

class Run {
  readonly spans: Span[] = [];
  readonly filesOf = new Map<string, readonly string[]>();
  conflicts = 0;
  deaths = DEATHS;

  /** Works until all tasks are done. */
  async work(crew: Crew, member: Member, random: Random): Promise<void> {
    while (crew.ledger.reports.filter(({ outcome }) => outcome === "done").length < TASKS) {
      try {
        await this.#turn(crew, member, random);
      } catch (error) {
        if (!(error instanceof HostKilled)) throw error;
        await member.start();
      }
    }
  }

  async #turn(crew: Crew, member: Member, random: Random): Promise<void> {
    const claimed = random.integer(2) === 0 ? await this.#claimOne(crew, member, random) : await this.#claimNext(crew, member);
    if (!claimed) return;
    const { taskId, by, token: fencingToken } = claimed;
    const files = this.filesOf.get(taskId) ?? [];
    const span: Span = { by, taskId, files, from: performance.now(), until: Number.POSITIVE_INFINITY };
    this.spans.push(span);
    for (let step = random.integer(4); step > 0; step--) {
      const answer = await member.try("update_task", { taskId, progress: { percent: step }, fencingToken });
      await this.#holds(member, taskId, answer);
    }
    span.until = performance.now();
    if (this.deaths > 0 && random.integer(8) === 0) {
      this.deaths -= 1;
      await member.kill();
    }
    await this.#holds(member, taskId, await crew.report(member, claimed, random.integer(5) === 0 ? "available" : "done"));
  }

  /** A living holder may report on its task; when it may not, the task's history is in the failure. */
  async #holds(member: Member, taskId: string, answer: ToolAnswer): Promise<void> {
    if (!answer.isError) return;
    const { text } = await member.try("get_task", { taskId });
    throw new Error(`${member.agent} was told: ${answer.text}\n${text}\nIts stderr: ${member.stderr}`);
  }

  async #claimNext(crew: Crew, member: Member): Promise<Claimed | undefined> {
    const answer = await crew.claimNext(member, { waitMs: WAIT_MS });
    expect(answer.isError, answer.text).toBe(false);
    return answer.claimed;
  }

  async #claimOne(crew: Crew, member: Member, random: Random): Promise<Claimed | undefined> {
    const taskId = `task-${1 + random.integer(TASKS)}`;
    const answer = await member.try("claim_task", { taskId });
    expect(answer.text).not.toMatch(LOCK_WORDS);
    if (!answer.isError) {
      const claimed = { taskId, by: member.agent, token: Number(answer.structured.fencingToken) };
      crew.ledger.claims.push(claimed);
      return claimed;
    }
    expect(answer.text).toMatch(/^(conflict|failed_precondition): /);
    if (/reserved: \S+ by agent-\d for task task-\d+ until \d{4}-/.test(answer.text)) this.conflicts += 1;
    return undefined;
  }
}

function overlapping(spans: readonly Span[]): string[] {
  return spans.flatMap((one, index) =>
    spans
      .slice(index + 1)
      .filter((other) => other.by !== one.by && one.from < other.until && other.from < one.until)
      .filter((other) => other.files.some((file) => one.files.includes(file)))
      .map((other) => `${one.by} held ${one.taskId} (${one.files}) and ${other.by} ${other.taskId} (${other.files})`),
  );
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${HOSTS} hosts never hold overlapping files, and all tasks are done in the end`, { timeout: 900_000 }, async () => {
    verifies("TASK-22");
    using meeting = await meet();
    const run = new Run();
    await using crew = await Crew.start({ store: meeting.store, size: HOSTS, leaseMs: LEASE_MS });
    const random = seededRandom(SEED);
    for (let n = 1; n <= TASKS; n++) {
      const wanted = WANTED[random.integer(WANTED.length)] as (typeof WANTED)[number];
      run.filesOf.set(`task-${n}`, wanted.files);
      const answer = await crew.add(crew.members[0] as Member, { files: wanted.globs, maxAttempts: 100 });
      expect(answer.isError, answer.text).toBe(false);
    }
    await Promise.all(crew.members.map((member, index) => run.work(crew, member, seededRandom(SEED + 1 + index))));
    await crew.close();
    expect(overlapping(run.spans), `seed ${SEED}`).toEqual([]);
    const found = await census(meeting.store);
    expect(found.problems).toEqual([]);
    expect(crew.ledger.missing(found)).toEqual([]);
    expect(found.reservations).toEqual([]);
    expect(run.conflicts).toBeGreaterThan(0);
    console.log(`${run.spans.length} holdings, ${run.conflicts} refused for their files, 0 overlaps`);
  });

  test("a claim that waits for files goes on when their holder finishes", { timeout: 120_000 }, async () => {
    verifies("TASK-22");
    using meeting = await meet();
    const env = { SWARM_LEASE_MS: "600000" }; // no lease ends meanwhile: only the finish can wake the waiting one
    await using holder = await Host.start({ store: meeting.store, agent: "holder", env });
    await using waiting = await Host.start({ store: meeting.store, agent: "waiting", env });
    await holder.call("add_task", { id: "first", description: "all of it", files: ["src/**"] });
    await holder.call("claim_task", { taskId: "first" });
    await holder.call("add_task", { id: "second", description: "a part", files: ["src/a.ts"] });
    const told: string[] = [];
    const taken = waiting.call(
      "claim_next_task",
      { waitMs: 20_000 },
      { onprogress: ({ message }) => told.push(message ?? ""), timeout: 60_000 },
    );
    const refused = await waiting.try("claim_task", { taskId: "second" });
    expect(refused.text).toMatch(/^conflict: Files of task second are reserved: src\/\*\* by holder for task first until /);
    await holder.call("update_task", { taskId: "first", status: "done" });
    expect(await taken).toMatchObject({ task: { id: "second" } });
  });
});
