import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { NOTE_CHARS_MAX, TITLE_CHARS_MAX } from "../task-record.ts";
import { WORKFLOW_NAME_CHARS_MAX } from "../workflow-record.ts";
import { ENUM_VALUES_MAX, PARAMETER_CHARS_MAX, PARAMETER_NAME, PARAMETER_TYPES, PARAMETERS_MAX } from "../workflow-template.ts";
import { defineTool } from "./define.ts";
import { fromTask, newTasks } from "./new-tasks.ts";
import { onFailure, workflowDependencies } from "./workflow-schemas.ts";

const NUMBER_MAX = 1e15;
const parameter = fields.shared(() =>
  fields.namedOnly(
    z.strictObject({
      name: z.string().regex(PARAMETER_NAME),
      type: z.enum(PARAMETER_TYPES),
      required: z.boolean().exactOptional(),
      default: z
        .union([z.string().max(PARAMETER_CHARS_MAX), z.number().min(-NUMBER_MAX).max(NUMBER_MAX), z.boolean()])
        .exactOptional(),
      description: fields.text(TITLE_CHARS_MAX).exactOptional(),
      values: z.array(fields.text(TITLE_CHARS_MAX)).max(ENUM_VALUES_MAX).exactOptional(),
    }),
  ),
);

export const saveWorkflowTemplate = defineTool({
  name: "save_workflow_template",
  title: "Save a workflow template",
  description:
    "Saves a workflow to be made again by create_workflow with templateId, replacing one of that id. {{name}} in texts stands for a parameter; tasks as there.",
  toolset: "workflows",
  operation: "template:save",
  resource: ({ id }) => `template/${id}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({
    id: fields.id(),
    name: fields.text(WORKFLOW_NAME_CHARS_MAX).exactOptional(),
    description: fields.text(NOTE_CHARS_MAX).exactOptional(),
    parameters: z.array(parameter()).max(PARAMETERS_MAX).exactOptional(),
    tasks: newTasks(),
    dependencies: workflowDependencies().exactOptional(),
    onFailure: onFailure().exactOptional(),
  }),
  output: () => ({ template: z.object({ id: z.string(), version: z.number(), totalTasks: z.number(), savedAt: z.number() }) }),
  async handle({ templates }, { tasks, ...input }, { call }) {
    const { template } = await templates.save(call, { ...input, tasks: tasks.map(fromTask) });
    const { id, version, totalTasks, savedAt } = template;
    return { template: { id, version, totalTasks, savedAt } };
  },
});
