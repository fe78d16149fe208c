export { keepTask, taskOf } from "./kept-task.ts";
export {
  type Claim,
  hasEnded,
  isHeld,
  LONG_FIELDS,
  type LongField,
  longText,
  type Rollback,
  type StoredTask,
  TASK_STATUSES,
  type TaskBackoff,
  type TaskChange,
  type TaskError,
  type TaskEvent,
  type TaskProgress,
  type TaskStatus,
} from "./stored-task.ts";
export {
  FAILURE_POLICIES,
  type FailurePolicy,
  type StoredWorkflow,
  type Undoing,
  WORKFLOW_STATES,
  type WorkflowError,
  type WorkflowState,
} from "./stored-workflow.ts";
export { type IndexEntry, indexEntry, type LeaseEntry, readTasks, taskKey, taskPrefixes, workflowKey } from "./task-keys.ts";
