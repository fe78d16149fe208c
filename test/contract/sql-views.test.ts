/** Views over the rows of a store: made once for each version, and in nobody's way. */
import { DatabaseSync } from "node:sqlite";
import { openStore, type SqlView, type SqlViews } from "@mcp-swarm/store";
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

interface Database extends Disposable {
  readonly store: string;
  /** Runs statements as the owner of the database; answers the rows of the last. */
  sql(text: string): Promise<Record<string, unknown>[]>;
}

const DATABASES: { name: string; make: () => Promise<Database> }[] = [
  {
    name: "SQLite",
    make: async () => {
      const folder = temporaryFolder();
      const path = folder.store.slice("sqlite:".length);
      const sql = async (text: string) => {
        const db = new DatabaseSync(path, { timeout: 5_000 });
        try {
          return db.prepare(text).all();
        } finally {
          db.close();
        }
      };
      return { store: folder.store, sql, [Symbol.dispose]: () => folder[Symbol.dispose]() };
    },
  },
  {
    name: "PostgreSQL",
    make: async () => {
      const store = await freshDatabase(inject("postgresUrl"));
      const sql = async (text: string) => {
        const client = new pg.Client({ connectionString: store });
        await client.connect();
        try {
          return (await client.query<Record<string, unknown>>(text)).rows;
        } finally {
          await client.end();
        }
      };
      return { store, sql, [Symbol.dispose]: () => {} };
    },
  },
];

/** A view of one column that tells the version, and how often its text was asked for. */
function counted(version: number): SqlViews & { loads: number; errors: unknown[] } {
  const text = `SELECT '${version}' AS version, count(*) AS n FROM keyv WHERE namespace = 'x'`;
  const view: SqlView = { name: "told", sqlite: text, postgres: text };
  const views = {
    names: ["told"],
    version,
    loads: 0,
    errors: [] as unknown[],
    load: async () => {
      views.loads += 1;
      return [view];
    },
    onError: (error: unknown) => void views.errors.push(error),
  };
  return views;
}

describe.each(DATABASES)("SQL views on $name", ({ make }) => {
  verifies("STATE-14");

  test("are made when the store is new, and not again when it is opened", async () => {
    using database = await make();
    const first = counted(1);
    const store = await openStore(database.store, { views: first });
    await store.transact((tx) => tx.put("x/a", 1));
    expect(await database.sql("SELECT * FROM told")).toMatchObject([{ version: "1" }]);
    const again = counted(1);
    await (await openStore(database.store, { views: again })).close();
    await store.close();
    expect([first.loads, again.loads, first.errors, again.errors]).toEqual([1, 0, [], []]);
  });

  test("follow the newest version that opened the store, whichever opens it next", async () => {
    using database = await make();
    await (await openStore(database.store, { views: counted(1) })).close();
    const newer = counted(2);
    const store = await openStore(database.store, { views: newer });
    await eventually("the newer text", async () => (await database.sql("SELECT * FROM told"))[0]?.version === "2");
    const older = counted(1);
    await (await openStore(database.store, { views: older })).close();
    expect(older.loads).toBe(0);
    expect(await database.sql("SELECT * FROM told")).toMatchObject([{ version: "2" }]);
    await store.close();
  });

  test("come to a store that was made without them", async () => {
    using database = await make();
    await (await openStore(database.store)).close();
    const store = await openStore(database.store, { views: counted(1) });
    await eventually("the view", async () => {
      try {
        return (await database.sql("SELECT * FROM told"))[0]?.version === "1";
      } catch {
        return false; // not there yet
      }
    });
    await store.close();
  });

  test("are made once when many open a new store at the same moment", async () => {
    using database = await make();
    const all = Array.from({ length: 6 }, () => counted(1));
    const stores = await Promise.all(all.map((views) => openStore(database.store, { views })));
    expect(await database.sql("SELECT * FROM told")).toMatchObject([{ version: "1" }]);
    for (const store of stores) await store.close();
    expect(all.flatMap(({ errors }) => errors)).toEqual([]);
  });

  test("that cannot be made, because a table has the name, are told of, and the store works", async () => {
    using database = await make();
    await (await openStore(database.store)).close();
    await database.sql("CREATE TABLE told (mine INTEGER)");
    const views = counted(1);
    const store = await openStore(database.store, { views });
    await eventually("the error", () => views.errors.length === 1);
    expect(views.errors[0]).toMatchObject({ code: "failed_precondition", message: expect.stringContaining("told") });
    await store.transact((tx) => tx.put("x/a", 1));
    expect((await store.get("x/a"))?.value).toBe(1);
    expect(await database.sql("SELECT mine FROM told")).toEqual([]);
    await store.close();
  });
});
