import type { Tool } from "@mcp-swarm/server";
import type { DistributedExecution } from "../open.ts";
import { cancelTask } from "./cancel-task.ts";
import { createEnvironment } from "./create-environment.ts";
import { deleteEnvironment } from "./delete-environment.ts";
import { getArtifact } from "./get-artifact.ts";
import { getOutput } from "./get-output.ts";
import { getResult } from "./get-result.ts";
import { listEnvironments } from "./list-environments.ts";
import { listTasks } from "./list-tasks.ts";
import { listWorkers } from "./list-workers.ts";
import { submitTask } from "./submit-task.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<DistributedExecution>[] = [
  submitTask,
  getResult,
  getOutput,
  cancelTask,
  listTasks,
  getArtifact,
  listEnvironments,
  createEnvironment,
  deleteEnvironment,
  listWorkers,
];
