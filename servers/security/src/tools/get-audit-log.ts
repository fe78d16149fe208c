import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { OUTCOMES } from "../audit-outcomes.ts";
import { defineTool } from "./define.ts";
import { operation, resource } from "./security-schemas.ts";

export const getAuditLog = defineTool({
  name: "get_audit_log",
  title: "Read the audit log",
  description: "Shows who did what and what was refused, the newest first. A page may be empty and have a nextCursor.",
  toolset: "audit",
  operation: "audit:read",
  resource: () => "audit/*",
  effects: READS,
  input: () => ({
    agentId: fields.agentId().exactOptional(),
    operation: operation().exactOptional().describe("May end in *"),
    resource: resource().exactOptional().describe("May end in *"),
    outcome: z.enum(OUTCOMES).exactOptional(),
    since: fields.timeMs().exactOptional(),
    until: fields.timeMs().exactOptional(),
    limit: fields.limit(),
    cursor: fields.cursor(),
  }),
  output: () => ({
    entries: z.array(
      z.object({
        at: z.number(),
        agentId: z.string(),
        verified: z.boolean(),
        operation: z.string(),
        resource: z.string(),
        outcome: z.enum(OUTCOMES),
        reason: z.string(),
        policyIds: z.array(z.string()).exactOptional(),
        tool: z.string().exactOptional(),
        count: z.number().exactOptional(),
        details: z.string().exactOptional(),
        processId: z.string(),
        chain: z.string(),
        seq: z.number(),
      }),
    ),
    unreadable: z.number().exactOptional(),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["entries[].operation", "entries[].resource", "entries[].details"],
  async handle({ secured: { auditTrail } }, { limit = PAGE_DEFAULT, ...filter }, { call }) {
    let page = await auditTrail.list(call, { ...filter, limit });
    const kept = fit(page.entries).length;
    if (kept < page.entries.length) page = await auditTrail.list(call, { ...filter, limit: kept });
    const { entries, unreadable, nextCursor } = page;
    return {
      entries: entries.map(({ policyIds, ...entry }) => ({ ...entry, ...(policyIds ? { policyIds: [...policyIds] } : {}) })),
      ...(unreadable > 0 ? { unreadable } : {}),
      ...(nextCursor === undefined ? {} : { nextCursor }),
    };
  },
});
