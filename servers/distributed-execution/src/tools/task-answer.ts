/** A task with what came of it, as several tools answer it. */
import type { Call } from "@mcp-swarm/identity";
import { IMAGE_BYTES_MAX, IMAGE_TYPES, IMAGES_MAX, shrinkToFit, type ToolContext } from "@mcp-swarm/server";
import type { ExecutionRecord, OutputFile } from "../execution-record.ts";
import type { DistributedExecution } from "../open.ts";
import type { Limits } from "../sandbox/driver.ts";
import { USUAL_WAIT_MS, whyWaiting } from "../waiting.ts";
import { result, task } from "./schemas.ts";
import { artifactUri, resultView, taskView, UNTRUSTED_IN_RESULT, UNTRUSTED_IN_TASK } from "./views.ts";

export const taskAnswer = () => ({ task: task(), result: result().exactOptional() });
export const UNTRUSTED_IN_ANSWER = [...UNTRUSTED_IN_TASK, ...UNTRUSTED_IN_RESULT];

/** What one who waits is told meanwhile. */
export function stillWaiting(waitedMs: number): string {
  return `Not ended after ${Math.round(waitedMs / 1_000)} s`;
}

/** The answer about a task: its files as images where they can be, as links otherwise; why it waits, when nobody takes it. */
export async function answerAbout(
  domain: Pick<DistributedExecution, "artifacts" | "environments" | "knownWorkers">,
  record: ExecutionRecord,
  { call, attach }: Pick<ToolContext, "call" | "attach">,
) {
  const waits = await whyItWaits(domain, record, call);
  const limits = record.result?.ending.kind === "limit" ? await limitsOf(domain, record, call) : undefined;
  const shown = await attachFiles(domain, record.result?.files ?? [], attach);
  return shrinkToFit((scale) => {
    const view = resultView(record, limits, shown, scale);
    return { task: taskView(record, waits), ...(view ? { result: view } : {}) };
  });
}

async function whyItWaits(
  { knownWorkers }: Pick<DistributedExecution, "knownWorkers">,
  record: ExecutionRecord,
  { store }: Pick<Call, "store">,
): Promise<string | undefined> {
  if (record.status !== "queued" || (await store.now()) - (record.readyAt ?? record.createdAt) < USUAL_WAIT_MS) return undefined;
  return whyWaiting(record, await knownWorkers());
}

/** Of the environment as it was when the task was handed over; undefined when it is another by now. */
async function limitsOf(
  { environments }: Pick<DistributedExecution, "environments">,
  { environment: name, environmentVersion }: ExecutionRecord,
  { store }: Pick<Call, "store">,
): Promise<Limits | undefined> {
  const entry = await store.get(environments.keyOf(name));
  const environment = environments.find({ get: () => entry }, name);
  return environment?.version === environmentVersion ? environment.limits : undefined;
}

/** Answers the artifacts that are shown as images. */
async function attachFiles(
  { artifacts }: Pick<DistributedExecution, "artifacts">,
  files: readonly OutputFile[],
  attach: ToolContext["attach"],
): Promise<Set<string>> {
  const shown = new Set<string>();
  for (const { artifactId, path, mimeType, bytes } of files) {
    const showable = bytes <= IMAGE_BYTES_MAX && IMAGE_TYPES.some((type) => type === mimeType);
    if (showable && shown.size < IMAGES_MAX) {
      const image = await artifacts.whole(artifactId, IMAGE_BYTES_MAX);
      if (attach({ type: "image", mimeType, bytes: image.bytes })) {
        shown.add(artifactId);
        continue;
      }
    }
    attach({ type: "link", uri: artifactUri(artifactId), name: path, mimeType, bytes });
  }
  return shown;
}
