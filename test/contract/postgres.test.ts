import { openStore, type Store } from "@mcp-swarm/store";
import { inject } from "vitest";
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
