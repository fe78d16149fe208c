import { addTask } from "./add-task.ts";
import { addTasks } from "./add-tasks.ts";
import { assignTasks } from "./assign-tasks.ts";
import { cancelTask } from "./cancel-task.ts";
import { cancelWorkflow } from "./cancel-workflow.ts";
import { claimNextTask } from "./claim-next-task.ts";
import { claimTask } from "./claim-task.ts";
import { claimWorkerSlot } from "./claim-worker-slot.ts";
import { createWorkflow } from "./create-workflow.ts";
import { estimateTask } from "./estimate-task.ts";
import { executeWorkflow } from "./execute-workflow.ts";
import { getAllTasks } from "./get-all-tasks.ts";
import { getAvailableTasks } from "./get-available-tasks.ts";
import { getMetrics } from "./get-metrics.ts";
import { getTask } from "./get-task.ts";
import { getWorkers } from "./get-workers.ts";
import { getWorkflowStatus } from "./get-workflow-status.ts";
import { listWorkflowTemplates } from "./list-workflow-templates.ts";
import { listWorkflows } from "./list-workflows.ts";
import { pauseWorkflow } from "./pause-workflow.ts";
import { releaseWorkerSlot } from "./release-worker-slot.ts";
import { renewTask } from "./renew-task.ts";
import { resetFailedTask } from "./reset-failed-task.ts";
import { resumeWorkflow } from "./resume-workflow.ts";
import { saveWorkflowTemplate } from "./save-workflow-template.ts";
import { updateTask } from "./update-task.ts";
import { validateTask } from "./validate-task.ts";

/** In the order in which a worker meets them. */
export const tools = [
  claimNextTask,
  claimTask,
  updateTask,
  renewTask,
  getTask,
  getAvailableTasks,
  getAllTasks,
  addTask,
  addTasks,
  resetFailedTask,
  cancelTask,
  validateTask,
  estimateTask,
  assignTasks,
  createWorkflow,
  executeWorkflow,
  getWorkflowStatus,
  listWorkflows,
  pauseWorkflow,
  resumeWorkflow,
  cancelWorkflow,
  saveWorkflowTemplate,
  listWorkflowTemplates,
  claimWorkerSlot,
  releaseWorkerSlot,
  getWorkers,
  getMetrics,
];
