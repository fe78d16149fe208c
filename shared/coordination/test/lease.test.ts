import { type ManualClock, manualClock, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { beforeEach, describe, expect, test } from "vitest";
import { HELD_LEASES_MAX, type HeldLease, type Holdings, LeaseKeeper, type LeaseKind } from "../src/index.ts";

const LEASE_MS = 9_000;
type Held = { token: number; expiresAt: number };

let clock: ManualClock;
let store: Store;
let errors: unknown[];
let lost: string[];
beforeEach(() => {
  clock = manualClock();
  store = new MemoryStore({ clock });
  errors = [];
  lost = [];
});

/** A domain as small as can be: `held/<id>` is who holds it and until when. */
const kind = (more: Partial<LeaseKind> = {}): LeaseKind => ({
  name: "test",
  renew(tx, lease, expiresAt) {
    const held = tx.get(`held/${lease.id}`)?.value as Held | undefined;
    if (held?.token !== lease.token || held.expiresAt <= tx.now) return false;
    tx.put(`held/${lease.id}`, { token: lease.token, expiresAt });
    return true;
  },
  release(tx, lease) {
    if ((tx.get(`held/${lease.id}`)?.value as Held | undefined)?.token === lease.token) tx.delete(`held/${lease.id}`);
  },
  onLost: (lease, because) => lost.push(`${lease.id} ${because}`),
  ...more,
});

function keeperOver(through: Store): LeaseKeeper {
  return new LeaseKeeper({ store: through, clock, leaseMs: LEASE_MS, onError: (error) => errors.push(error) });
}

async function take(holdings: Holdings, lease: HeldLease): Promise<void> {
  await store.transact((tx) => tx.put(`held/${lease.id}`, { token: lease.token, expiresAt: tx.now + LEASE_MS }));
  holdings.hold(lease);
}

const held = async (id: string) => (await store.get(`held/${id}`))?.value as Held | undefined;

/** The store, with a hook that may fail or delay each transaction. */
function hooked(before: (n: number) => Promise<void>): Store & { count: () => number } {
  let n = 0;
  return new Proxy(store, {
    get(target, name) {
      if (name === "count") return () => n;
      if (name !== "transact") return Reflect.get(target, name, target);
      return async <T>(plan: (tx: Transaction) => T) => {
        n++;
        await before(n);
        return target.transact(plan);
      };
    },
  }) as Store & { count: () => number };
}

describe("a lease keeper", () => {
  test("keeps all that is held alive for as long as the process lives, in one transaction each third of the lease", async () => {
    const counting = hooked(async () => {});
    const holdings = keeperOver(counting).keep(kind());
    for (let n = 0; n < 20; n++) await take(holdings, { id: `t${n}`, token: 1 });
    await clock.advance(10 * LEASE_MS);
    expect(counting.count()).toBe(30);
    for (let n = 0; n < 20; n++) expect((await held(`t${n}`))?.expiresAt).toBeGreaterThan(clock.now());
    expect(lost).toEqual([]);
  });

  test("a lease of a kind that lapses is lost when the store does not answer for as long as it lasts, and no sooner", async () => {
    let away = false;
    const silent = hooked(() => (away ? new Promise(() => {}) : Promise.resolve()));
    const keeper = keeperOver(silent);
    const lapsing = keeper.keep(kind({ lapses: true }));
    const patient = keeper.keep(kind({ name: "patient", onLost: () => lost.push("patient") }));
    await take(lapsing, { id: "a", token: 1 });
    await take(patient, { id: "b", token: 1 });
    await clock.advance(4 * LEASE_MS);
    expect(lost).toEqual([]);
    away = true;
    const end = (await held("a"))?.expiresAt ?? 0;
    await clock.advance(LEASE_MS - LEASE_MS / 3 - 1);
    expect(lost).toEqual([]);
    await clock.advance(LEASE_MS);
    expect(lost).toEqual(["a lapsed"]);
    expect(lapsing.list()).toEqual([]);
    expect(patient.list()).toEqual([{ id: "b", token: 1 }]);
    expect(clock.now()).toBeGreaterThan(end);
  });

  test("what is taken after a lapse lasts its own time", async () => {
    let away = false;
    const failing = hooked(async () => {
      if (away) throw new SwarmError("unavailable", "away");
    });
    const holdings = keeperOver(failing).keep(kind({ lapses: true }));
    away = true;
    await take(holdings, { id: "a", token: 1 });
    await clock.advance(LEASE_MS / 2);
    await take(holdings, { id: "b", token: 1 });
    await clock.advance(LEASE_MS / 2);
    expect(lost).toEqual(["a lapsed"]);
    await clock.advance(LEASE_MS / 2 - 1);
    expect(lost).toEqual(["a lapsed"]);
    await clock.advance(1);
    expect(lost).toEqual(["a lapsed", "b lapsed"]);
    expect(errors.length).toBeGreaterThan(2);
  });

  test("reports and drops what another has taken, and keeps the rest", async () => {
    const holdings = keeperOver(store).keep(kind());
    await take(holdings, { id: "a", token: 1 });
    await take(holdings, { id: "b", token: 1 });
    await store.transact((tx) => tx.put("held/a", { token: 2, expiresAt: tx.now + 10 * LEASE_MS }));
    await clock.advance(LEASE_MS);
    expect(lost).toEqual(["a taken"]);
    expect(holdings.list().map(({ id }) => id)).toEqual(["b"]);
    expect(await held("a")).toMatchObject({ token: 2 });
  });

  test("a process that slept past its leases finds them lost and writes nothing over the next holder", async () => {
    const holdings = keeperOver(store).keep(kind());
    await take(holdings, { id: "a", token: 1 });
    const paused = manualClock(clock.now() + 2 * LEASE_MS);
    const other = new MemoryStore({ clock: paused });
    await other.transact((tx) => tx.put("held/a", { token: 2, expiresAt: tx.now + LEASE_MS }));
    store.transact = (plan) => other.transact(plan);
    await clock.advance(LEASE_MS);
    expect(lost).toEqual(["a taken"]);
    expect((await other.get("held/a"))?.value).toMatchObject({ token: 2 });
  });

  test("never renews past a lease's own deadline, and then lets go", async () => {
    const holdings = keeperOver(store).keep(kind());
    const deadlineAt = clock.now() + 2 * LEASE_MS + 10;
    await take(holdings, { id: "a", token: 1, deadlineAt });
    await clock.advance(2 * LEASE_MS);
    expect((await held("a"))?.expiresAt).toBe(deadlineAt);
    expect(lost).toEqual([]);
    await clock.advance(LEASE_MS);
    expect((await held("a"))?.expiresAt).toBe(deadlineAt);
    expect(lost).toEqual(["a deadline"]);
    expect(holdings.list()).toEqual([]);
  });

  test("a renewal that fails is reported and tried again before the lease ends", async () => {
    const flaky = hooked(async (n) => {
      if (n <= 3) throw new SwarmError("unavailable", "The store cannot be reached.");
    });
    const holdings = keeperOver(flaky).keep(kind());
    await take(holdings, { id: "a", token: 1 });
    await clock.advance(3 * LEASE_MS);
    expect(errors).toHaveLength(3);
    expect(lost).toEqual([]);
    expect((await held("a"))?.expiresAt).toBeGreaterThan(clock.now());
  });

  test("one lease that cannot be renewed does not cost the others theirs", async () => {
    const plain = kind();
    const holdings = keeperOver(store).keep({
      ...plain,
      renew(tx, lease, expiresAt) {
        if (lease.id === "bad") throw new SwarmError("internal", "A row fails its checksum.");
        return plain.renew(tx, lease, expiresAt);
      },
    });
    for (const id of ["a", "bad", "b"]) await take(holdings, { id, token: 1 });
    await clock.advance(2 * LEASE_MS);
    expect((await held("a"))?.expiresAt).toBeGreaterThan(clock.now());
    expect((await held("b"))?.expiresAt).toBeGreaterThan(clock.now());
    expect(errors.length).toBeGreaterThan(0);
  });

  test("what is dropped or held anew while a renewal is under way is not reported lost", async () => {
    let letGo = () => {};
    const slow = hooked(() => new Promise((resolve) => (letGo = resolve)));
    const holdings = keeperOver(slow).keep(kind());
    await take(holdings, { id: "dropped", token: 1 });
    await take(holdings, { id: "again", token: 1 });
    await clock.advance(LEASE_MS / 3); // the renewal waits inside the store
    await store.transact((tx) => {
      tx.delete("held/dropped");
      tx.put("held/again", { token: 2, expiresAt: tx.now + LEASE_MS });
    });
    holdings.drop("dropped", 1);
    holdings.hold({ id: "again", token: 2 });
    letGo();
    await clock.advance(0);
    expect(lost).toEqual([]);
    expect(holdings.get("again")).toEqual({ id: "again", token: 2 });
    await clock.advance(LEASE_MS / 3);
    letGo();
    await clock.advance(0);
    expect((await held("again"))?.expiresAt).toBe(clock.now() + LEASE_MS);
  });

  test("dropping needs the token of the holding that ended", async () => {
    const holdings = keeperOver(store).keep(kind());
    await take(holdings, { id: "a", token: 2 });
    holdings.drop("a", 1);
    expect(holdings.get("a")).toBeDefined();
    holdings.drop("a", 2);
    expect(holdings.get("a")).toBeUndefined();
  });

  test("nothing held costs nothing", async () => {
    const counting = hooked(async () => {});
    const holdings = keeperOver(counting).keep(kind());
    await take(holdings, { id: "a", token: 1 });
    holdings.drop("a");
    await clock.advance(10 * LEASE_MS);
    expect(counting.count()).toBe(0);
  });

  test("a clean end gives everything back, waits for the renewal under way and holds nothing after", async () => {
    const keeper = keeperOver(store);
    const holdings = keeper.keep(kind());
    const others = keeper.keep(kind({ name: "other" }));
    for (let n = 0; n < 150; n++) await take(holdings, { id: `t${n}`, token: 1 });
    await take(others, { id: "o", token: 1 });
    await store.transact((tx) => tx.put("held/t7", { token: 2, expiresAt: tx.now + LEASE_MS }));
    await keeper.releaseAll();
    for (let n = 0; n < 150; n++) expect(await held(`t${n}`)).toEqual(n === 7 ? expect.anything() : undefined);
    expect(await held("o")).toBeUndefined();
    expect(() => holdings.hold({ id: "late", token: 1 })).toThrow(expect.objectContaining({ code: "unavailable" }));
    await clock.advance(LEASE_MS);
    expect(errors).toEqual([]);
  });

  test("what cannot be given back is reported and does not keep the process", async () => {
    const down = hooked(async () => {
      throw new SwarmError("unavailable", "The store cannot be reached.");
    });
    const keeper = keeperOver(down);
    const holdings = keeper.keep(kind());
    await take(holdings, { id: "a", token: 1 });
    await keeper.releaseAll();
    expect(errors).toHaveLength(1);
  });

  test("holds no more than its bound", async () => {
    const holdings = keeperOver(store).keep(kind());
    for (let n = 0; n < HELD_LEASES_MAX; n++) holdings.hold({ id: `t${n}`, token: 1 });
    holdings.hold({ id: "t0", token: 2 });
    expect(() => holdings.hold({ id: "more", token: 1 })).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
  });
});
