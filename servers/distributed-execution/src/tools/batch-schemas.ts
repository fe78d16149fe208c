/** What is handed over of a batch: the fields of a task as `submit_task` describes them, named only, and what is special to a member. */
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { BATCH_DEPENDENCIES_MAX } from "../batch-plan.ts";
import {
  ATTEMPTS_MAX,
  FILE_PATH_MAX,
  INPUT_FILES_MAX,
  PRIORITY_MAX,
  QUEUE_MS_MAX,
  QUEUE_MS_MIN,
  RUN_MS_MAX,
  RUN_MS_MIN,
} from "../execution-record.ts";
import { args, code, environmentName, inputFile, requires, stdin } from "./schemas.ts";

const file = fields.shared(() =>
  inputFile().extend({ from: fields.id().exactOptional(), output: fields.text(FILE_PATH_MAX).exactOptional() }),
);

const taskFields = fields.shared(() => ({
  code: code().exactOptional(),
  environment: environmentName().exactOptional(),
  args: args().exactOptional(),
  stdin: stdin().exactOptional(),
  files: z.array(file()).max(INPUT_FILES_MAX).exactOptional(),
  priority: fields.whole(0, PRIORITY_MAX).exactOptional(),
  timeout: fields.whole(RUN_MS_MIN, RUN_MS_MAX).exactOptional(),
  queueTimeout: fields.whole(QUEUE_MS_MIN, QUEUE_MS_MAX).exactOptional(),
  maxAttempts: fields.whole(1, ATTEMPTS_MAX).exactOptional(),
  requires: requires().exactOptional(),
}));

export const defaults = fields.shared(() => fields.namedOnly(z.strictObject(taskFields())));

export const batchTask = fields.shared(() =>
  fields.namedOnly(
    z.strictObject({
      key: fields.id(),
      ...taskFields(),
      dependencies: z.array(fields.id()).max(BATCH_DEPENDENCIES_MAX).exactOptional(),
      after: z.enum(["success", "any"]).exactOptional(),
    }),
  ),
);
