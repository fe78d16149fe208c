/** The end of a session, in the commit that brings it about. */
import { endMembers } from "./execution-groups.ts";
import type { ExecutionTransaction } from "./execution-layer.ts";
import { closeSession, readSession, type SessionEnd, type SessionRecord } from "./session-layer.ts";

/**
 * Ends a session and fails what is open of its tasks as `session_lost`, what runs included: the sandbox that it runs in is closed with
 * the session. Nothing when it is over already. Answers it as it is then, undefined when there is none.
 */
export function endSession(executions: ExecutionTransaction, sessionId: string, because: SessionEnd): SessionRecord | undefined {
  const { tx } = executions;
  const session = readSession(tx, sessionId);
  if (!session || session.over) return session;
  // whoever comes first after its time, it was its time that ended it
  const over = closeSession(tx, session, session.expiresAt <= tx.now ? "expired" : because);
  endMembers(executions, sessionId, { status: "failed", failure: "session_lost" }, { runs: "end" });
  return over;
}
