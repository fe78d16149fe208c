import { addTask } from "./add-task.ts";
import { addTasks } from "./add-tasks.ts";
import { cancelTask } from "./cancel-task.ts";
import { claimNextTask } from "./claim-next-task.ts";
import { claimTask } from "./claim-task.ts";
import { claimWorkerSlot } from "./claim-worker-slot.ts";
import { getAllTasks } from "./get-all-tasks.ts";
import { getAvailableTasks } from "./get-available-tasks.ts";
import { getTask } from "./get-task.ts";
import { getWorkers } from "./get-workers.ts";
import { releaseWorkerSlot } from "./release-worker-slot.ts";
import { renewTask } from "./renew-task.ts";
import { resetFailedTask } from "./reset-failed-task.ts";
import { updateTask } from "./update-task.ts";

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
  claimWorkerSlot,
  releaseWorkerSlot,
  getWorkers,
];
