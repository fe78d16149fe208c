/** The guide's SQL file on a database whose roles are made like Supabase's. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, ROOT } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";

const FILE = readFileSync(join(ROOT, "docs", "guides", "supabase", "read-only-api.sql"), "utf8");
const API_ROLES = ["anon", "authenticated", "service_role"] as const;
const REFUSED = "42501";

/** Roles belong to the whole server, so another test may have made them. */
const ROLES = `DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'anon') THEN CREATE ROLE anon NOLOGIN NOINHERIT; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authenticated') THEN CREATE ROLE authenticated NOLOGIN NOINHERIT; END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'service_role') THEN CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS; END IF;
END $do$`;

/** What Supabase gives its API roles in `public`, here in the schema of the store. */
const generous = (schema: string): string => `CREATE SCHEMA IF NOT EXISTS ${schema};
  GRANT USAGE ON SCHEMA ${schema} TO ${API_ROLES.join(", ")};
  ALTER DEFAULT PRIVILEGES IN SCHEMA ${schema} GRANT ALL ON TABLES TO ${API_ROLES.join(", ")};
  ALTER DEFAULT PRIVILEGES IN SCHEMA ${schema} GRANT ALL ON FUNCTIONS TO ${API_ROLES.join(", ")};
  CREATE PUBLICATION supabase_realtime;`;

/** The code with which PostgreSQL refuses a statement; undefined when it does not. */
async function refusal(client: pg.Client, sql: string): Promise<string | undefined> {
  try {
    await client.query(sql);
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

describe.each(["swarm", "public"])("the Supabase guide's file for a store in the schema %s", (schema) => {
  verifies("STATE-14");

  test("lets the API roles read the two views and nothing else, write nothing, and the servers work on", async () => {
    const url = await freshDatabase(inject("postgresUrl"));
    const store = schema === "public" ? url : `${url}?schema=${schema}`;
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      await client.query(ROLES);
      await client.query(generous(schema));
      await using tasks = await Host.start({ store, agent: "ann" });
      await using comm = await Host.start({ server: "agent-comm", store, agent: "ann" });
      await using state = await Host.start({ server: "shared-state", store, agent: "ann" });
      await tasks.call("add_task", { id: "one", description: "Do it" });
      await comm.call("send_message", { targetAgent: "ben", messageType: "note", payload: "Secret", mailbox: true });
      await state.call("set_state", { key: "plan", value: "Secret" });

      const file = FILE.replaceAll("swarm.", `${schema}.`)
        .replaceAll("'swarm'", `'${schema}'`)
        .replaceAll("SCHEMA swarm", `SCHEMA ${schema}`);
      await client.query(file);
      await client.query(file); // it may run again

      await tasks.call("claim_task", { taskId: "one" });
      await tasks.call("update_task", { taskId: "one", status: "done", output: "Done" });
      await using later = await Host.start({ store, agent: "cid" });
      await later.call("add_task", { id: "two", description: "More" });

      for (const role of API_ROLES) {
        await client.query(`SET ROLE ${role}`);
        const { rows } = await client.query(`SELECT task_id, status, results FROM ${schema}.task_distribution ORDER BY 1`);
        expect(rows).toEqual([
          { task_id: "one", status: "done", results: "Done" },
          { task_id: "two", status: "available", results: null },
        ]);
        const agents = await client.query(`SELECT id, status FROM ${schema}.agent_coordination ORDER BY 1`);
        expect(agents.rows).toMatchObject([{ id: "ann", status: "online" }, { id: "cid" }]);
        for (const sql of [
          `INSERT INTO ${schema}.keyv (namespace, key, value) VALUES ('task', 'x', '{}')`,
          `UPDATE ${schema}.keyv SET value = '{}'`,
          `DELETE FROM ${schema}.keyv`,
          `TRUNCATE ${schema}.keyv`,
          `DELETE FROM ${schema}.task_distribution`,
          `UPDATE ${schema}.agent_coordination SET status = 'x'`,
          `SELECT * FROM ${schema}.mcp_swarm_text`,
          `SELECT * FROM ${schema}.mcp_swarm_session`,
          `SELECT ${schema}.mcp_swarm_lock_v1(1, '{1}', '{true}', true)`,
        ]) {
          // a view that joins cannot be written whoever asks
          expect([REFUSED, "55000"], `${role}: ${sql}`).toContain(await refusal(client, sql));
        }
        // service_role passes by row-level security, as on Supabase: it is for the project's own servers
        const seen = await client.query(`SELECT DISTINCT namespace FROM ${schema}.keyv ORDER BY 1`);
        const namespaces = seen.rows.map(({ namespace }) => namespace);
        if (role === "service_role") expect(namespaces).toContain("msg");
        else expect(namespaces).toEqual(["presence", "task"]);
        await client.query("RESET ROLE");
      }
      const published = await client.query(
        "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime'",
      );
      expect(published.rows).toEqual([{ schemaname: schema, tablename: "keyv" }]);
      await tasks.call("add_task", { id: "three", description: "Published too" });
      expect((await tasks.call<{ task: { status: string } }>("get_task", { taskId: "three" })).task.status).toBe("available");
    } finally {
      await client.end();
    }
  });
});
