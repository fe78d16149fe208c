import { cut, fields, fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { type Problem, validateTask as validate } from "../task-validation.ts";
import { defineTool } from "./define.ts";
import { estimated } from "./estimate-task.ts";
import { fromInput } from "./new-tasks.ts";
import { newTask } from "./schemas.ts";
import { workflowId } from "./workflow-schemas.ts";

/** Bytes for each list of problems, and characters of one. */
const PROBLEMS_BYTES = 6_000;
const PROBLEM_CHARS = 300;

const addable = fields.shared(() => z.strictObject({ ...newTask(), workflowId: workflowId().exactOptional() }));
const problem = fields.shared(() => z.object({ field: z.string(), problem: z.string() }));

function shown(problems: readonly Problem[]): Problem[] {
  return fit(
    problems.map((one) => ({ field: cut(one.field, PROBLEM_CHARS).text, problem: cut(one.problem, PROBLEM_CHARS).text })),
    PROBLEMS_BYTES,
  );
}

/** Wrong types, unknown fields and what is out of bounds. */
function schemaProblems({ issues }: z.ZodError): Problem[] {
  return issues.flatMap((issue): Problem[] => {
    if (issue.code === "unrecognized_keys") return issue.keys.map((field) => ({ field, problem: "There is no such field." }));
    return [{ field: issue.path.join(".") || "task", problem: `${issue.message}.` }];
  });
}

export const validateTask = defineTool({
  name: "validate_task",
  title: "Check a task",
  description:
    "Checks a task as add_task would but adds nothing; answers problems, warnings (such as that nobody can do it) and an estimate.",
  toolset: "tasks",
  operation: "task:read",
  resource: () => "task/*",
  effects: READS,
  input: () => ({ task: fields.jsonObject().describe("Fields as in add_task") }),
  output: () => ({
    valid: z.boolean(),
    problems: z.array(problem()),
    warnings: z.array(problem()),
    estimate: z.object(estimated()).exactOptional(),
  }),
  async handle(domain, { task }, { call }) {
    const parsed = addable().safeParse(task);
    if (!parsed.success) return { valid: false, problems: shown(schemaProblems(parsed.error)), warnings: [] };
    const { workflowId, ...fields } = parsed.data;
    const { problems, warnings, ...rest } = await validate(call, domain, { task: fromInput(fields), workflowId });
    return { ...rest, problems: shown(problems), warnings: shown(warnings) };
  },
});
