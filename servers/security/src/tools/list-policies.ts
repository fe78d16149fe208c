import { PAGE_DEFAULT } from "@mcp-swarm/core";
import { fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const listPolicies = defineTool({
  name: "list_policies",
  title: "List policies",
  description: "Shows the policies in force.",
  toolset: "policies",
  operation: "policy:read",
  resource: () => "policy/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    policies: z.array(z.looseObject({ id: z.string(), effect: z.enum(["permit", "forbid"]), operations: z.array(z.string()) })),
    nextCursor: fields.nextCursor(),
  }),
  untrusted: ["policies"],
  async handle({ secured }, { limit = PAGE_DEFAULT, cursor }) {
    const page = secured.policies.list({ limit, cursor });
    const policies = fit(page.policies.map((policy) => ({ ...policy, operations: [...policy.operations] })));
    const nextCursor = page.cursorAt(policies.length);
    return { policies, ...(nextCursor === undefined ? {} : { nextCursor }) };
  },
});
