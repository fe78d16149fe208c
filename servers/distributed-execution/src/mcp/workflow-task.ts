/** A task of task-coordination as an operation needs it: whole, where an answer shows the beginnings of what is long. */
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { SwarmTools } from "./swarm-tools.ts";
import type { Scope } from "./template.ts";

/** Most answers that one long field is read from. */
const PARTS_MAX = 200;
/** Most characters of what other tasks brought, of all together; the rest is left as it was shown. */
const CONTEXT_CHARS_MAX = 256 * 1024;

export interface WorkflowTask {
  readonly type: string;
  readonly timeoutMs?: number;
  readonly scope: Scope;
}

interface Shown extends JsonObject {
  readonly id: string;
  readonly type: string;
  readonly description: string;
  readonly title?: string;
  readonly parameters?: Json;
  readonly attempt: number;
  readonly timeoutMs?: number;
  readonly cuts?: readonly { readonly field: string }[];
}
interface Brought extends JsonObject {
  readonly taskId: string;
  readonly title?: string;
  readonly output?: Json;
  readonly cut?: string;
}

/** @param claim what claim_next_task answered, with a task */
export async function claimedTask(claim: JsonObject, tools: SwarmTools, signal: AbortSignal): Promise<WorkflowTask> {
  const { task, context = [] } = claim as unknown as { task: Shown; context?: readonly Brought[] };
  const whole = async (field: "description" | "parameters"): Promise<string | undefined> =>
    task.cuts?.some((cut) => cut.field === field) ? await readField(tools, task.id, field, signal) : undefined;
  const parameters = await whole("parameters");
  const brought = await readContext(context, tools, signal);
  return {
    type: task.type,
    ...(task.timeoutMs === undefined ? {} : { timeoutMs: task.timeoutMs }),
    scope: {
      task: {
        id: task.id,
        type: task.type,
        attempt: task.attempt,
        description: (await whole("description")) ?? task.description,
        ...(task.title === undefined ? {} : { title: task.title }),
      },
      parameters: parameters === undefined ? (task.parameters ?? {}) : (JSON.parse(parameters) as Json),
      context: brought,
      results: Object.fromEntries(brought.map(({ taskId, output }) => [taskId, output ?? null])),
    },
  };
}

async function readContext(context: readonly Brought[], tools: SwarmTools, signal: AbortSignal): Promise<Brought[]> {
  let room = CONTEXT_CHARS_MAX;
  const whole: Brought[] = [];
  for (const { cut, ...item } of context) {
    const text = cut === undefined || room <= 0 ? undefined : await readField(tools, item.taskId, "output", signal);
    room -= text?.length ?? 0;
    whole.push(text === undefined ? item : { ...item, output: jsonOr(text) });
  }
  return whole;
}

/** What is read on in is JSON, but for texts, which are read as they are. */
function jsonOr(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

async function readField(tools: SwarmTools, taskId: string, field: string, signal: AbortSignal): Promise<string> {
  let text = "";
  for (let part = 0; part < PARTS_MAX; part++) {
    const answer = await tools.call("get_task", { taskId, field, offset: text.length }, signal);
    if ("refusal" in answer) {
      throw new SwarmError("failed_precondition", `Task ${taskId} cannot be read whole.`, { hint: answer.refusal.message });
    }
    const read = answer.result.part as unknown as { text: string; nextOffset?: number };
    text += read.text;
    if (read.nextOffset === undefined) return text;
  }
  throw new SwarmError("limit_exceeded", `A field of task ${taskId} is longer than ${PARTS_MAX} answers.`, {
    hint: "Shorten it.",
  });
}
