/** How a server of shared state ends, and what others find then; a store that moves between engines; what is forgotten in time. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { isAlive, RawHost, runBin, startServerHttp } from "../support/bin.ts";
import { contentOf, lookInto } from "../support/content.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

const server = "shared-state";
/** How long a process may take to be gone once it is told to end. */
const END_MS_MAX = 2_000;
const WAIT_MS = 50_000;

const WAYS: Record<string, (raw: RawHost) => void> = {
  "end of stdin": (raw) => raw.child.stdin?.end(),
  SIGTERM: (raw) => raw.child.kill("SIGTERM"),
  SIGINT: (raw) => raw.child.kill("SIGINT"),
};

interface Acquired {
  lock: { agentId: string; fencingToken: number };
}

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  test.each(Object.keys(WAYS))(
    "%s ends the process within 2 s: locks, leadership and files are free at once, its place in line is gone",
    async (way) => {
      verifies("CORE-07", "STATE-08", "STATE-10", "STATE-12");
      using folder = temporaryFolder();
      const store = engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
      // a lease so long that only giving back frees anything
      const env = { SWARM_STORE: store, SWARM_LEASE_MS: "600000" };
      await using other = await Host.start({ server, store, agent: "other", env });
      const raw = new RawHost(server, { ...env, SWARM_AGENT: "leaver" });
      await raw.initialize();
      for (const [tool, args] of [
        ["acquire_lock", '{"name":"held"}'],
        ["acquire_lock", '{"name":"shared","mode":"shared","agentId":"child"}'],
        ["elect_leader", '{"group":"builds"}'],
        ["reserve_files", '{"globs":["src/**"]}'],
      ] as const) {
        expect((await raw.callText(tool, args)).result?.isError, tool).not.toBe(true);
      }
      await other.call("acquire_lock", { name: "wanted" });
      const waitingIn = (id: number, name: string, args: Record<string, unknown>) =>
        raw.write(
          `${JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: { ...args, waitMs: WAIT_MS } } })}\n`,
        );
      waitingIn(500, "acquire_lock", { name: "wanted" });
      waitingIn(501, "wait_for_state", { key: "never" });
      await eventually("it stands in line", async () => {
        const { locks } = await other.call<{ locks: { waiting: number }[] }>("list_locks", { prefix: "wanted" });
        return locks[0]?.waiting === 1;
      });
      expect((await other.try("acquire_lock", { name: "held" })).text).toMatch(/^conflict: /);
      expect(await other.call("elect_leader", { group: "builds" })).toMatchObject({ leader: { agentId: "leaver" } });
      expect((await other.try("reserve_files", { globs: ["src/a.ts"] })).text).toMatch(/^conflict: /);
      const inLine = other.call<Acquired>("acquire_lock", { name: "held", waitMs: WAIT_MS });

      const { pid } = raw;
      WAYS[way]?.(raw);
      await eventually(`process ${pid} is gone after ${way}`, () => !isAlive(pid), END_MS_MAX);

      expect(await inLine).toMatchObject({ lock: { agentId: "other", fencingToken: 2 } });
      expect(await other.call("acquire_lock", { name: "shared" })).toMatchObject({ lock: { fencingToken: 2 } });
      expect(await other.call("get_leader", { group: "builds" })).toMatchObject({ leader: { agentId: "other", term: 2 } });
      await other.call("reserve_files", { globs: ["src/a.ts"] });
      await other.call("release_lock", { name: "wanted" });
      expect(await other.call("list_locks", { prefix: "wanted" })).toMatchObject({ locks: [] });
      expect(raw.strays).toEqual([]);
      await raw.end();
      expect(raw.child.exitCode, raw.stderr).toBe(0);
    },
  );
});

test("a server over HTTP ends within 2 s with calls that wait in it, and what remote agents hold lasts as long as they said", async () => {
  verifies("CORE-07", "STATE-08");
  using folder = temporaryFolder();
  const env = { SWARM_STORE: folder.store, SWARM_LEASE_MS: "1000" };
  await using serving = await startServerHttp(server, env);
  await using remote = await Host.http(`${serving.url}/mcp`, { agent: "remote" });
  await using other = await Host.start({ server, store: folder.store, agent: "other", env });
  const { lock } = await remote.call<Acquired>("acquire_lock", { name: "held", ttlMs: 600_000 });
  await other.call("acquire_lock", { name: "wanted" });
  const waiting = remote.try("acquire_lock", { name: "wanted", waitMs: WAIT_MS }).then(
    () => "answered",
    () => "broken off",
  );
  await remote.call("list_locks");
  process.kill(serving.pid, "SIGTERM");
  await eventually("the server is gone", () => !isAlive(serving.pid), END_MS_MAX);
  expect(["answered", "broken off"]).toContain(await waiting);
  expect((await other.try("acquire_lock", { name: "held" })).text).toMatch(/^conflict: Lock held: remote holds it/);
  await using again = await startServerHttp(server, env);
  await using back = await Host.http(`${again.url}/mcp`, { agent: "remote" });
  await back.call("set_state", { key: "k", value: 1, lock: "held", fencingToken: lock.fencingToken });
  await back.call("release_lock", { name: "held", fencingToken: lock.fencingToken });
  expect(await other.call("acquire_lock", { name: "held" })).toMatchObject({ lock: { fencingToken: 2 } });
});

test("a store that moves to PostgreSQL and back keeps values, history, followers' places and tokens that go on rising", async () => {
  verifies("CORE-14", "CORE-16", "STATE-07", "STATE-08");
  using folder = temporaryFolder();
  using home = temporaryFolder();
  const postgres = await freshDatabase(inject("postgresUrl"));
  const long = "長い".repeat(5_000);
  const copy = async (from: string, to: string) => {
    const done = await runBin(server, ["store", "copy", from, to]);
    expect(done, done.stderr).toMatchObject({ code: 0, stderr: "", stdout: expect.stringMatching(/^Copied and compared \d+/) });
  };
  const rows = async (url: string) => {
    await using look = await lookInto(url);
    const entries = await contentOf(look.store);
    return entries.filter(({ key }) => key !== "meta/format").map(({ key, value, expiresAt }) => ({ key, value, expiresAt }));
  };
  const at = async (url: string) => await Host.start({ server, store: url, agent: "mover" });
  let sub = "";
  {
    await using start = await at(folder.store);
    sub = (await start.call<{ subscription: { id: string } }>("subscribe_to_state_changes", { prefix: "k" })).subscription.id;
    await start.call("set_state", { key: "k", value: { v: 1 } });
    await start.call("set_state", { key: "k", value: long });
    await start.call("set_state", { key: "gone", value: [1] });
    await start.call("delete_state", { key: "gone" });
    await start.call("set_state_policy", { prefix: "k", onConflict: "merge" });
    for (const token of [1, 2]) {
      expect(await start.call("acquire_lock", { name: "deploy" })).toMatchObject({ lock: { fencingToken: token } });
      await start.call("release_lock", { name: "deploy" });
    }
    expect(await start.call("elect_leader", { group: "builds" })).toMatchObject({ leader: { term: 1 } });
  }
  await copy(folder.store, postgres);
  expect(await rows(postgres)).toEqual(await rows(folder.store));
  {
    await using moved = await at(postgres);
    expect(await moved.call("get_state", { key: "k", path: "", offset: long.length - 3 })).toMatchObject({
      part: { text: long.slice(-3) },
    });
    expect(await moved.call("get_state", { key: "k", atRev: 1 })).toMatchObject({ entry: { value: { v: 1 } } });
    expect(await moved.call("wait_for_state", { subscriptionId: sub })).toMatchObject({
      changes: [{ rev: 1 }, { rev: 2 }],
      nextRev: 4,
    });
    await moved.call("acknowledge_state_changes", { subscriptionId: sub, rev: 4 });
    expect(await moved.call("restore_state", { key: "gone", rev: 3 })).toMatchObject({ entry: { rev: 5 } });
    expect(await moved.call("set_state", { key: "k", value: { w: 2 }, ifRev: 1 })).toMatchObject({ outcome: "merged" });
    expect(await moved.call("acquire_lock", { name: "deploy" })).toMatchObject({ lock: { fencingToken: 3 } });
    expect(await moved.call("elect_leader", { group: "builds" })).toMatchObject({ leader: { term: 2 } });
  }
  await copy(postgres, home.store);
  expect(await rows(home.store)).toEqual(await rows(postgres));
  await using back = await at(home.store);
  expect(await back.call("wait_for_state", { subscriptionId: sub })).toMatchObject({ changes: [{ rev: 6, key: "k" }] });
  expect(await back.call("acquire_lock", { name: "deploy" })).toMatchObject({ lock: { fencingToken: 4 } });
  expect(await back.call("elect_leader", { group: "builds" })).toMatchObject({ leader: { term: 3 } });
  expect(await back.call("patch_state", { key: "count", increment: 1 })).toMatchObject({ entry: { rev: 7 } });
});

test("the sweep forgets the history of keys that were deleted before the retention, and nothing of those that live", async () => {
  verifies("CORE-16", "STATE-07");
  using folder = temporaryFolder();
  const sweep = async (days: string) => {
    const env = { SWARM_STORE: folder.store, SWARM_RETENTION_DAYS: days };
    const swept = await runBin(server, ["store", "--json", "sweep"], { env });
    expect(swept.code, swept.stderr).toBe(0);
    return JSON.parse(swept.stdout) as { retained: Record<string, number> };
  };
  // what is deleted is kept for as long as it is said then
  const env = { SWARM_RETENTION_DAYS: "0" };
  await using host = await Host.start({ server, store: folder.store, agent: "keeper" });
  await host.call("set_state", { key: "lives", value: 1 });
  await host.call("set_state", { key: "lives", value: 2 });
  await host.call("set_state", { key: "kept", value: 1 });
  await host.call("delete_state", { key: "kept" });
  expect((await sweep("30")).retained).toMatchObject({ "deleted keys": 0 });
  await using brief = await Host.start({ server, store: folder.store, agent: "brief", env });
  await brief.call("set_state", { key: "gone", value: "x".repeat(5_000) });
  await brief.call("delete_state", { key: "gone" });
  await sweep("30");
  expect((await host.try("get_state_history", { key: "gone" })).text).toMatch(/^not_found/);
  expect(await host.call("restore_state", { key: "kept", rev: 3 })).toMatchObject({ entry: { key: "kept" } });
  expect(await host.call("get_state", { key: "lives", atRev: 1 })).toMatchObject({ entry: { value: 1 } });
  const rows = await runBin(server, ["store", "--json", "check"], { env: { SWARM_STORE: folder.store } });
  expect(rows.code, rows.stderr).toBe(0);
});
