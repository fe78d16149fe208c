/** Executions over one store in memory, with workers that are the test's own hand: it claims and ends what it wants, when it wants. */
import { SequenceSource } from "@mcp-swarm/coordination";
import { manualClock, seededRandom } from "@mcp-swarm/core";
import { type Call, plainCall } from "@mcp-swarm/identity";
import { prefixRange } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { addArtifact, newArtifact } from "../../src/artifact-layer.ts";
import { Batches } from "../../src/batches.ts";
import { Environments } from "../../src/environments.ts";
import { inExecutions } from "../../src/execution-groups.ts";
import { type ExecutionContext, executionKey, idOf, prefixes, recordOf } from "../../src/execution-layer.ts";
import { claimRun, finishRun } from "../../src/execution-lifecycle.ts";
import type { ExecutionRecord } from "../../src/execution-record.ts";
import { Executions } from "../../src/executions.ts";
import type { Ending } from "../../src/sandbox/driver.ts";
import { endSession } from "../../src/session-ending.ts";
import { Sessions } from "../../src/sessions.ts";

export const LEASE_MS = 9_000;
const READY_MAX = 1_000;

export function batchSwarm(seed = 1) {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const random = seededRandom(seed);
  const context: ExecutionContext = { environments: new Environments({ clock }), endSession };
  const sequence = new SequenceSource(random);
  const options = { store, clock, random, context, sequence };

  const record = async (id: string): Promise<ExecutionRecord | undefined> => {
    const entry = await store.get(executionKey(id));
    return entry && recordOf(entry);
  };
  return {
    clock,
    store,
    context,
    executions: new Executions(options),
    batches: new Batches(options),
    sessions: new Sessions(options),
    call: (agentId: string): Call => plainCall(store, { agentId, verified: false, processId: "p" }),
    record,
    /** Ids of all that a worker could claim, in the order of their queues. */
    async ready(): Promise<string[]> {
      return (await store.scan(prefixRange(prefixes.ready, READY_MAX))).map(idOf);
    },
    /** As a worker that found it in its queue; undefined when its session is over. */
    async claim(id: string, workerId = "w1"): Promise<ExecutionRecord | undefined> {
      return await store.transact((tx) =>
        inExecutions(tx, context, (executions) => claimRun(executions, executions.get(id), { workerId, leaseMs: LEASE_MS })),
      );
    },
    /** The run is over, with these files. */
    async finish(
      id: string,
      { ending = { kind: "exit", code: 0 }, files = {} }: { ending?: Ending; files?: Record<string, string> } = {},
    ): Promise<void> {
      const made = await Promise.all(
        Object.entries(files).map(([path, text], at) => newArtifact(`art-${id}-${at}`, path, Buffer.from(text))),
      );
      await store.transact((tx) =>
        inExecutions(tx, context, (executions) => {
          const run = executions.get(id);
          for (const artifact of made) addArtifact(tx, artifact, { agentId: run.agentId, executionId: id });
          const nothing = { head: "", chars: 0 };
          finishRun(executions, run, {
            result: {
              ...{ ending, stdout: nothing, stderr: nothing, usage: { wallMs: 1, cpuMs: 1 }, cut: {} },
              files: made.map(({ id: artifactId, name: path, bytes, sha256, mimeType }) => ({
                ...{ path, artifactId, bytes, sha256, mimeType },
              })),
            },
          });
        }),
      );
    },
  };
}

export type BatchSwarm = ReturnType<typeof batchSwarm>;
