/** Runs once before the tests of a vitest run. What all test files share and no file may start for itself stands here. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { TEST_HOME } from "./home.ts";
import { startPostgres } from "./postgres.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A running PostgreSQL; take a database of your own with `freshDatabase(inject("postgresUrl"))`. */
    postgresUrl: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = mkdtempSync(join(tmpdir(), "mcp-swarm-home-"));
  process.env[TEST_HOME] = home; // the processes that run test files inherit it
  const postgres = await startPostgres();
  project.provide("postgresUrl", postgres.url());

  // The bins that end-to-end tests start are built by the step before the tests (scripts/tasks.mjs); a check that they are
  // there and fresh belongs here.

  return async () => {
    await postgres.stop();
    rmSync(home, { recursive: true, force: true });
  };
}
