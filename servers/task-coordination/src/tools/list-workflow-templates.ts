import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { PARAMETER_TYPES } from "../workflow-template.ts";
import { defineTool } from "./define.ts";
import { onFailure } from "./workflow-schemas.ts";
import { templatesView } from "./workflow-views.ts";

export const template = fields.shared(() =>
  z.object({
    id: z.string(),
    name: z.string(),
    description: z.string().exactOptional(),
    parameters: z.array(
      z.object({
        name: z.string(),
        type: z.enum(PARAMETER_TYPES),
        required: z.boolean().exactOptional(),
        default: z.union([z.string(), z.number(), z.boolean()]).exactOptional(),
        description: z.string().exactOptional(),
        values: z.array(z.string()).exactOptional(),
      }),
    ),
    onFailure: onFailure().exactOptional(),
    totalTasks: z.number(),
    version: z.number(),
    savedAt: z.number(),
    savedBy: z.string(),
  }),
);

export const listWorkflowTemplates = defineTool({
  name: "list_workflow_templates",
  title: "List workflow templates",
  description: "Lists the saved workflow templates with their parameters.",
  toolset: "workflows",
  operation: "template:read",
  resource: () => "template/*",
  effects: READS,
  input: () => ({ limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({ templates: z.array(template()), nextCursor: fields.nextCursor() }),
  untrusted: [
    ...["name", "description"].map((field) => `templates[].${field}`),
    ...["default", "description", "values"].map((field) => `templates[].parameters[].${field}`),
  ],
  async handle({ templates }, input, { call }) {
    const whole = await templates.list(call.store, input);
    const kept = templatesView(whole.templates);
    if (kept.length === whole.templates.length) return { ...whole, templates: kept };
    const shorter = await templates.list(call.store, { ...input, limit: kept.length });
    return { ...shorter, templates: templatesView(shorter.templates) };
  },
});
