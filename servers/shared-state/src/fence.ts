/** What a write may carry to show that its writer still holds a lock, or still leads. */
import { SwarmError } from "@mcp-swarm/core";
import type { Transaction } from "@mcp-swarm/store";
import { readLeader } from "./leader-layer.ts";
import { readLock } from "./lock-layer.ts";
import { checkLockName, LEADER_LOCK, LOCK_NAME } from "./lock-record.ts";

export interface Fence {
  /** A lock's name, or `leader:<group>`. */
  readonly lock: string;
  /** From `acquire_lock`, or the term from `elect_leader`. */
  readonly fencingToken: number;
}

/**
 * Lets a plan go on only while that very holding lasts, by the transaction's own time: called first in the plan of each write
 * that carries a token. A holding that another replaced is gone from the record, so a token older than the one that
 * replaced it is refused whatever the clocks of two processes say. The holder is `agentId` or one of its subagents.
 * @throws SwarmError failed_precondition, invalid_argument when `lock` is no name
 */
export function checkFence(tx: Pick<Transaction, "get" | "now">, { lock, fencingToken }: Fence, agentId: string): void {
  if (lock.startsWith(LEADER_LOCK)) checkTerm(tx, lock, fencingToken, agentId);
  else checkHolding(tx, lock, fencingToken, agentId);
}

function checkHolding(tx: Pick<Transaction, "get" | "now">, lock: string, fencingToken: number, agentId: string): void {
  const record = readLock(tx, checkLockName(lock));
  const holding = record.holders.find(({ token }) => token === fencingToken);
  if (holding && holding.leaseExpiresAt > tx.now && isOrSpeaksFor(agentId, holding.agentId)) return;
  if (holding && holding.leaseExpiresAt > tx.now) throw refused(lock, "is another agent's");
  throw refused(lock, fencingToken > record.token ? "was never given out" : "is of a holding that is over");
}

function checkTerm(tx: Pick<Transaction, "get" | "now">, lock: string, term: number, agentId: string): void {
  const group = lock.slice(LEADER_LOCK.length);
  if (!LOCK_NAME.test(group)) {
    throw new SwarmError("invalid_argument", "Field lock: not the name of a group of candidates.", {
      hint: `Use ${LEADER_LOCK}<group> as elect_leader was called with it.`,
    });
  }
  const leader = readLeader(tx, group);
  if (leader?.term === term && isOrSpeaksFor(agentId, leader.agentId)) return;
  throw refused(lock, leader?.term === term ? "is another agent's" : "is not the term of a leader that leads");
}

function isOrSpeaksFor(agentId: string, holder: string): boolean {
  return holder === agentId || holder.startsWith(`${agentId}/`);
}

function refused(lock: string, why: string): SwarmError {
  return new SwarmError("failed_precondition", `The fencingToken for ${lock} ${why}: nothing was written.`, {
    hint: lock.startsWith(LEADER_LOCK)
      ? "get_leader tells who leads now; what you did as leader may have been overtaken, so look before you write again."
      : "Acquire the lock again, and look at what changed meanwhile before you write.",
  });
}
