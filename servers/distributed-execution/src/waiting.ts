/** Why a task still waits for a worker, in words: so that whoever waits knows whether waiting helps. */
import type { Offer } from "./environment.ts";
import type { ExecutionRecord, Requires } from "./execution-record.ts";
import type { WorkerRow } from "./worker/worker-row.ts";

/** Most reasons of workers that are told. */
const REASONS_MAX = 3;
/** It is usual to wait for so long, ms: workers that start find out what they can run. */
export const USUAL_WAIT_MS = 1_000;

/** Undefined when it waits for nothing but a free place of a worker that runs such tasks. */
export function whyWaiting(
  record: Pick<ExecutionRecord, "status" | "environment" | "environmentVersion" | "requires" | "boundTo">,
  workers: readonly WorkerRow[],
): string | undefined {
  if (record.status !== "queued") return undefined;
  const { environment, environmentVersion, requires, boundTo } = record;
  if (boundTo !== undefined) return undefined; // its session's worker lives, or the session would be over
  if (workers.length === 0) {
    return "No worker is there. Each server process has one unless SWARM_EXEC_SLOTS is 0; mcp-swarm-distributed-execution worker starts one anywhere.";
  }
  const fitting = workers.filter((worker) => unmet(requires, worker) === undefined);
  if (fitting.length === 0) {
    const [reason] = workers.flatMap((worker) => unmet(requires, worker) ?? []);
    return `No worker has what it requires: ${reason}. ${howToMeet(requires)}`;
  }
  const offers = fitting.flatMap(({ offers }) => offers.filter((offer) => offer.environment === environment));
  if (offers.some((offer) => offer.available && offer.version === environmentVersion)) return undefined;
  const reasons = [...new Set(offers.flatMap((offer) => reasonOf(offer, environmentVersion)))].slice(0, REASONS_MAX);
  return reasons.length === 0
    ? `No worker has found out yet whether it can run ${environment}.`
    : `No worker offers ${environment} here. ${reasons.join(" ")}`;
}

/** What makes it run after all. */
function howToMeet({ labels = [] }: Requires): string {
  const option = labels.length === 0 ? "" : ` --labels ${labels.join(",")}`;
  return `Start one on such a machine with mcp-swarm-distributed-execution worker${option}, or cancel it and submit it without.`;
}

function reasonOf(offer: Offer, version: number): string[] {
  if (!offer.available) return [offer.reason];
  return offer.version === version ? [] : ["The environment was changed since the task was submitted."];
}

/** What a worker lacks, as a part of a sentence. */
function unmet({ arch, labels = [] }: Requires, worker: Pick<WorkerRow, "arch" | "labels">): string | undefined {
  if (arch !== undefined && arch !== worker.arch) return `the architecture ${arch}`;
  const missing = labels.filter((label) => !worker.labels.includes(label));
  return missing.length === 0 ? undefined : `the label ${missing.join(", ")}`;
}
