import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { listedLock } from "./lock-schemas.ts";

export const listLocks = defineTool({
  name: "list_locks",
  title: "List locks",
  description: "Shows the locks that are held or waited for: by whom, until when, and who is next.",
  toolset: "locks",
  operation: "lock:read",
  resource: () => "lock/*",
  effects: READS,
  input: () => ({
    prefix: fields.text(64).exactOptional().describe("Of names"),
    holder: fields.agentId().exactOptional(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({ locks: z.array(listedLock()), nextCursor: fields.nextCursor() }),
  async handle({ locks }, { limit = PAGE_DEFAULT, ...input }, { call }) {
    const page = await locks.list(call, { ...input, limit });
    const kept = fit(page.locks).length;
    return kept === page.locks.length ? page : await locks.list(call, { ...input, limit: kept });
  },
});
