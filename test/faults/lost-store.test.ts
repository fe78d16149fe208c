/** The store's file goes away, or another takes its place, while servers have it open. */
import { copyFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";
import { census } from "./engines.ts";

const LOST = /^unavailable: The store's file was deleted or replaced while it was open; nothing was written\./;

test.each([
  ["deleted", (path: string) => removeStore(path)],
  ["moved away", (path: string) => renameSync(path, `${path}.old`)],
  ["replaced by a copy", (path: string) => [copyFileSync(path, `${path}.copy`), renameSync(`${path}.copy`, path)]],
] as const)("no write is acknowledged into a store that was %s: it would be lost", { timeout: 60_000 }, async (_, take) => {
  verifies("CORE-09");
  using folder = temporaryFolder();
  const path = join(folder.path, "swarm.db");
  await using first = await Host.start({ store: folder.store, agent: "first" });
  await using second = await Host.start({ store: folder.store, agent: "second" });
  await first.call("add_task", { id: "before", description: "in the store that is taken" });
  await second.call("get_task", { taskId: "before" });
  take(path);
  for (const host of [first, second]) {
    const writing = await host.try("add_task", { description: "where would it go" });
    expect(writing.text).toMatch(LOST);
    expect(writing.text).toMatch(/[Rr]estart/);
    const reading = await host.try("get_task", { taskId: "before" });
    expect(reading.text).toMatch(/^unavailable: The store's file was deleted or replaced/);
  }
});

test("after a restart of the servers, work goes on in the new store", { timeout: 60_000 }, async () => {
  verifies("CORE-09");
  using folder = temporaryFolder();
  const first = await Host.start({ store: folder.store, agent: "first" });
  await first.call("add_task", { id: "before", description: "in the store that is deleted" });
  removeStore(join(folder.path, "swarm.db"));
  expect((await first.try("add_task", { description: "lost" })).text).toMatch(LOST);
  await first.close();
  await using again = await Host.start({ store: folder.store, agent: "first" });
  await again.call("add_task", { id: "after", description: "in the new one" });
  const { tasks, problems } = await census(folder.store);
  expect(problems).toEqual([]);
  expect([...tasks.keys()]).toEqual(["after"]);
});

/** What a person does who wants to begin anew. */
function removeStore(path: string): void {
  for (const suffix of ["", "-wal", "-shm", "-lock", "-wake"]) rmSync(path + suffix, { force: true });
}
