import { READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const verifyAuditLog = defineTool({
  name: "verify_audit_log",
  title: "Verify the audit log",
  description: "Checks every entry of the audit log and every signed checkpoint, and names the first that was changed.",
  toolset: "audit",
  operation: "audit:read",
  resource: () => "audit/*",
  effects: READS,
  input: () => ({}),
  output: () => ({
    ok: z.boolean(),
    rows: z.number(),
    chains: z.number(),
    checkpoints: z.number(),
    uncovered: z.number(),
    copies: z.number(),
    firstBad: z
      .object({
        what: z.string(),
        key: z.string().exactOptional(),
        chain: z.string().exactOptional(),
        seq: z.number().exactOptional(),
        details: z.string(),
      })
      .exactOptional(),
  }),
  untrusted: ["firstBad"],
  async handle({ secured }, _, { call }) {
    return await secured.auditTrail.verify(call);
  },
});
