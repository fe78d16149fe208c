/** A disk that is full, and one that may not be written. */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, temporaryFolder } from "../support/host.ts";
import { census } from "./engines.ts";
import { mayMount, onSmallDisk } from "./small-disk.ts";

/** What is freed in the end: at least what the log holds, since a checkpoint writes it all into the database. */
const BALLAST_BYTES = 4_000_000;
/** More than the disk holds. */
const CALLS_MAX = 4_000;
const DESCRIPTION = "x".repeat(8_000);

// A full disk needs one of its own: without the right to mount, only the store's own tests show what the engine makes of it.
describe.runIf(mayMount)("a full disk", () => {
  test("is told in plain words, leaves nothing half done, and work goes on once there is space", {
    timeout: 300_000,
  }, async () => {
    verifies("CORE-09", "CORE-13");
    await onSmallDisk(async (disk) => {
      const ballast = join(disk.path, "ballast");
      writeFileSync(ballast, Buffer.alloc(BALLAST_BYTES));
      const store = `sqlite:${join(disk.path, "swarm.db")}`;
      await using host = await Host.start({ store, agent: "writer" });
      await host.call("add_task", { id: "held", description: "claimed before the disk is full" });
      await host.call("claim_task", { taskId: "held" });
      await using comm = await Host.start({ server: "agent-comm", store, agent: "writer" });
      await comm.call("send_message", { targetAgent: "writer", messageType: "note", payload: "sent before the disk is full" });
      await using state = await Host.start({ server: "shared-state", store, agent: "writer" });
      await state.call("set_state", { key: "text", value: "set before the disk is full" });
      const { lock } = await state.call<{ lock: { fencingToken: number } }>("acquire_lock", { name: "held" });
      const acknowledged = new Set(["held"]);
      let refusal = "";
      for (let n = 0; n < CALLS_MAX && refusal === ""; n++) {
        const tasks = ["a", "b", "c"].map((part) => ({ id: `task-${n}-${part}`, description: DESCRIPTION }));
        const answer = await host.try("add_tasks", { tasks });
        if (answer.isError) refusal = answer.text;
        else for (const { id } of tasks) acknowledged.add(id);
      }
      expect(refusal).toMatch(/^limit_exceeded: The disk that holds the store is full; nothing was written\.\nFree some space/);
      // so is a message that is sent
      const unsent = await comm.try("send_message", { targetAgent: "writer", messageType: "note", payload: DESCRIPTION });
      expect(unsent.text).toMatch(/^limit_exceeded: The disk that holds the store is full; nothing was written\./);
      const unset = await state.try("set_state", { key: "text", value: DESCRIPTION });
      expect(unset.text).toMatch(/^limit_exceeded: The disk that holds the store is full; nothing was written\./);
      // reading goes on, and what is there is whole
      expect(await state.call("get_state", { key: "text" })).toMatchObject({
        entry: { rev: 1, value: "set before the disk is full" },
      });
      expect(await host.call("get_task", { taskId: "held" })).toMatchObject({ task: { id: "held" } });
      const full = await census(store);
      expect(full.problems).toEqual([]);
      expect([...full.tasks.keys()].sort()).toEqual([...acknowledged].sort());

      rmSync(ballast);
      await host.call("update_task", { taskId: "held", status: "done", output: "after the disk was full" });
      await host.call("add_task", { id: "afterwards", description: "there is space again" });
      await comm.call("send_message", { targetAgent: "writer", messageType: "note", payload: "sent afterwards" });
      const { messages } = await comm.call<{ messages: { payload: string; deliveries: number }[] }>("get_messages");
      expect(messages).toMatchObject([
        { payload: "sent before the disk is full", deliveries: 1 },
        { payload: "sent afterwards", deliveries: 1 },
      ]);
      const fenced = { key: "text", value: "set afterwards", ifRev: 1, lock: "held", fencingToken: lock.fencingToken };
      expect(await state.call("set_state", fenced)).toMatchObject({ entry: { rev: 2 } });
      expect(await state.call("wait_for_state", { key: "text", sinceRev: 0 })).toMatchObject({
        changes: [{ rev: 1 }, { rev: 2, oldValue: "set before the disk is full" }],
      });
      const { problems, tasks } = await census(store);
      expect(problems).toEqual([]);
      expect(tasks.get("held")).toMatchObject({ status: "done", output: "after the disk was full" });
      expect(tasks.size).toBe(acknowledged.size + 1);
    });
  });

  test("is told in plain words when it is full from the start", { timeout: 60_000 }, async () => {
    verifies("CORE-13");
    await onSmallDisk(async (disk) => {
      const ballast = join(disk.path, "ballast");
      expect(() => writeFileSync(ballast, Buffer.alloc(16_000_000))).toThrow("ENOSPC");
      await using host = await Host.start({ store: `sqlite:${join(disk.path, "swarm.db")}`, agent: "writer" });
      const answer = await host.try("add_task", { description: "no space" });
      expect(answer.text).toMatch(/^limit_exceeded: The disk that holds the store is full/);
      rmSync(ballast);
      await host.call("add_task", { description: "there is space now" });
    });
  });
});

describe("a folder that may not be written", () => {
  /** A folder of which this user, root included, may only read. */
  async function closedFolder(work: (path: string, close: () => void) => Promise<void>): Promise<void> {
    if (mayMount) return await onSmallDisk((disk) => work(disk.path, () => disk.readOnly()));
    using folder = temporaryFolder();
    const path = join(folder.path, "closed");
    mkdirSync(path);
    await work(path, () => chmodSync(path, 0o555));
    chmodSync(path, 0o755);
  }

  test("is told in plain words, for a new store and for one that was there", { timeout: 60_000 }, async () => {
    verifies("CORE-13");
    await closedFolder(async (path, close) => {
      const old = join(path, "old", "swarm.db");
      const before = await Host.start({ store: `sqlite:${old}`, agent: "writer" });
      await before.call("add_task", { id: "kept", description: "written while it was open" });
      await before.close();
      chmodSync(join(path, "old"), 0o555);
      close();
      for (const file of [join(path, "new.db"), join(path, "folder", "new.db"), old]) {
        await using host = await Host.start({ store: `sqlite:${file}`, agent: "writer" });
        const answer = await host.try("add_task", { description: "cannot be written" });
        expect(answer.text, file).toMatch(/^unavailable: The (store's file|folder of the store) (could|may) not be /);
        expect(answer.text, file).toMatch(/write permission|may write there/);
        expect(answer.text, file).not.toMatch(/The same call may succeed/);
      }
    });
  });
});
