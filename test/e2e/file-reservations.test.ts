/** Files reserved by hand and by tasks' claims, from several worktrees of one repository: real servers, one table. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";

function git(at: string, ...args: string[]): void {
  execFileSync("git", ["-C", at, "-c", "user.name=t", "-c", "user.email=t@example.org", ...args], { stdio: "pipe" });
}

/** A repository with a worktree inside it and one beside it. */
function repository(folder: string): { main: string; inside: string; beside: string } {
  const main = join(folder, "main");
  const [inside, beside] = [join(main, ".claude", "worktrees", "inside"), join(folder, "beside")];
  mkdirSync(join(main, "src"), { recursive: true });
  writeFileSync(join(main, "src", "a.ts"), "x");
  git(main, "init", "-q");
  git(main, "add", ".");
  git(main, "commit", "-qm", "first");
  git(main, "worktree", "add", "-q", inside, "-b", "inside");
  git(main, "worktree", "add", "-q", beside, "-b", "beside");
  return { main, inside, beside };
}

interface Checked {
  paths: { path: string; given?: string; free: boolean; holders: { holder: string; taskId?: string; you: boolean }[] }[];
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test("what an agent reserves in one worktree no other takes in another, by a claim or by hand, until it is released", async () => {
    verifies("STATE-12", "TASK-22");
    using meeting = await meet();
    using folder = temporaryFolder();
    const { main, inside, beside } = repository(folder.path);
    const start = (server: string, agent: string, at: string) =>
      Host.start({ server, agent, store: meeting.store, env: { CLAUDE_PROJECT_DIR: at } });
    await using ann = await start("shared-state", "ann", inside);
    await using ben = await start("shared-state", "ben", beside);
    await using worker = await start("task-coordination", "worker", main);

    const { reservation } = await ann.call<{ reservation: { id: string; globs: string[] } }>("reserve_files", {
      globs: [join(inside, "src", "*.{ts,js}")],
      reason: "the parser",
    });
    expect(reservation.globs).toEqual(["src/*.ts", "src/*.js"]);
    for (const globs of [[join(beside, "src")], ["src/a.ts"], [join(main, "src", "a.ts")], ["../main/src/a.ts"]]) {
      const answer = await ben.try("reserve_files", { globs });
      expect(answer.text).toMatch(/^conflict: Files are reserved: src\/\*\.ts by ann \(exclusive\) until /);
    }
    expect((await ben.try("reserve_files", { globs: [join(folder.path, "elsewhere")] })).text).toMatch(
      /^invalid_argument: .*outside/,
    );

    await worker.call("add_task", { id: "lint", description: "Lint", files: ["src/a.ts"] });
    expect((await worker.try("claim_task", { taskId: "lint" })).text).toMatch(
      /^conflict: Files of task lint are reserved: src\/\*\.ts by ann until /,
    );
    expect(await worker.call("claim_next_task")).toMatchObject({ task: null });

    // released, the files go to whoever waits: a claim, and then by hand again
    const waiting = worker.call<{ task: { id: string } | null }>("claim_next_task", { waitMs: 20_000 });
    await ann.call("release_files", { reservationId: reservation.id });
    expect((await waiting).task?.id).toBe("lint");
    const { paths } = await ann.call<Checked>("check_files", { paths: [join(beside, "src", "a.ts"), "src/b.ts"] });
    expect(paths).toMatchObject([
      {
        path: "src/a.ts",
        given: join(beside, "src", "a.ts"),
        free: false,
        holders: [{ holder: "worker", taskId: "lint", you: false }],
      },
      { path: "src/b.ts", free: true, holders: [] },
    ]);
    const taken = ann.call<{ reservation: { holder: string } }>("reserve_files", { globs: ["src"], waitMs: 20_000 });
    await worker.call("update_task", { taskId: "lint", status: "done" });
    expect((await taken).reservation.holder).toBe("ann");

    // a process that ends gives back what it had
    await ann.close();
    await ben.call("reserve_files", { globs: ["**"], waitMs: 20_000 });
    const { reservations } = await ben.call<{ reservations: unknown[] }>("list_reservations");
    expect(reservations).toMatchObject([{ holder: "ben", globs: ["**"] }]);
  });
});
