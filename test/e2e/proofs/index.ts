import { agentComm } from "./agent-comm.ts";
import { consensus } from "./consensus.ts";
import { distributedExecution } from "./distributed-execution.ts";
import type { ServerProof } from "./proof.ts";
import { security } from "./security.ts";
import { sharedState } from "./shared-state.ts";
import { taskCoordination } from "./task-coordination.ts";

export { Recall, type WriteProof } from "./proof.ts";

const PROOFS: Readonly<Record<string, ServerProof>> = {
  "agent-comm": agentComm,
  consensus,
  "distributed-execution": distributedExecution,
  security,
  "shared-state": sharedState,
  "task-coordination": taskCoordination,
};

/** A server without one is not proven, and the tests over all servers say so. */
export function proofOf(server: string): ServerProof {
  const proof = PROOFS[server];
  if (!proof) throw new Error(`Write test/e2e/proofs/${server}.ts`);
  return proof;
}
