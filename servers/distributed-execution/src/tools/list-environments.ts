import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, READS, shrinkToFit } from "@mcp-swarm/server";
import * as z from "zod";
import { noSuchEnvironment } from "../environments.ts";
import { defineTool } from "./define.ts";
import { environment, environmentName, offer } from "./schemas.ts";
import { environmentView, offersView, pageOf } from "./views.ts";

/** How long this process may take to find out what it can run, in ms; what it knows then is told. */
const PROBE_MS_MAX = 8_000;
const SCOPE = { list: "environments", prefix: "" };

export const listEnvironments = defineTool({
  name: "list_environments",
  title: "List environments",
  description:
    "Shows what code can run in: limits, and per worker whether it runs there, which limits hold there, or why not. name shows one in full.",
  toolset: "environments",
  operation: "environment:read",
  resource: ({ name }) => `environment/${name ?? "*"}`,
  effects: READS,
  input: () => ({ name: environmentName().exactOptional(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    environments: z.array(
      environment().extend({
        workers: z.array(offer()),
        workersLeftOut: z.number().exactOptional(),
        /** Workers that have not found out yet. */
        notTriedBy: z.number().exactOptional(),
      }),
    ),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["environments[].description", "environments[].env", "environments[].workers[].reason"],
  async handle({ environments, workers: workersNow }, { name, limit = PAGE_DEFAULT, cursor }, { call }) {
    const after = cursor === undefined ? undefined : decodeCursor(SCOPE, cursor);
    const all = await environments.all(call.store);
    if (name !== undefined) {
      const one = all.find((other) => other.name === name);
      if (!one) throw noSuchEnvironment(name);
      const workers = await workersNow(PROBE_MS_MAX, [name]);
      return shrinkToFit((scale) => ({
        environments: [{ ...environmentView(one), ...offersView(one, workers, { details: true, scale }) }],
      }));
    }
    const sorted = all.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const asked = sorted.filter((one) => after === undefined || one.name > after).slice(0, limit);
    const workers = await workersNow(
      PROBE_MS_MAX,
      asked.map((one) => one.name),
    );
    const view = (one: (typeof all)[number]) => ({
      ...environmentView(one),
      ...offersView(one, workers, { details: false, scale: 1 }),
    });
    const { shown, last } = pageOf(sorted, view, { limit, after, key: (one) => one.name });
    return last === undefined ? { environments: shown } : { environments: shown, nextCursor: encodeCursor(SCOPE, last) };
  },
});
