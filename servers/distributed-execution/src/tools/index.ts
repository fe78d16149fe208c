import type { Tool } from "@mcp-swarm/server";
import type { DistributedExecution } from "../open.ts";
import { cancelBatch } from "./cancel-batch.ts";
import { cancelTask } from "./cancel-task.ts";
import { createEnvironment } from "./create-environment.ts";
import { deleteEnvironment } from "./delete-environment.ts";
import { endSession } from "./end-session.ts";
import { getArtifact } from "./get-artifact.ts";
import { getBatch } from "./get-batch.ts";
import { getOutput } from "./get-output.ts";
import { getResult } from "./get-result.ts";
import { listEnvironments } from "./list-environments.ts";
import { listSessions } from "./list-sessions.ts";
import { listTasks } from "./list-tasks.ts";
import { listWorkers } from "./list-workers.ts";
import { startSession } from "./start-session.ts";
import { submitBatch } from "./submit-batch.ts";
import { submitTask } from "./submit-task.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<DistributedExecution>[] = [
  submitTask,
  getResult,
  getOutput,
  cancelTask,
  listTasks,
  getArtifact,
  submitBatch,
  getBatch,
  cancelBatch,
  listEnvironments,
  createEnvironment,
  deleteEnvironment,
  listWorkers,
  startSession,
  endSession,
  listSessions,
];
