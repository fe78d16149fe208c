import KeyvPostgres from "@keyv/postgres";
import { type Json, seededRandom } from "@mcp-swarm/core";
import { type Entry, openStore, prefixRange, type Store } from "@mcp-swarm/store";
import { Keyv } from "keyv";
import pg from "pg";
import { afterEach, beforeAll, describe, expect, inject, it, vi } from "vitest";
import type { PostgresStore } from "../../shared/store/src/postgres.ts";
import { verifies } from "../requirements.ts";
import { freshDatabase, startPostgres } from "../support/postgres.ts";
import { startProxy, type Verdict } from "../support/tcp-proxy.ts";
import { runWorkers } from "./workers.ts";

let database = "";
let places = 0;
const undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  database = await freshDatabase(inject("postgresUrl"));
});
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

const freshPlace = () => `${database}?schema=fault_${++places}`;

async function open(url: string): Promise<Store> {
  const store = await openStore(url);
  undo.push(() => store.close());
  return store;
}

/** A plain connection of an administrator. */
async function admin(url: string): Promise<pg.Client> {
  const parsed = new URL(url);
  const schema = parsed.searchParams.get("schema");
  parsed.search = "";
  const client = new pg.Client({ connectionString: parsed.href });
  client.on("error", () => {}); // the server restarts in some tests
  await client.connect();
  if (schema) await client.query(`SET search_path = ${schema}`);
  undo.push(() => client.end());
  return client;
}

function through(url: string, port: number): string {
  const parsed = new URL(url);
  parsed.port = String(port);
  return parsed.href;
}

const number = (entry: Entry | undefined) => Number(entry?.value ?? 0);

/** Adds one to a counter that all share, and leaves a mark that can be left once. Answers the number. */
async function step(store: Store, id: string): Promise<number> {
  return await store.transact((tx) => {
    const next = number(tx.get("load/counter")) + 1;
    tx.put("load/counter", next);
    tx.put(`mark/${String(next).padStart(6, "0")}`, id);
    return next;
  });
}

/** All marks, which must be the acknowledged steps: none lost, none twice. */
async function marks(store: Store): Promise<Json[]> {
  const found: Json[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange("mark/", 1_000, after === undefined ? {} : { after }));
    found.push(...page.map(({ value }) => value));
    if (page.length < 1_000) return found;
    after = page.at(-1)?.key;
  }
}

/** Steps through several stores at once, until `over`; answers how many were acknowledged. */
async function load(stores: readonly Store[], over: () => boolean): Promise<string[]> {
  const acknowledged: string[] = [];
  await Promise.all(
    stores.flatMap((store, at) =>
      [0, 1].map(async (lane) => {
        for (let i = 0; !over(); i++) {
          const id = `${at}-${lane}-${i}`;
          await step(store, id);
          acknowledged.push(id);
        }
      }),
    ),
  );
  return acknowledged;
}

async function expectExactly(store: Store, acknowledged: readonly string[]): Promise<void> {
  const left = await marks(store);
  expect(left.toSorted()).toEqual(acknowledged.toSorted());
  expect(number(await store.get("load/counter"))).toBe(acknowledged.length);
}

describe("the PostgreSQL engine under faults", () => {
  it("loses and doubles nothing when the server restarts and crashes under load, and no caller sees it", async () => {
    verifies("CORE-09");
    const server = await startPostgres();
    undo.push(() => server.stop());
    const stores = [await open(server.url()), await open(server.url())];
    let over = false;
    const loading = load(stores, () => over);
    for (const how of ["fast", "crash", "fast"] as const) {
      const before = number(await stores[0]?.get("load/counter"));
      await vi.waitFor(async () => expect(number(await stores[1]?.get("load/counter"))).toBeGreaterThan(before + 50), {
        timeout: 20_000,
      });
      await server.restart(how);
    }
    over = true;
    const acknowledged = await loading;
    await expectExactly(stores[0] as Store, acknowledged);
  });

  it("loses and doubles nothing when connections are ended by the server under load", async () => {
    const url = freshPlace();
    const stores = [await open(url), await open(url)];
    const killer = await admin(url);
    let over = false;
    const loading = load(stores, () => over);
    let ended = 0;
    for (let round = 0; round < 20; round++) {
      const before = number(await stores[0]?.get("load/counter"));
      await vi.waitFor(async () => expect(number(await stores[1]?.get("load/counter"))).toBeGreaterThan(before + 5), {
        timeout: 20_000,
        interval: 5,
      });
      const { rows } = await killer.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mcp-swarm'",
      );
      ended += rows.length;
    }
    over = true;
    await expectExactly(stores[0] as Store, await loading);
    expect(ended).toBeGreaterThan(20);
  });

  it("knows after a lost answer whether the commit took place, while others write the same entries", async () => {
    verifies("CORE-09");
    const url = freshPlace();
    const direct = await open(url);
    const random = seededRandom(7);
    const proxy = await startProxy(Number(new URL(url).port), (pass): Verdict => {
      if (!pass.includes("mcp_swarm_commit") || random.integer(5) > 0) return { pass };
      return { cut: random.integer(3) === 0 ? "before" : "after", pass };
    });
    undo.push(() => proxy.close());
    const cut = await open(through(url, proxy.port));
    const acknowledged = await load([cut, direct], () => proxy.cuts >= 60);
    await expectExactly(direct, acknowledged);
  });

  it("gives each of 8 processes its turn at one key", async () => {
    const url = freshPlace();
    await open(url);
    const got = await runWorkers<number[]>(url, "number", 8, 60);
    expect(got.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: 480 }, (_, i) => i + 1));
    // what each had when the first one was done
    const firstDone = Math.min(...got.map((numbers) => numbers.at(-1) ?? 0));
    const slowest = Math.min(...got.map((numbers) => numbers.filter((n) => n <= firstDone).length));
    expect(slowest).toBeGreaterThanOrEqual(60 * 0.3);
  });

  it("shares the few connections that a server has among many stores", async () => {
    const server = await startPostgres({ max_connections: "12", superuser_reserved_connections: "0", autovacuum: "off" });
    undo.push(() => server.stop());
    const stores: Store[] = [];
    for (let i = 0; i < 8; i++) stores.push(await open(server.url()));
    await Promise.all(
      stores.flatMap((store, at) =>
        Array.from({ length: 16 }, (_, i) => store.transact((tx) => tx.put(`many/${at}/${i}`, tx.get("many/none")?.value ?? i))),
      ),
    );
    expect(await stores[0]?.scan(prefixRange("many/", 1_000))).toHaveLength(8 * 16);
  });

  it("refuses what is under way and lets go when it is closed while the server is away", async () => {
    const server = await startPostgres();
    undo.push(() => server.stop());
    const store = await open(server.url());
    using _watching = store.watch("gone/", () => {});
    await step(store, "before");
    await server.stop();
    const under = expect(step(store, "after")).rejects.toMatchObject({ code: "unavailable" });
    const closed = store.close().then(() => "closed");
    await under;
    expect(await closed).toBe("closed");
    await expect(store.get("load/counter")).rejects.toMatchObject({ code: "unavailable" });
  }, 10_000);

  it("says that the server's disk is full, and writes nothing", async () => {
    const url = freshPlace();
    const store = await open(url);
    const client = await admin(url);
    await client.query(`
      CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '53100'; END $$;
      CREATE TRIGGER full_disk BEFORE INSERT ON keyv FOR EACH ROW WHEN (NEW.key = 'big') EXECUTE FUNCTION full_disk()`);
    const writing = store.transact((tx) => {
      tx.put("disk/small", 1);
      tx.put("disk/big", 1);
    });
    await expect(writing).rejects.toMatchObject({ code: "limit_exceeded", message: expect.stringContaining("disk") });
    expect(await store.scan(prefixRange("disk/", 10))).toEqual([]);
    await store.transact((tx) => tx.put("disk/small", 2));
    expect((await store.get("disk/small"))?.value).toBe(2);
  });
});

describe("the PostgreSQL engine behind a transaction pooler", () => {
  it("wakes watchers of other stores by polling when the URL names the pooler, and keeps no named statement", async () => {
    const url = `${freshPlace()}&pooler=transaction`;
    const [here, there] = [await open(url), await open(url)];
    await wakes(here, there);
    expect((there as PostgresStore).watchMode).toBe("poll");
    const client = await admin(url);
    const { rows } = await client.query(
      "SELECT query FROM pg_stat_activity WHERE query LIKE 'LISTEN%mcp_swarm_fault_' || $1 || '%'",
      [places],
    );
    expect(rows).toEqual([]);
  });

  it("finds out that LISTEN does not work, and polls", async () => {
    const url = freshPlace();
    const proxy = await startProxy(Number(new URL(url).port), (chunk) => ({
      pass: replaced(chunk, 'LISTEN "mcp_swarm', "SELECT 1 --"),
    }));
    undo.push(() => proxy.close());
    const [here, there] = [await open(url), await open(through(url, proxy.port))];
    await wakes(here, there);
    await vi.waitFor(() => expect((there as PostgresStore).watchMode).toBe("poll"), { timeout: 10_000 });
    await wakes(here, there);
  });

  it("listens where that works", async () => {
    const url = freshPlace();
    const [here, there] = [await open(url), await open(url)];
    await wakes(here, there);
    expect((there as PostgresStore).watchMode).toBe("listen");
  });

  it("goes on without named statements when one is lost", async () => {
    const url = freshPlace();
    let lost = 0;
    const proxy = await startProxy(Number(new URL(url).port), (chunk) => {
      const bind = chunk[0] === 0x42; // the statement was prepared by an earlier message
      if (!bind || !chunk.includes("mcp_swarm_commit\0")) return { pass: chunk };
      lost += 1;
      return { pass: replaced(chunk, "mcp_swarm_commit\0", "mcp_swarm_elsewh\0") };
    });
    undo.push(() => proxy.close());
    const store = await open(through(url, proxy.port));
    for (let i = 0; i < 10; i++) await step(store, String(i));
    expect(lost).toBe(1);
    await expectExactly(
      store,
      Array.from({ length: 10 }, (_, i) => String(i)),
    );
  });
});

/** A text replaced by one of the same length, filled up with blanks. */
function replaced(chunk: Buffer, from: string, to: string): Buffer {
  const at = chunk.indexOf(from);
  if (at < 0) return chunk;
  const copy = Buffer.from(chunk);
  copy.write(to.padEnd(from.length), at);
  return copy;
}

async function wakes(here: Store, there: Store): Promise<void> {
  let woken = 0;
  using _watching = there.watch("wake/", () => {
    woken += 1;
  });
  // the first watch of a store wakes once when it has begun: that must not be taken for the commit's wake
  if ((there as PostgresStore).watchMode === undefined)
    await vi.waitFor(() => expect(woken).toBeGreaterThan(0), { timeout: 10_000 });
  const before = woken;
  await here.transact((tx) => tx.put("wake/up", before));
  await vi.waitFor(() => expect(woken).toBeGreaterThan(before), { timeout: 10_000 });
}

describe("opening a PostgreSQL database", () => {
  it("says in one sentence where it cannot connect, and never shows the password", async () => {
    const url = new URL(database);
    const cases: [string, RegExp][] = [
      [through(database, 1), /cannot be reached: postgres:\/\/127\.0\.0\.1:1\//],
      [Object.assign(new URL(url), { password: "not-the-secret" }).href, /does not accept the user or the password/],
      [Object.assign(new URL(url), { pathname: "/none" }).href, /no such database: postgres:\/\/127\.0\.0\.1:\d+\/none/],
    ];
    for (const [wrong, message] of cases) {
      const error = await openStore(wrong).then(
        () => undefined,
        (thrown: unknown) => thrown as Error & { hint: string },
      );
      expect(error).toMatchObject({ code: "unavailable", message: expect.stringMatching(message) });
      expect(`${error?.message} ${error?.hint}`).not.toMatch(/secret|password=|test-password/);
    }
  });

  it.each(["postgres://x/y?schema=Bad-Name", "postgres://x/y?pooler=session"])("refuses the options of %s", async (url) => {
    await expect(openStore(url)).rejects.toMatchObject({ code: "invalid_argument" });
  });

  it("makes nothing again in a database that is set up", async () => {
    const url = freshPlace();
    await open(url);
    const client = await admin(url);
    const made = async () =>
      (await client.query("SELECT oid, xmin FROM pg_class WHERE relnamespace = current_schema()::regnamespace ORDER BY oid"))
        .rows;
    const before = await made();
    const second = await open(url);
    await second.transact((tx) => tx.put("a/b", 1));
    expect(await made()).toEqual(before);
  });

  it("takes over a table that Keyv's own adapter has made, with its rows", async () => {
    const url = freshPlace();
    const client = await admin(url);
    const schema = new URL(url).searchParams.get("schema");
    await client.query(`CREATE SCHEMA ${schema}`);
    await client.query(`
      CREATE TABLE keyv (key VARCHAR(255) NOT NULL, value TEXT, namespace VARCHAR(255) DEFAULT NULL, expires BIGINT DEFAULT NULL);
      CREATE UNIQUE INDEX keyv_key_namespace_idx ON keyv (key, COALESCE(namespace, ''));
      INSERT INTO keyv VALUES ('b', '{"value":"theirs"}', 'old'), ('plain', '{"value":1}', NULL)`);
    const store = await open(url);
    expect((await store.get("old/b"))?.value).toBe("theirs");
    await store.transact((tx) => tx.put("old/b", "ours"));
    expect(await store.keyv("old").get("b")).toBe("ours");
    // the statement with which the adapter writes
    await client.query(`INSERT INTO keyv (key, value, namespace, expires) VALUES ('c', '{"value":2}', NULL, NULL), ('b', '{"value":"again"}', 'old', NULL)
      ON CONFLICT (key, COALESCE(namespace, '')) DO UPDATE SET value = excluded.value, expires = excluded.expires`);
    expect((await store.get("old/b"))?.value).toBe("again");
  });
});

describe("rows that others write in PostgreSQL", () => {
  it("have a new revision, so that no transaction commits on what they replaced", async () => {
    const url = freshPlace();
    const store = await open(url);
    const client = await admin(url);
    await store.transact((tx) => tx.put("foreign/a", "ours"));
    const before = await store.get("foreign/a");
    await client.query(`UPDATE keyv SET value = '{"value":"theirs"}' WHERE namespace = 'foreign'`);
    const after = await store.get("foreign/a");
    expect(after?.value).toBe("theirs");
    expect(after?.rev).not.toBe(before?.rev);
    // the store's own last write is its first guess of what is there; the commit must not believe it
    await store.transact((tx) => tx.put("foreign/a", `${tx.get("foreign/a")?.value} and ours`));
    expect((await store.get("foreign/a"))?.value).toBe("theirs and ours");
  });

  it("can be read and written by a plain Keyv on Keyv's own adapter, which changes the table at each start", async () => {
    const url = freshPlace();
    const store = await open(url);
    await store.transact((tx) => {
      tx.put("plain/a", { from: "us" });
      tx.put("plain/gone", 1, { ttlMs: 0 });
    });
    const schema = new URL(url).searchParams.get("schema") ?? "";
    const adapter = new KeyvPostgres({ uri: url.replace(/\?.*/, ""), schema });
    const plain = new Keyv({ store: adapter, namespace: "plain" });
    undo.push(() => plain.disconnect());
    expect(await plain.get("a")).toEqual({ from: "us" });
    expect(await plain.get("gone")).toBeUndefined();
    await plain.set("a", { from: "them" });
    await plain.set("b", "new");
    expect(await store.transact((tx) => [tx.get("plain/a")?.value, tx.get("plain/b")?.value])).toEqual([{ from: "them" }, "new"]);
    await store.transact((tx) => tx.put("plain/b", "ours"));
    expect(await plain.get("b")).toBe("ours");
    const client = await admin(url);
    const { rows } = await client.query(
      "SELECT 1 FROM pg_constraint WHERE conname = 'keyv_order' AND conrelid = 'keyv'::regclass",
    );
    expect(rows).toHaveLength(1); // the order that scans and picks live on is still there
  });

  it("are refused when they were changed behind the checksum", async () => {
    const url = freshPlace();
    const store = await open(url);
    const client = await admin(url);
    await store.transact((tx) => tx.put("damage/a", "right"));
    await client.query(`UPDATE keyv SET value = '{"value":"wrong"}', rev = rev - 1 WHERE namespace = 'damage'`);
    await expect(store.get("damage/a")).rejects.toMatchObject({ code: "internal", message: expect.stringContaining("damage/a") });
  });

  it("cannot be written by a program that is too old for the format", async () => {
    const url = freshPlace();
    const store = await open(url);
    const client = await admin(url);
    await client.query(`UPDATE keyv SET value = '{"value":{"reader":1,"writer":2}}' WHERE namespace = 'meta' AND key = 'format'`);
    await expect(store.transact((tx) => tx.put("format/a", 1))).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(openStore(url)).rejects.toMatchObject({ code: "failed_precondition" });
  });
});
