import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { METRICS_SCOPES, getMetrics as metrics } from "../metrics.ts";
import { defineTool } from "./define.ts";

const counts = fields.shared(() => z.record(z.string(), z.number()));
const durations = fields.shared(() =>
  z.object({
    count: z.number(),
    p50: z.number().exactOptional(),
    p90: z.number().exactOptional(),
    p99: z.number().exactOptional(),
  }),
);

export const getMetrics = defineTool({
  name: "get_metrics",
  title: "Show metrics",
  description:
    "Counts, overdue tasks, throughput, wait and run times, retries and load: of the swarm, a workflow, or an agent (you without id).",
  toolset: "metrics",
  operation: "metrics:read",
  resource: ({ scope, id }) => `metrics/${scope}${id === undefined ? "" : `/${id}`}`,
  effects: READS,
  input: () => ({ scope: z.enum(METRICS_SCOPES), id: fields.agentId().exactOptional() }),
  output: () => ({
    metrics: z.object({
      scope: z.enum(METRICS_SCOPES),
      id: z.string().exactOptional(),
      at: z.number(),
      counts: counts(),
      open: z.number(),
      overdue: z.number(),
      overdueAtLeast: z.literal(true).exactOptional(),
      donePerMinute: z.object({ last1Min: z.number(), last15Min: z.number(), last60Min: z.number() }),
      waitMs: durations().exactOptional(),
      runMs: durations(),
      errorPercent: z.number(),
      events: counts(),
      agents: z
        .array(
          z.object({
            agentId: z.string(),
            held: z.number(),
            assigned: z.number(),
            done: z.number(),
            failed: z.number(),
            meanRunMs: z.number().exactOptional(),
          }),
        )
        .exactOptional(),
      moreAgents: z.literal(true).exactOptional(),
      slots: z.object({ slots: z.number(), used: z.number() }).exactOptional(),
    }),
  }),
  async handle({ slots }, input, { call }) {
    const { agents, counts, events, ...rest } = await metrics(call, input, slots);
    return {
      metrics: {
        ...rest,
        counts: { ...counts },
        events: { ...events },
        ...(agents === undefined ? {} : { agents: [...agents] }),
      },
    };
  },
});
