/** What the holder of a task says of it, and what follows. */
import type { StoredTask, TaskProgress } from "@mcp-swarm/coordination/tasks";
import { type Json, SwarmError } from "@mcp-swarm/core";
import type { TaskTransaction } from "./task-layer.ts";
import { complete, failAttempt, giveBack } from "./task-lifecycle.ts";
import { NOTE_CHARS_MAX, OUTPUT_BYTES_MAX } from "./task-record.ts";

export interface UpdateTask {
  readonly taskId: string;
  /** Absent: progress alone. */
  readonly status?: "working" | "done" | "failed" | "available" | undefined;
  readonly workerId?: string | undefined;
  readonly output?: Json | undefined;
  readonly error?: string | undefined;
  readonly progress?: { readonly percent?: number | undefined; readonly note?: string | undefined } | undefined;
  /** For whoever takes the task next. */
  readonly checkpoint?: string | undefined;
  readonly fencingToken?: number | undefined;
}

/** @throws SwarmError invalid_argument */
export function checkUpdate(input: UpdateTask): void {
  const refuse = (message: string, hint: string): never => {
    throw new SwarmError("invalid_argument", message, { hint });
  };
  if (input.output !== undefined) {
    if (input.status !== "done") refuse("output belongs to status done.", "Leave a checkpoint for what is not finished.");
    if (Buffer.byteLength(JSON.stringify(input.output)) > OUTPUT_BYTES_MAX) {
      refuse(`output may have at most ${OUTPUT_BYTES_MAX} bytes of JSON.`, "Write it to a file and name the file.");
    }
  }
  if (input.error !== undefined && input.status !== "failed") refuse("error belongs to status failed.", "Leave it out.");
  for (const note of [input.error, input.checkpoint, input.progress?.note]) {
    if (note !== undefined && note.length > NOTE_CHARS_MAX) {
      refuse(`A note may have at most ${NOTE_CHARS_MAX} characters.`, "Write it to a file and name the file.");
    }
  }
  const percent = input.progress?.percent;
  if (percent !== undefined && !(percent >= 0 && percent <= 100)) refuse("progress.percent is out of bounds.", "Use 0 to 100.");
}

/** What an update does to a task that its caller holds. */
export function applyUpdate(tasks: TaskTransaction, task: StoredTask, by: string, input: UpdateTask): StoredTask {
  const { status, checkpoint, progress } = input;
  switch (status) {
    case "done":
      return complete(tasks, task, by, input.output);
    case "failed":
      return failAttempt(tasks, noted(tasks, task, by, checkpoint), { code: "failed", by, message: input.error });
    case "available":
      return giveBack(tasks, task, by, checkpoint);
    default: {
      const made: TaskProgress | undefined = progress && {
        ...(progress.percent === undefined ? {} : { percent: progress.percent }),
        ...(progress.note === undefined ? {} : { note: progress.note }),
        at: tasks.now,
      };
      return tasks.change(
        task,
        {
          ...(status === "working" ? { status } : {}),
          ...(made === undefined ? {} : { progress: made }),
          ...(checkpoint === undefined ? {} : { checkpoint }),
        },
        { event: status === "working" && task.status === "claimed" ? "started" : "progressed", by, note: checkpoint },
      );
    }
  }
}

function noted(tasks: TaskTransaction, task: StoredTask, by: string, checkpoint: string | undefined): StoredTask {
  return checkpoint === undefined ? task : tasks.change(task, { checkpoint }, { event: "progressed", by, note: checkpoint });
}
