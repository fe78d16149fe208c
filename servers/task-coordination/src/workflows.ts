/** Workflows: tasks that are created, started, paused, resumed, cancelled and reported on as one. */
import { type SequenceSource, sequenceAt } from "@mcp-swarm/coordination";
import {
  type FailurePolicy,
  type StoredTask,
  type StoredWorkflow,
  type WorkflowState,
  workflowKey,
} from "@mcp-swarm/coordination/tasks";
import { type JsonObject, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { NewTask } from "./new-task.ts";
import { swarmScope, tallyKey, workflowScope } from "./tally.ts";
import { inTasks, type TaskContext, type TaskTransaction } from "./task-layer.ts";
import { decide, findMoving, findWorkflow, getWorkflow, goOnWhenDrained, movingKey, writeWorkflow } from "./workflow-layer.ts";
import { settle } from "./workflow-moving.ts";
import {
  type ListWorkflows,
  listWorkflows,
  type ReadStatus,
  type WorkflowPage,
  type WorkflowStatus,
  workflowStatus,
} from "./workflow-reading.ts";
import {
  checkWorkflowId,
  FAILURE_POLICY_DEFAULT,
  hasWorkflowEnded,
  METADATA_CHARS_MAX,
  toWorkflowRecord,
  WORKFLOW_NAME_CHARS_MAX,
  type WorkflowRecord,
} from "./workflow-record.ts";
import { addMembers, membersOf, membersRead, type NewMembers } from "./workflow-tasks.ts";
import { fillTemplate, templateRead } from "./workflow-template.ts";

export type NewWorkflow = { readonly [K in keyof NewMembers]?: NewMembers[K] | undefined } & {
  /** Minted when absent. */
  readonly id?: string | undefined;
  /** May be absent when a template has one. */
  readonly name?: string | undefined;
  readonly metadata?: JsonObject | undefined;
  readonly onFailure?: FailurePolicy | undefined;
  /** Starts it in the same commit. */
  readonly execute?: boolean | undefined;
  /** What it is made from, in place of tasks. */
  readonly templateId?: string | undefined;
  /** Values of the template's parameters. */
  readonly parameters?: JsonObject | undefined;
};

/** A task that was added; its id is the stored one. */
export type AddedTask = Pick<StoredTask, "id" | "status">;

export type CreatedWorkflow = { readonly workflow: WorkflowRecord; readonly tasks: readonly AddedTask[] };

export interface WorkflowsOptions {
  context: TaskContext;
  sequence: SequenceSource;
  random: Random;
}

/** What each step asks of the state, and what it leads to. A workflow that is there already stays as it is. */
const STEPS = {
  execute: { from: ["created"], to: "running", hint: "resume_workflow goes on with one that is paused." },
  pause: { from: ["running"], to: "paused", hint: "Only a running workflow can be paused." },
  resume: { from: ["paused"], to: "running", hint: "execute_workflow starts one that was created." },
  cancel: {
    from: ["created", "running", "paused", "compensating"],
    to: "cancelled",
    hint: "It has ended: there is nothing to cancel.",
  },
} as const satisfies { [step: string]: { from: readonly WorkflowState[]; to: WorkflowState; hint: string } };
type Step = keyof typeof STEPS;

export class Workflows {
  readonly #options: WorkflowsOptions;

  constructor(options: WorkflowsOptions) {
    this.#options = options;
  }

  /**
   * A workflow with its tasks, all or none. Their ids are local to it and stored as `<workflow>.<id>`.
   * @throws SwarmError invalid_argument (what is wrong is named), already_exists, limit_exceeded
   */
  async create(call: Call, input: NewWorkflow): Promise<CreatedWorkflow> {
    const { context, sequence, random } = this.#options;
    checkInput(input);
    const { templateId, name, metadata } = input;
    const id = checkWorkflowId(input.id ?? newId("wf", random));
    const members = templateId === undefined ? membersOf(id, { ...input, tasks: input.tasks ?? [] }, random) : undefined;
    const by = speakAs(call.caller, undefined);
    const place = sequence.next();
    const tasksPlace = sequence.next();
    return call.transact(
      (tx): CreatedWorkflow =>
        inTasks(tx, context, (tasks) => {
          if (findWorkflow(tx, id)) {
            throw new SwarmError("already_exists", `There is a workflow ${id} already.`, {
              hint: "Choose another id, or leave id out to get a fresh one.",
            });
          }
          const filled = templateId === undefined ? undefined : fillTemplate(tx, templateId, input.parameters ?? {});
          const workflow = writeWorkflow(tx, undefined, {
            id,
            name: checkName(name ?? filled?.name),
            state: input.execute ? "running" : "created",
            onFailure: input.onFailure ?? filled?.onFailure ?? FAILURE_POLICY_DEFAULT,
            ...(metadata === undefined ? {} : { metadata }),
            ...(templateId === undefined ? {} : { templateId }),
            createdAt: tasks.now,
            createdBy: by,
            ...(input.execute ? { startedAt: tasks.now } : {}),
            seq: sequenceAt(tasks.now, place),
          });
          // the tasks of a template have ids: nothing random happens in the plan
          const own = members ?? membersOf(id, { ...filled, tasks: filled?.tasks ?? [] }, random);
          const added = addMembers(tasks, workflow, own, { sequence: tasksPlace, by });
          return { workflow: toWorkflowRecord(workflow, tasks.now), tasks: added.map(toAdded) };
        }),
      {
        prefetch: {
          keys: [
            ...(members ? membersRead(members) : []),
            ...(templateId === undefined ? [] : templateRead(templateId)),
            workflowKey(id),
            ...this.#tallies(id),
          ],
        },
      },
    );
  }

  /**
   * More tasks for a workflow that has not ended; in one that runs they may be claimed at once.
   * @throws SwarmError as `create`, not_found, failed_precondition (it has ended)
   */
  async addTasks(call: Call, input: NewMembers & { workflowId: string }): Promise<{ tasks: readonly AddedTask[] }> {
    const { context, sequence, random } = this.#options;
    const workflowId = checkWorkflowId(input.workflowId);
    const members = membersOf(workflowId, input, random);
    const by = speakAs(call.caller, undefined);
    const place = sequence.next();
    const outcome = await call.transact(
      (tx): { tasks: AddedTask[]; moving: boolean } =>
        inTasks(tx, context, (tasks) => {
          const workflow = getWorkflow(tx, workflowId);
          if (hasWorkflowEnded(workflow) || workflow.state === "compensating") {
            throw new SwarmError("failed_precondition", `Workflow ${workflowId} is ${workflow.state} and takes no more tasks.`, {
              hint: "Create another workflow for them.",
            });
          }
          const added = addMembers(tasks, workflow, members, { sequence: place, by });
          return { tasks: added.map(toAdded), moving: findMoving(tx, workflowId) !== undefined };
        }),
      {
        prefetch: {
          keys: [...membersRead(members), workflowKey(workflowId), movingKey(workflowId), ...this.#tallies(workflowId)],
        },
      },
    );
    if (outcome.moving) await settle(call.store, context, workflowId);
    return { tasks: outcome.tasks };
  }

  /** @throws as `addTasks` */
  async addTask(call: Call, { workflowId, task }: { workflowId: string; task: NewTask }): Promise<{ task: AddedTask }> {
    const { tasks } = await this.addTasks(call, { workflowId, tasks: [task] });
    const [added] = tasks;
    if (!added) throw new SwarmError("internal", "Adding one task answered none.");
    return { task: added };
  }

  /** Starts it. @throws SwarmError not_found, failed_precondition */
  execute(call: Call, input: { workflowId: string }): Promise<{ workflow: WorkflowRecord }> {
    return this.#step(call, input.workflowId, "execute");
  }

  /** Nobody can claim its tasks any more; who holds one goes on. @throws as `execute` */
  pause(call: Call, input: { workflowId: string }): Promise<{ workflow: WorkflowRecord }> {
    return this.#step(call, input.workflowId, "pause");
  }

  /** @throws as `execute` */
  resume(call: Call, input: { workflowId: string }): Promise<{ workflow: WorkflowRecord }> {
    return this.#step(call, input.workflowId, "resume");
  }

  /** Nobody can claim its tasks any more, and all that are open end; their holders learn it at their next write. @throws as `execute` */
  cancel(call: Call, input: { workflowId: string }): Promise<{ workflow: WorkflowRecord }> {
    return this.#step(call, input.workflowId, "cancel");
  }

  status(call: Pick<Call, "store">, input: ReadStatus): Promise<WorkflowStatus> {
    return workflowStatus(call.store, input);
  }

  list(call: Pick<Call, "store">, filter: ListWorkflows): Promise<WorkflowPage> {
    return listWorkflows(call.store, filter);
  }

  /** Lets the tasks of a workflow follow what was decided, which the background would do a little later. */
  settle(store: Store, workflowId: string): Promise<void> {
    return settle(store, this.#options.context, workflowId);
  }

  async #step(call: Call, id: string, step: Step): Promise<{ workflow: WorkflowRecord }> {
    const { context } = this.#options;
    const workflowId = checkWorkflowId(id);
    const record = await call.transact(
      (tx): WorkflowRecord =>
        inTasks(tx, context, (tasks) => toWorkflowRecord(take(tasks, tx, getWorkflow(tx, workflowId), step), tasks.now)),
      { prefetch: { keys: [workflowKey(workflowId), movingKey(workflowId)] } },
    );
    // also when nothing was decided: an earlier call may have been cut short
    await settle(call.store, context, workflowId);
    return { workflow: record };
  }

  #tallies(workflowId: string): string[] {
    return [swarmScope, workflowScope(workflowId)].map((scope) => tallyKey(scope, this.#options.context.shard));
  }
}

function take(tasks: TaskTransaction, tx: Transaction, workflow: StoredWorkflow, step: Step): StoredWorkflow {
  const { from, to, hint } = STEPS[step];
  if (workflow.state === to) return workflow;
  if (!(from as readonly WorkflowState[]).includes(workflow.state)) {
    throw new SwarmError("failed_precondition", `Workflow ${workflow.id} is ${workflow.state}.`, { hint });
  }
  if (step === "cancel") return decide(tx, workflow, { state: to, endedAt: tasks.now });
  const started = decide(tx, workflow, { state: to, startedAt: workflow.startedAt ?? tasks.now });
  // its tasks may all have ended before it was started
  return goOnWhenDrained(tasks, started);
}

function toAdded({ id, status }: StoredTask): AddedTask {
  return { id, status };
}

function checkName(name: string | undefined): string {
  if (name !== undefined && name.length >= 1 && name.length <= WORKFLOW_NAME_CHARS_MAX) return name;
  throw new SwarmError("invalid_argument", `name must have 1 to ${WORKFLOW_NAME_CHARS_MAX} characters.`, {
    hint: "Give the workflow a name. Nothing was added.",
  });
}

function checkInput({ name, metadata, templateId, parameters, tasks, dependencies }: NewWorkflow): void {
  if (templateId === undefined) {
    checkName(name);
    if (parameters !== undefined || tasks === undefined) {
      throw new SwarmError("invalid_argument", "A workflow is made from tasks, or from a templateId with its parameters.", {
        hint: "Give tasks alone, or templateId with parameters.",
      });
    }
  } else if (tasks !== undefined || dependencies !== undefined) {
    throw new SwarmError("invalid_argument", "The tasks of a template come with it.", {
      hint: "Leave tasks and dependencies out; add_tasks with workflowId adds more afterwards.",
    });
  }
  if (metadata !== undefined && JSON.stringify(metadata).length > METADATA_CHARS_MAX) {
    throw new SwarmError("invalid_argument", `metadata may have at most ${METADATA_CHARS_MAX} characters of JSON.`, {
      hint: "Write it to a file and name the file.",
    });
  }
}
