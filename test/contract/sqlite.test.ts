import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore, type Store } from "@mcp-swarm/store";
import { contractSuite, type Place } from "./suite.ts";

async function makePlace(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "swarm-store-"));
  const url = `sqlite:${join(folder, "data", "swarm.db")}`;
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
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

contractSuite("SQLite", makePlace, { processes: true });
