/** Waiting for values and for locks: followers that fall behind, and calls that are given up just as they are answered. */
import { openStore } from "@mcp-swarm/store";
import { describe, expect, inject, test } from "vitest";
import { keys } from "../../servers/shared-state/src/state-layer.ts";
import { LOG_REVISIONS_MAX } from "../../servers/shared-state/src/state-record.ts";
import { verifies } from "../requirements.ts";
import { RawHost, startServerHttp } from "../support/bin.ts";
import { ERAS, eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

const server = "shared-state";
const WAIT_MS = 50_000;
/** Cancellations that race with the release that is waited for. */
const RACES = process.env.SWARM_TEST_LONG ? 500 : 20;
/** While a follower comes back. */
const WRITES = 150;

interface Waited {
  changes: { key: string; rev: number; op: string; value?: unknown; oldValue?: unknown }[];
  revision: number;
  nextRev: number;
}

const line = (message: Record<string, unknown>) => `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`;
const cancel = (id: number) => line({ method: "notifications/cancelled", params: { requestId: id } });
const calling = (id: number, name: string, args: Record<string, unknown>) =>
  line({ id, method: "tools/call", params: { name, arguments: args } });

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  const storeOf = async (folder: { store: string }) =>
    engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));

  test("a wait for a key, a prefix or a subscription wakes on another process's write, whatever its client", async () => {
    verifies("STATE-05", "CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using writer = await Host.start({ server, store, agent: "writer" });
    await using serving = await startServerHttp(server, { SWARM_STORE: store });
    const waiters = [
      ...(await Promise.all(ERAS.map((era) => Host.start({ server, store, era, agent: `stdio-${era}` })))),
      ...(await Promise.all(ERAS.map((era) => Host.http(`${serving.url}/mcp`, { era, agent: `http-${era}` })))),
    ];
    try {
      for (const [at, waiter] of waiters.entries()) {
        const { subscription } = await waiter.call<{ subscription: { id: string } }>("subscribe_to_state_changes", { key: "k" });
        const waiting = [{ key: "k" }, { prefix: "k" }, { subscriptionId: subscription.id }].map((what) =>
          waiter.call<Waited>("wait_for_state", { ...what, waitMs: WAIT_MS }),
        );
        await waiter.call("list_state"); // the waiting calls are in the server's hands
        await writer.call("set_state", { key: "beside", value: at });
        await writer.call("set_state", { key: "k", value: at });
        for (const { changes } of await Promise.all(waiting)) expect(changes).toMatchObject([{ key: "k", value: at }]);
      }
    } finally {
      await Promise.all(waiters.map((waiter) => waiter.close()));
    }
  });

  test("a follower that fell behind the log is told so, and what the hint says brings it up to date without a gap", {
    timeout: 300_000,
  }, async () => {
    verifies("STATE-05");
    using folder = temporaryFolder();
    const url = await storeOf(folder);
    await using writer = await Host.start({ server, store: url, agent: "writer", env: { SWARM_DURABILITY: "normal" } });
    await using follower = await Host.start({ server, store: url, agent: "follower" });
    await writer.call("set_state", { key: "quiet", value: "as it was" });
    await writer.call("set_state", { key: "count", value: 0 });
    const { subscription } = await follower.call<{ subscription: { id: string } }>("subscribe_to_state_changes", { prefix: "" });
    // as if so many writes had been made since: the log begins anew behind them
    const space = { scope: "global" } as const;
    const revision = 2 + LOG_REVISIONS_MAX;
    const store = await openStore(url);
    await store.transact((tx) => {
      tx.put(keys.revision(space), revision);
      for (const rev of [1, 2]) tx.delete(keys.log(space, rev));
    });
    await store.close();
    for (let step = 0; step < 5; step++) await writer.call("patch_state", { key: "count", increment: 1 });

    for (const args of [{ prefix: "", sinceRev: 2 }, { subscriptionId: subscription.id }]) {
      const behind = await follower.try("wait_for_state", { ...args, waitMs: WAIT_MS });
      expect(behind.isError).toBe(true);
      expect(behind.text).toMatch(/^failed_precondition: The changes of global since revision 2 are no longer kept/);
      expect(behind.text).toMatch(/list_state.*go on waiting from the revision it answers/);
    }
    // of a key that was not written since, nothing is missing
    const unchanged = await follower.call<Waited>("wait_for_state", { key: "quiet", sinceRev: 2 });
    expect(unchanged).toMatchObject({ changes: [], nextRev: revision + 5 });

    // writes go on while it lists and comes back
    const writing = Promise.all(Array.from({ length: WRITES }, () => writer.call("patch_state", { key: "count", increment: 1 })));
    const listed = await follower.call<{ entries: { key: string; rev: number }[]; revision: number }>("list_state");
    await follower.call("acknowledge_state_changes", { subscriptionId: subscription.id, rev: listed.revision });
    // what it listed may be newer than the revision it goes on from, never older
    const shown = listed.entries.find(({ key }) => key === "count")?.rev ?? 0;
    expect(shown).toBeGreaterThanOrEqual(listed.revision);
    const last = revision + 5 + WRITES;
    const toCome = Array.from({ length: last - listed.revision }, (_, at) => listed.revision + 1 + at);
    for (const subscriptionId of [undefined, subscription.id]) {
      const seen: number[] = [];
      let nextRev = listed.revision;
      for (let turn = 0; nextRev < last && turn < WRITES; turn++) {
        const from = subscriptionId === undefined ? { prefix: "", sinceRev: nextRev } : { subscriptionId };
        const page = await follower.call<Waited>("wait_for_state", { ...from, waitMs: WAIT_MS });
        seen.push(...page.changes.map(({ rev }) => rev));
        ({ nextRev } = page);
        if (subscriptionId !== undefined) await follower.call("acknowledge_state_changes", { subscriptionId, rev: nextRev });
      }
      expect(seen).toEqual(toCome);
    }
    await writing;
  });

  test("a call for a lock that is given up as the lock comes free either is answered or leaves the lock to others", async () => {
    verifies("STATE-08", "CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using giver = await Host.start({ server, store, agent: "giver" });
    await using raw = new RawHost(server, { SWARM_STORE: store, SWARM_AGENT: "leaver", SWARM_LEASE_MS: "600000" });
    await raw.initialize();
    for (let race = 0; race < RACES; race++) {
      const id = 1_000 + race;
      const name = `lock-${race}`;
      await giver.call("acquire_lock", { name });
      raw.write(calling(id, "acquire_lock", { name, waitMs: WAIT_MS }));
      await raw.callText("list_locks", "{}");
      const releasing = giver.call("release_lock", { name });
      if (race % 3 === 1) await releasing;
      for (let turn = 0; turn < race % 5; turn++) await new Promise(setImmediate);
      raw.write(cancel(id));
      await releasing;
      await eventually(`race ${race}: the lock is with whoever was answered, or with nobody`, async () => {
        const { locks } = await giver.call<{ locks: { holders: { agentId: string }[]; waiting: number }[] }>("list_locks", {
          prefix: name,
        });
        const told = raw.messages.some((one) => one.id === id && one.result !== undefined && one.result.isError !== true);
        return told ? locks[0]?.holders[0]?.agentId === "leaver" : locks.length === 0;
      });
    }
  });

  test("waits that are given up leave no place in line, no candidate and no reservation", async () => {
    verifies("STATE-08", "STATE-10", "STATE-12", "CORE-10");
    using folder = temporaryFolder();
    const store = await storeOf(folder);
    await using holder = await Host.start({ server, store, agent: "holder" });
    await using leaver = await Host.start({ server, store, agent: "leaver" });
    await holder.call("acquire_lock", { name: "build" });
    await holder.call("elect_leader", { group: "build" });
    await holder.call("reserve_files", { globs: ["src/**"] });
    const stop = new AbortController();
    const waiting = [
      leaver.try("acquire_lock", { name: "build", waitMs: WAIT_MS }, { signal: stop.signal }),
      leaver.try("elect_leader", { group: "build", waitMs: WAIT_MS }, { signal: stop.signal }),
      leaver.try("reserve_files", { globs: ["src/a.ts"], waitMs: WAIT_MS }, { signal: stop.signal }),
    ].map((call) =>
      call.then(
        () => "answered",
        () => "given up",
      ),
    );
    const standing = async () => {
      const { locks } = await holder.call<{ locks: { waiting: number }[] }>("list_locks", { prefix: "build" });
      const { candidates } = await holder.call<{ candidates: unknown[] }>("get_leader", { group: "build" });
      return [locks[0]?.waiting, candidates.length];
    };
    await eventually("both wait", async () => (await standing()).join() === "1,1");
    stop.abort();
    expect(await Promise.all(waiting)).toEqual(["given up", "given up", "given up"]);
    await eventually("nobody waits", async () => (await standing()).join() === "0,0");
    await holder.call("release_lock", { name: "build" });
    await holder.call("resign_leader", { group: "build" });
    await holder.call("release_files", { all: true });
    await leaver.call("list_locks");
    expect(await holder.call("list_locks")).toMatchObject({ locks: [] });
    expect(await holder.call("get_leader", { group: "build" })).toMatchObject({ leader: null, candidates: [] });
    expect(await holder.call("list_reservations")).toMatchObject({ reservations: [] });
  });
});
