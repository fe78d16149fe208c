/** Files that agents reserve by hand and files that come with a task, in two worktrees of one repository: one table for all. */
import { execFileSync } from "node:child_process";
import { mkdirSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Random, seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { HostKilled, Member } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";

/** Long enough that a busy machine does not cost a living holder its files. */
const LEASE_MS = 3_000;
const env = { SWARM_LEASE_MS: String(LEASE_MS) };
const WAIT_MS = 1_000;
const TASKS = size(16, 200);
const RESERVATIONS_EACH = size(8, 80);
const DEATHS = size(3, 40);
const SEED = Number(process.env.SWARM_SEED ?? 1_222);

/** Globs, and by hand which of five files each stands for: what overlaps is known without the code under test. */
const WANTED: readonly { globs: readonly string[]; files: readonly string[] }[] = [
  { globs: ["src/**"], files: ["src/a/x.ts", "src/a/y.ts", "src/b/x.ts"] },
  { globs: ["src/*/x.ts"], files: ["src/a/x.ts", "src/b/x.ts"] },
  { globs: ["src/a/?.ts"], files: ["src/a/x.ts", "src/a/y.ts"] },
  { globs: ["src/b/{x,z}.ts"], files: ["src/b/x.ts"] },
  { globs: ["src/a/y.ts", "docs/a.md"], files: ["src/a/y.ts", "docs/a.md"] },
  { globs: ["docs/*.md"], files: ["docs/a.md", "docs/b.md"] },
  { globs: ["docs/b.md"], files: ["docs/b.md"] },
];

/** A repository with two checkouts. */
function repository(): { worktrees: [string, string]; [Symbol.dispose](): void } {
  const folder = temporaryFolder();
  const root = realpathSync(folder.path);
  const [one, two] = [join(root, "one"), join(root, "two")];
  const quiet = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null" };
  const git = (at: string, ...args: string[]) =>
    execFileSync("git", ["-C", at, "-c", "user.name=t", "-c", "user.email=t@example.org", ...args], {
      env: quiet,
      stdio: "pipe",
    });
  git(root, "init", "-q", "one");
  for (const file of WANTED.flatMap(({ files }) => files)) {
    mkdirSync(join(one, file, ".."), { recursive: true });
    writeFileSync(join(one, file), "x");
  }
  git(one, "add", ".");
  git(one, "commit", "-qm", "first");
  git(one, "worktree", "add", "-q", two, "-b", "two");
  return { worktrees: [one, two], [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

/** From the answer that gave the files until they are given back, or their holder dies: surely held. */
interface Span {
  readonly by: string;
  readonly files: readonly string[];
  readonly from: number;
  until: number;
}

class Run {
  readonly spans: Span[] = [];
  readonly filesOf = new Map<string, readonly string[]>();
  deaths = DEATHS;
  done = 0;
  /** Refusals for files that a task needs, and for files that were reserved by hand. */
  readonly refusals = { forTask: 0, byHand: 0 };

  /** @param looks a tool of the member's server, called a few times meanwhile */
  async #hold(
    member: Member,
    { files, looks, random }: { files: readonly string[]; looks: string; random: Random },
    giveBack: () => Promise<void>,
  ): Promise<void> {
    const span: Span = { by: member.agent, files, from: performance.now(), until: Number.POSITIVE_INFINITY };
    this.spans.push(span);
    for (let step = random.integer(3); step > 0; step--) await member.try(looks);
    span.until = performance.now();
    if (this.deaths > 0 && random.integer(4) === 0) {
      this.deaths -= 1;
      await member.kill();
    }
    await giveBack();
  }

  #refused(text: string): void {
    expect(text).toMatch(/^conflict: /);
    if (/ for task task-\d+ /.test(text)) this.refusals.forTask += 1;
    else this.refusals.byHand += 1;
  }

  /** Takes tasks until all are done. */
  async claim(member: Member, random: Random): Promise<void> {
    while (this.done < TASKS) {
      try {
        const answer = await member.try("claim_next_task", { waitMs: WAIT_MS });
        expect(answer.isError, answer.text).toBe(false);
        const { task, fencingToken } = answer.structured as { task: { id: string } | null; fencingToken: number };
        if (!task) continue;
        const files = this.filesOf.get(task.id) ?? [];
        await this.#hold(member, { files, looks: "get_workers", random }, async () => {
          const report = await member.try("update_task", { taskId: task.id, status: "done", fencingToken });
          expect(report.isError, report.text).toBe(false);
          this.done += 1;
        });
      } catch (error) {
        if (!(error instanceof HostKilled)) throw error;
        await member.start();
      }
    }
  }

  /** Reserves files so often, by their names below the root or in one of the worktrees. */
  async reserve(member: Member, worktree: string, random: Random): Promise<void> {
    for (let times = 0; times < RESERVATIONS_EACH; times++) {
      const { globs, files } = WANTED[random.integer(WANTED.length)] as (typeof WANTED)[number];
      const given = globs.map((glob) => (random.integer(2) === 0 ? glob : join(worktree, glob)));
      try {
        const waitMs = random.integer(2) * WAIT_MS;
        const answer = await member.try("reserve_files", { globs: given, waitMs, reason: "edits" });
        if (answer.isError) {
          this.#refused(answer.text);
          continue;
        }
        const { reservation } = answer.structured as { reservation: { id: string } };
        await this.#hold(member, { files, looks: "list_reservations", random }, async () => {
          const back = await member.try("release_files", { reservationId: reservation.id });
          expect(back.isError, back.text).toBe(false);
        });
      } catch (error) {
        if (!(error instanceof HostKilled)) throw error;
        await member.start();
      }
    }
  }

  overlapping(): string[] {
    return this.spans.flatMap((one, index) =>
      this.spans
        .slice(index + 1)
        .filter((other) => other.by !== one.by && one.from < other.until && other.from < one.until)
        .filter((other) => other.files.some((file) => one.files.includes(file)))
        .map((other) => `${one.by} held ${one.files} and ${other.by} ${other.files}`),
    );
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test("files of tasks and files reserved by hand never overlap among processes that are killed; in the end all are free", {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-12", "TASK-22", "CORE-09");
    using meeting = await meet();
    using repo = repository();
    const run = new Run();
    const random = seededRandom(SEED);
    const members = ["task-coordination", "shared-state"].map((server) =>
      Array.from({ length: 4 }, (_, at) => {
        const CLAUDE_PROJECT_DIR = repo.worktrees[at % 2] ?? "";
        return new Member(`${server}-${at}`, { server, store: meeting.store, env: { ...env, CLAUDE_PROJECT_DIR } });
      }),
    );
    const [claimers, reservers] = members as [Member[], Member[]];
    await Promise.all(members.flat().map((member) => member.start()));
    try {
      const tasks = Array.from({ length: TASKS }, (_, at) => {
        const { globs, files } = WANTED[random.integer(WANTED.length)] as (typeof WANTED)[number];
        run.filesOf.set(`task-${at}`, files);
        return { id: `task-${at}`, description: "edits", files: globs, maxAttempts: 100, backoff: { initialMs: 0 } };
      });
      const added = await claimers[0]?.try("add_tasks", { tasks });
      expect(added?.isError, added?.text).toBe(false);
      await Promise.all([
        ...claimers.map((member, at) => run.claim(member, seededRandom(SEED + 1 + at))),
        ...reservers.map((member, at) => run.reserve(member, repo.worktrees[(at + 1) % 2] ?? "", seededRandom(SEED + 20 + at))),
      ]);
    } finally {
      await Promise.all(members.flat().map((member) => member.close()));
    }
    expect(run.overlapping(), `seed ${SEED}`).toEqual([]);
    const everyWay = [run.refusals.forTask, run.refusals.byHand, DEATHS - run.deaths].map((times) => times > 0);
    expect(everyWay, JSON.stringify(run.refusals)).toEqual([true, true, true]);
    await using reader = await Host.start({ server: "shared-state", store: meeting.store, agent: "reader", env });
    await eventually("the reservations of the dead are over", async () => {
      const { reservations } = await reader.call<{ reservations: unknown[] }>("list_reservations");
      return reservations.length === 0;
    });
    const paths = WANTED.flatMap(({ files }) => files);
    const checked = await reader.call<{ paths: { free: boolean }[] }>("check_files", { paths });
    expect(checked.paths.every(({ free }) => free)).toBe(true);
    expect((await census(meeting.store)).problems).toEqual([]);
    expect(members.flatMap((side) => side.map(({ stderr }) => stderr)).join("")).toBe("");
  });

  test("an agent's claim shows to others in the other worktree as its reservation, and ends by its own server's death alone", {
    timeout: 120_000,
  }, async () => {
    verifies("STATE-12", "TASK-22");
    using meeting = await meet();
    using repo = repository();
    const [one, two] = repo.worktrees;
    const at = (worktree: string) => ({ store: meeting.store, env: { ...env, CLAUDE_PROJECT_DIR: worktree } });
    const tasks = await Host.start({ ...at(one), agent: "ann" });
    await using files = await Host.start({ ...at(one), server: "shared-state", agent: "ann" });
    await using other = await Host.start({ ...at(two), server: "shared-state", agent: "bob" });
    await tasks.call("add_task", { id: "edit", description: "edits", files: ["src/a/**"], backoff: { initialMs: 0 } });
    await tasks.call("claim_task", { taskId: "edit" });
    await files.call("reserve_files", { globs: ["src/a/x.ts"], reason: "of my own task" }); // her own claim is in nobody's way
    await files.call("reserve_files", { globs: [join(one, "docs/a.md")] });

    const refused = await other.try("reserve_files", { globs: [join(two, "src/a/y.ts")] });
    expect(refused.text).toMatch(/^conflict: .*ann for task edit /);
    const { paths } = await other.call<{ paths: { path: string; free: boolean; holders: Record<string, unknown>[] }[] }>(
      "check_files",
      { paths: [join(two, "src/a/y.ts"), "docs/a.md", "docs/b.md"] },
    );
    expect(paths).toMatchObject([
      { path: "src/a/y.ts", free: false, holders: [{ holder: "ann", taskId: "edit", you: false }] },
      { path: "docs/a.md", free: false, holders: [{ holder: "ann" }] },
      { path: "docs/b.md", free: true, holders: [] },
    ]);

    await tasks.kill();
    const taken = await other.call<{ reservation: { holder: string; leaseExpiresAt: number } }>("reserve_files", {
      globs: [join(two, "src/a/y.ts")],
      waitMs: 20_000,
    });
    expect(taken.reservation.holder).toBe("bob");
    for (const path of ["src/a/x.ts", "docs/a.md"]) {
      const kept = await other.try("reserve_files", { globs: [path] });
      expect(kept.text, path).toMatch(/^conflict: .* ann /); // the server that reserved it lives
    }
    await using again = await Host.start({ ...at(two), agent: "cid" });
    expect((await again.try("claim_task", { taskId: "edit" })).text).toMatch(/^conflict: Files of task edit are reserved: /);
    await files.close(); // as when the host ends
    await other.call("release_files", { all: true });
    expect(await again.call("claim_task", { taskId: "edit" })).toMatchObject({ task: { attempt: 2 } });
  });
});
