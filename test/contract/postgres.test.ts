import { openStore, ordered, type Store, searchable } from "@mcp-swarm/store";
import pg from "pg";
import { describe, expect, inject, it } from "vitest";
import { check, copyStore } from "../../shared/store/src/commands.ts";
import { MemoryStore } from "../../shared/store/src/memory.ts";
import { freshDatabase } from "../support/postgres.ts";
import { contractSuite, type Place } from "./suite.ts";

const database = await freshDatabase(inject("postgresUrl"));
let places = 0;

/** A schema of its own in one database: a new database takes ten times as long. */
async function makePlace(): Promise<Place> {
  const url = `${database}?schema=place_${++places}`;
  const opened: Store[] = [];
  return {
    url,
    async open() {
      const store = await openStore(url);
      opened.push(store);
      return store;
    },
    async dispose() {
      for (const store of opened) await store.close();
    },
  };
}

contractSuite("PostgreSQL", makePlace, { processes: true });

describe("the index of words in PostgreSQL", () => {
  const text = (name: string, words: string) => [`text/${ordered(1_000)}-${name}`, searchable(words, ["all"])] as const;
  const find = async (store: Store, words: string) =>
    (await store.search({ text: words, scopes: ["all"], limit: 100 })).map(({ key }) => key.split("-")[1]);
  const query = async (sql: string) => {
    const client = new pg.Client({ connectionString: database });
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  };

  it("comes to a database of a version that had none, with what is in it, without a new format", async () => {
    const place = await makePlace();
    const store = await place.open();
    await store.transact((tx) => {
      tx.put(...text("a", "from before"));
      tx.put(`text/${ordered(1_000)}-junk`, "no text");
    });
    await query(`DROP TABLE place_${places}.mcp_swarm_text`);
    const opened = await Promise.all(Array.from({ length: 4 }, () => place.open()));
    for (const one of opened) expect(await find(one, "before")).toEqual(["a"]);
    expect((await check(place.url ?? "")).problemCount).toBe(0);
    await place.dispose();
  });

  it("is in step with what any program writes, and after a copy from another engine", async () => {
    const place = await makePlace();
    const source = new MemoryStore();
    await source.transact((tx) => {
      for (const name of ["kept", "changed", "gone"]) tx.put(...text(name, "ours"));
    });
    const store = await place.open();
    await copyStore(source, store);
    const table = `place_${places}.keyv`;
    const theirs = JSON.stringify({ value: searchable("theirs", ["all"]) });
    await query(`UPDATE ${table} SET value = '${theirs}' WHERE key LIKE '%changed'`);
    await query(`DELETE FROM ${table} WHERE key LIKE '%gone'`);
    await query(
      `INSERT INTO ${table} (namespace, key, value) VALUES ('text', '${ordered(1_000)}-new', '${theirs}'), ('text', '${ordered(1_000)}-junk', '{')`,
    );
    expect(await find(store, "ours")).toEqual(["kept"]);
    expect(await find(store, "theirs")).toEqual(["new", "changed"]);
    await query(`UPDATE ${table} SET namespace = 'other' WHERE key LIKE '%new'`);
    expect(await find(store, "theirs")).toEqual(["changed"]);
    expect(
      await query(`SELECT coalesce(t.key, k.key) AS key FROM place_${places}.mcp_swarm_text t
        FULL JOIN (SELECT key FROM ${table} WHERE namespace = 'text') k ON k.key = t.key WHERE t.key IS NULL OR k.key IS NULL`),
    ).toEqual([{ key: `${ordered(1_000)}-junk` }]);
    await place.dispose();
  });
});
