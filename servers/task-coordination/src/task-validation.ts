/** Whether a task could be added, and what speaks against it: found out without adding it. */

import { findConflicts, normalizeGlobs } from "@mcp-swarm/coordination";
import { type StoredTask, taskKey, taskOf } from "@mcp-swarm/coordination/tasks";
import { type Json, SwarmError } from "@mcp-swarm/core";
import { type Call, type LiveAgent, listLiveAgents } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { canDo } from "./assignment.ts";
import { estimateTask, type TaskEstimate } from "./estimate.ts";
import { type NewTask, specOf } from "./new-task.ts";
import { checkTaskId } from "./task-record.ts";
import type { Tasks } from "./tasks.ts";
import type { Workflows } from "./workflows.ts";

/** Most live agents whose capabilities are looked at. */
const AGENTS_MAX = 200;
/** Stands for a task without an id of its own. */
const NO_ID = "validated";

/** `field` by the name that add_task gives it; `task` when it is not about one field. */
export type Problem = { readonly field: string; readonly problem: string };

export type Validation = {
  readonly valid: boolean;
  /** Why it cannot be added. */
  readonly problems: readonly Problem[];
  /** Why, once added, it may not be done, or not in time. */
  readonly warnings: readonly Problem[];
  /** Only of a valid task. */
  readonly estimate?: TaskEstimate;
};

/** The fields whose names callers and the record do not share. */
const CALLED: { readonly [field: string]: string } = {
  expectedOutput: "output",
  deadlineAt: "deadline",
  notBeforeAt: "notBefore",
};

/** Thrown by a plan that is done, so that nothing of it is written. */
class Undone {
  readonly result: Json;

  constructor(result: Json) {
    this.result = result;
  }
}

/** A call that decides as `call` would, and writes nothing. */
function withoutWriting(call: Call): Call {
  return {
    caller: call.caller,
    store: call.store,
    async transact<T extends Json>(...[plan, options]: Parameters<typeof call.transact<T>>): Promise<T> {
      try {
        return await call.store.transact<T>((tx) => {
          throw new Undone(plan(tx));
        }, options);
      } catch (error) {
        if (error instanceof Undone) return error.result as T;
        throw error;
      }
    },
  };
}

export interface ValidationDomain {
  readonly tasks: Tasks;
  readonly workflows: Workflows;
}

export interface ValidateTask {
  readonly task: NewTask;
  readonly workflowId?: string | undefined;
}

/** Adds nothing. What it finds is true at one moment: a task found valid may be refused when others were faster. */
export async function validateTask(call: Call, { tasks, workflows }: ValidationDomain, input: ValidateTask): Promise<Validation> {
  const { task, workflowId } = input;
  const problems = fieldProblems(task);
  if (problems.length === 0 && workflowId === undefined) problems.push(...(await missingDependencies(call.store, task)));
  if (problems.length === 0) {
    const dry = withoutWriting(call);
    try {
      await (workflowId === undefined ? tasks.add(dry, task) : workflows.addTask(dry, { workflowId, task }));
    } catch (error) {
      problems.push(problemOf(error, workflowId));
    }
  }
  if (problems.length > 0) return { valid: false, problems, warnings: [] };
  const estimate = await estimateTask(call.store, { type: task.type });
  return { valid: true, problems, warnings: await warningsOf(call.store, task, estimate), estimate };
}

/** Each field that is wrong by itself. */
function fieldProblems(task: NewTask): Problem[] {
  const refusal = (part: Partial<NewTask>) => {
    try {
      specOf({ description: "x", ...part }, NO_ID);
      return undefined;
    } catch (error) {
      if (error instanceof SwarmError) return error.message;
      throw error;
    }
  };
  const problems = Object.entries(task).flatMap(([field, value]): Problem[] => {
    const problem = value === undefined ? undefined : refusal({ [field]: value });
    return problem === undefined ? [] : [{ field: CALLED[field] ?? field, problem }];
  });
  if (task.id !== undefined && task.dependencies?.includes(task.id)) {
    problems.push({ field: "dependencies", problem: "The task depends on itself." });
  }
  return problems;
}

async function dependenciesOf(store: Store, task: NewTask): Promise<{ id: string; found: StoredTask | undefined }[]> {
  const ids = [...new Set(task.dependencies ?? [])].map(checkTaskId);
  if (ids.length === 0) return [];
  const found = await store.getMany(ids.map(taskKey));
  return ids.map((id, at) => {
    const entry = found[at];
    return { id, found: entry && taskOf(entry.value) };
  });
}

async function missingDependencies(store: Store, task: NewTask): Promise<Problem[]> {
  const missing = (await dependenciesOf(store, task)).filter(({ found }) => !found);
  return missing.map(({ id }) => ({ field: "dependencies", problem: `There is no task ${id}.` }));
}

/** What adding it was refused for. @throws what says nothing about the task */
function problemOf(error: unknown, workflowId: string | undefined): Problem {
  if (!(error instanceof SwarmError)) throw error;
  switch (error.code) {
    case "already_exists":
      return { field: "id", problem: error.message };
    case "not_found":
    case "failed_precondition":
      return { field: workflowId === undefined ? "task" : "workflowId", problem: error.message };
    case "invalid_argument":
    case "limit_exceeded":
      return { field: "task", problem: error.message };
    default:
      throw error;
  }
}

async function warningsOf(store: Store, task: NewTask, { estimate, expectedWaitMs = 0 }: TaskEstimate): Promise<Problem[]> {
  const warnings: Problem[] = [];
  const warn = (field: string, problem: string) => warnings.push({ field, problem });
  const now = await store.now();
  const { deadlineAt, notBeforeAt, timeoutMs, requiredCapabilities = [], files = [] } = task;
  if (deadlineAt !== undefined) {
    if (deadlineAt <= now) warn("deadline", "It is over already.");
    else if (notBeforeAt !== undefined && notBeforeAt >= deadlineAt) warn("notBefore", "It may begin only after its deadline.");
    else if (estimate.scope !== "none" && Math.max(now + expectedWaitMs, notBeforeAt ?? 0) + estimate.p90Ms > deadlineAt) {
      warn("deadline", "One in ten tasks of its kind, or more, would be done after it.");
    }
  }
  if (timeoutMs !== undefined && estimate.scope !== "none" && timeoutMs < estimate.p50Ms) {
    warn("timeoutMs", `Half of the tasks of its kind run longer: ${estimate.p50Ms} ms.`);
  }
  for (const { id, found } of await dependenciesOf(store, task)) {
    if (found?.status === "failed" || found?.status === "cancelled") {
      warn("dependencies", `Task ${id} is ${found.status}: this one would wait until it is reset and done.`);
    }
  }
  if (requiredCapabilities.length > 0) {
    const missing = nobodyWith((await listLiveAgents(store, { limit: AGENTS_MAX })).agents, requiredCapabilities);
    if (missing.length > 0)
      warn("requiredCapabilities", `No agent that is alive announced all of them. Missing: ${missing.join(", ")}.`);
  }
  if (files.length > 0) warnings.push(...(await reservedFiles(store, files)));
  return warnings;
}

/** What no agent has; when each is there and no agent has all, all of them. Empty when one has all. */
function nobodyWith(agents: readonly LiveAgent[], requiredCapabilities: readonly string[]): readonly string[] {
  if (agents.some((agent) => canDo(agent, { requiredCapabilities }))) return [];
  const nobody = requiredCapabilities.filter((one) => !agents.some(({ capabilities }) => capabilities.includes(one)));
  return nobody.length > 0 ? nobody : requiredCapabilities;
}

async function reservedFiles(store: Store, files: readonly string[]): Promise<Problem[]> {
  const globs = normalizeGlobs(files);
  const conflicts = await store.transact((tx) => findConflicts(tx, { globs, mode: "exclusive" }));
  const held = new Map(conflicts.map((conflict) => [conflict.holder, conflict.until]));
  return [...held].map(([holder, until]) => ({
    field: "files",
    problem: `Some are reserved by ${holder} until ${new Date(until).toISOString()}, or longer if it renews; a claim would wait.`,
  }));
}
