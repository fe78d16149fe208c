/** Environments in the store: found, made within the ceiling, deleted, and published by operators. */
import { manualClock } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { ENVIRONMENTS_MAX } from "../src/environment-layer.ts";
import { Environments } from "../src/environments.ts";
import { parseOperatorFile } from "../src/operator-file.ts";

const DAY_MS = 24 * 3_600_000;

function setting() {
  const clock = manualClock();
  const store: Store = new MemoryStore({ clock });
  const as = (agentId: string): Call => plainCall(store, { agentId, verified: false, processId: "p" });
  const process = (file?: unknown) =>
    new Environments({ clock, ...(file === undefined ? {} : { operator: parseOperatorFile(file) }) });
  const find = (environments: Environments, name: string) => store.transact((tx) => environments.find(tx, name) ?? null);
  return { clock, store, as, process, find };
}

const NAMES = ["javascript", "typescript", "python", "bash", "node", "python3", "mcp"];
const MINE = { name: "mine", runtime: "bash", limits: { memoryMiB: 64 } };

describe("environments", () => {
  test("there are seven from the start, which nobody can replace or delete", async () => {
    verifies("EXEC-03");
    const { store, as, process, find } = setting();
    const environments = process();
    expect((await environments.all(store)).map(({ name, origin, version }) => [name, origin, version])).toEqual(
      NAMES.map((name) => [name, "builtin", 1]),
    );
    for (const name of NAMES) {
      expect(await find(environments, name)).toMatchObject({ name, origin: "builtin" });
      await expect(environments.create(as("a"), { name, runtime: "bash" })).rejects.toMatchObject({ code: "already_exists" });
      await expect(environments.delete(as("a"), { name })).rejects.toMatchObject({ code: "failed_precondition" });
    }
  });

  test("are made by one agent and found by every process, until somebody deletes them", async () => {
    verifies("EXEC-03");
    const { store, as, process, find } = setting();
    const [one, other] = [process(), process()];
    const made = await one.create(as("ann"), MINE);
    expect(made).toMatchObject({ name: "mine", origin: "created", version: 1, createdBy: "ann", limits: { memoryMiB: 64 } });
    expect(await find(other, "mine")).toEqual(made);
    expect((await other.all(store)).at(-1)).toEqual(made);
    await expect(other.create(as("bob"), MINE)).rejects.toMatchObject({ code: "already_exists" });
    expect(await other.delete(as("bob"), { name: "mine" })).toEqual({ name: "mine", version: 1 });
    expect(await find(one, "mine")).toBeNull();
    expect((await one.all(store)).length).toBe(NAMES.length);
    await expect(one.delete(as("ann"), { name: "mine" })).rejects.toMatchObject({ code: "not_found" });
  });

  test("never have the same version twice while a task of the one before may wait", async () => {
    const { clock, as, process, find } = setting();
    const environments = process();
    for (const version of [1, 2, 3]) {
      expect(await environments.create(as("a"), MINE)).toMatchObject({ version });
      await environments.delete(as("a"), { name: "mine" });
      await clock.advance(7 * DAY_MS);
      expect(await find(environments, "mine")).toBeNull();
    }
  });

  test("stay for as long as nobody deletes them", async () => {
    const { clock, as, process, find } = setting();
    const environments = process();
    await environments.create(as("a"), MINE);
    await clock.advance(400 * DAY_MS);
    expect(await find(environments, "mine")).toMatchObject({ name: "mine" });
  });

  test("beyond the operator's ceiling are not made, and the refusal says which field and what there is", async () => {
    verifies("EXEC-03");
    const { store, as, process } = setting();
    const strict = process({ ceiling: { limits: { memoryMiB: 128 }, drivers: ["quickjs", "bwrap"] } });
    const asked = (input: object) =>
      strict.create(as("a"), { name: "x", runtime: "javascript", limits: { memoryMiB: 64 }, ...input });
    await expect(asked({ limits: { memoryMiB: 256 } })).rejects.toMatchObject({
      code: "permission_denied",
      message: '"limits.memoryMiB" is 256, and the ceiling is 128.',
    });
    await expect(asked({ runtime: "python" })).rejects.toMatchObject({
      message: '"drivers" names pyodide, and the ceiling permits quickjs, bwrap.',
    });
    expect((await strict.all(store)).length).toBe(NAMES.length);
    expect(await asked({})).toMatchObject({ name: "x" });
  });

  test("have an end in number", async () => {
    const { as, process } = setting();
    const environments = process();
    for (let at = 0; at < ENVIRONMENTS_MAX; at++) await environments.create(as("a"), { ...MINE, name: `e-${at}` });
    await expect(environments.create(as("a"), MINE)).rejects.toMatchObject({ code: "limit_exceeded" });
    await environments.delete(as("a"), { name: "e-7" });
    expect(await environments.create(as("a"), MINE)).toMatchObject({ name: "mine" });
  });
});

describe("an operator's environments", () => {
  const FILE = { environments: [{ name: "wide", runtime: "bash", limits: { memoryMiB: 8_192 } }] };

  test("are found by processes that do not have the file, which do not run what is beyond their own ceiling", async () => {
    verifies("EXEC-03");
    const { store, as, process, find } = setting();
    const [owner, stranger] = [process(FILE), process()];
    await owner.ready(store);
    const found = await find(stranger, "wide");
    expect(found).toMatchObject({ name: "wide", origin: "operator", version: 1 });
    if (!found) throw new Error("not found");
    expect(owner.refusal(found)).toBeUndefined();
    expect(stranger.refusal(found)).toMatch(/limits\.memoryMiB is 8192, and the ceiling is 1024/);
    await expect(stranger.delete(as("a"), { name: "wide" })).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(stranger.create(as("a"), { ...MINE, name: "wide" })).rejects.toMatchObject({ code: "already_exists" });
  });

  test("are written once, and again when the file says something else", async () => {
    const { store, process, find } = setting();
    await process(FILE).ready(store);
    await process(FILE).ready(store);
    expect(await find(process(), "wide")).toMatchObject({ version: 1 });
    const changed = { environments: [{ name: "wide", runtime: "bash", limits: { memoryMiB: 4_096 } }] };
    const [before, after] = [process(FILE), process(changed)];
    await after.ready(store);
    const now = await find(before, "wide");
    expect(now).toMatchObject({ version: 2, limits: { memoryMiB: 4_096 } });
    if (!now) throw new Error("not found");
    // what the store says is not what this process's operator wrote: it is held against the ceiling like anybody's
    expect(before.refusal(now)).toMatch(/ceiling/);
    expect(after.refusal(now)).toBeUndefined();
  });

  test("end some time after the last process that named them, and not before", async () => {
    const { clock, store, process, find } = setting();
    const owner = process(FILE);
    await owner.ready(store);
    for (let day = 0; day < 60; day++) {
      await clock.advance(DAY_MS);
      await owner.ready(store);
    }
    expect(await find(process(), "wide")).toMatchObject({ version: 1 });
    await clock.advance(29 * DAY_MS);
    expect(await find(process(), "wide")).toBeNull();
  });

  test("take the place of one that an agent had made under the name", async () => {
    const { store, as, process, find } = setting();
    await process().create(as("a"), { ...MINE, name: "wide" });
    await process(FILE).ready(store);
    expect(await find(process(), "wide")).toMatchObject({ origin: "operator", version: 2 });
  });
});
