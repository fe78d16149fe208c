import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { worker } from "./schemas.ts";
import { pageOf, workerView } from "./views.ts";

const SCOPE = { list: "workers", prefix: "" };

export const listWorkers = defineTool({
  name: "list_workers",
  title: "List workers",
  description: "Shows the processes that run tasks now: where, how many at once, and what they can run.",
  toolset: "environments",
  operation: "worker:read",
  resource: () => "worker/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ workers: z.array(worker()), nextCursor: fields.nextCursor() }),
  untrusted: ["workers[].name", "workers[].host", "workers[].labels", "workers[].unavailable"],
  async handle({ knownWorkers }, { limit = PAGE_DEFAULT, cursor }) {
    const after = cursor === undefined ? undefined : decodeCursor(SCOPE, cursor);
    const all = (await knownWorkers()).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const { shown, last } = pageOf(all, (row) => workerView(row, 1), { limit, after, key: ({ id }) => id });
    return last === undefined ? { workers: shown } : { workers: shown, nextCursor: encodeCursor(SCOPE, last) };
  },
});
