/**
 * Sessions as ordered keys. A session is bound to the worker that claims its first task and is over when that worker lets go of it:
 * what the sandbox held is nowhere else, so it is never bound a second time.
 *
 * | key | value | why |
 * |---|---|---|
 * | `exec-session/<id>` | SessionRecord | the truth; rewritten when it is bound and when it ends, so that what its tasks do makes no hot key |
 * | `exec-session-due/<expiresAt>/<id>` | {id, refs} | open ones, by their time limit |
 * | `exec-session-lease/<lease end>/<id>` | {id, refs} | open ones that are bound, by the end of their worker's lease |
 * | `exec-session-open/<agent>/<id>` | {id, refs} | open ones of an agent: how many it has |
 * | `exec-session-of/<agent>/<createdAt>/<id>` | {id} | all of an agent that are still known |
 *
 * Rows of a session that is over expire together, after `SESSION_KEPT_MS`.
 */
import { DueIndex } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import { ordered, segment, type Transaction } from "@mcp-swarm/store";
import type { Requires } from "./execution-record.ts";

/** How long a session lives from its start, in ms. It is not prolonged: what an agent forgot ends by itself. */
export const SESSION_MS_MIN = 1_000;
export const SESSION_MS_DEFAULT = 30 * 60_000;
export const SESSION_MS_MAX = 8 * 3_600_000;
/** Open sessions of one agent, and sandboxes of sessions that one worker holds. */
export const SESSIONS_PER_AGENT_MAX = 8;
export const SESSIONS_PER_WORKER_MAX = 8;
/** Tasks of one session that have not ended; they end together with it, in one transaction. */
export const SESSION_OPEN_TASKS_MAX = 100;
/** How long a session that is over can still be listed. */
export const SESSION_KEPT_MS = 24 * 3_600_000;

/**
 * - `ended`: by `end_session`
 * - `expired`: its time was up
 * - `worker_lost`: the worker that held it died, or was stopped
 * - `limit`: a task of it hit a limit, and its sandbox was killed
 * - `cancelled`: a running task of it was cancelled, and its sandbox was killed
 * - `sandbox`: its sandbox could not be opened, or was found dead
 */
export const SESSION_ENDS = ["ended", "expired", "worker_lost", "limit", "cancelled", "sandbox"] as const;
export type SessionEnd = (typeof SESSION_ENDS)[number];

export type SessionRecord = {
  readonly id: string;
  /** Exactly this agent may use it: not its parent, not its subagents, since they run at the same time and would share what is kept. */
  readonly agentId: string;
  readonly environment: string;
  readonly environmentVersion: number;
  /** What a session of this environment keeps. */
  readonly keeps: "files" | "state";
  readonly requires: Requires;
  readonly createdAt: number;
  /** It is over then at the latest. */
  readonly expiresAt: number;
  /** Since its first task was claimed. */
  readonly worker?: { readonly workerId: string; readonly leaseExpiresAt: number };
  readonly over?: { readonly at: number; readonly because: SessionEnd };
};

export const sessionKey = (id: string): string => `exec-session/${segment(id)}`;
export const openSessionsPrefix = (agentId: string): string => `exec-session-open/${segment(agentId)}/`;
export const sessionsOfPrefix = (agentId: string): string => `exec-session-of/${segment(agentId)}/`;
/** By time limit. */
export const dueSessions = new DueIndex("exec-session-due/");
/** By the end of the lease of the worker that holds them. */
export const sessionLeases = new DueIndex("exec-session-lease/");

function openKey({ agentId, id }: SessionRecord): string {
  return `${openSessionsPrefix(agentId)}${segment(id)}`;
}

function ofKey({ agentId, id, createdAt }: SessionRecord): string {
  return `${sessionsOfPrefix(agentId)}${ordered(createdAt)}/${segment(id)}`;
}

export function readSession(tx: Pick<Transaction, "get">, id: string): SessionRecord | undefined {
  return tx.get(sessionKey(id))?.value as SessionRecord | undefined;
}

export function addSession(tx: Transaction, session: SessionRecord): void {
  const { id } = session;
  const refs = [sessionKey(id)];
  tx.put(sessionKey(id), session);
  tx.put(openKey(session), { id, refs });
  tx.put(ofKey(session), { id });
  dueSessions.put(tx, session.expiresAt, id, { refs });
}

/**
 * The session when this agent may hand a task to it now. Time alone ends it, whether or not a job has come by.
 * @throws SwarmError not_found, permission_denied (another agent's), failed_precondition (over)
 */
export function usableSession(tx: Transaction, id: string, agentId: string): SessionRecord {
  const session = readSession(tx, id);
  if (!session) throw noSuchSession(id);
  checkOwner(session, agentId);
  const over = session.over?.because ?? (session.expiresAt <= tx.now ? "expired" : undefined);
  if (over === undefined) return session;
  throw new SwarmError("failed_precondition", `Session ${id} is over: ${SAID[over]}.`, {
    hint: "Begin another with start_session; nothing of the old one is left, so its first tasks must set up again what you need.",
  });
}

export function noSuchSession(id: string): SwarmError {
  return new SwarmError("not_found", `There is no session ${id}.`, {
    hint: "list_sessions shows yours; a session that is over is forgotten after a day.",
  });
}

/** @throws SwarmError permission_denied */
export function checkOwner({ id, agentId: owner }: SessionRecord, agentId: string): void {
  if (owner === agentId) return;
  throw new SwarmError("permission_denied", `Session ${id} is another agent's.`, {
    hint: "A session belongs to the very agent that started it, and not to its subagents either: begin your own with start_session.",
  });
}

const SAID: Readonly<Record<SessionEnd, string>> = {
  ended: "it was ended",
  expired: "its time was up",
  worker_lost: "the worker that held it is gone",
  limit: "one of its tasks hit a limit, and its sandbox was killed",
  cancelled: "one of its tasks was cancelled while it ran, and its sandbox was killed",
  sandbox: "its sandbox could not be opened, or was found dead",
};

/**
 * A worker claims a task of the session: from now on it is held there. False when it is over, or another worker's; then nothing was
 * written and the task must not run.
 */
export function bindSession(tx: Transaction, id: string, worker: { workerId: string; leaseExpiresAt: number }): boolean {
  const session = readSession(tx, id);
  if (!session || session.over || session.expiresAt <= tx.now) return false;
  if (session.worker) return session.worker.workerId === worker.workerId;
  const { workerId, leaseExpiresAt } = worker;
  tx.put(sessionKey(id), { ...session, worker: { workerId, leaseExpiresAt } });
  sessionLeases.put(tx, leaseExpiresAt, id, { refs: [sessionKey(id)] });
  return true;
}

/** The worker still has it. False when it is over or not this worker's: its sandbox must go. */
export function renewSession(tx: Transaction, id: string, worker: { workerId: string; leaseExpiresAt: number }): boolean {
  const session = readSession(tx, id);
  if (!session?.worker || session.over || session.worker.workerId !== worker.workerId) return false;
  const { workerId, leaseExpiresAt } = worker;
  sessionLeases.move(tx, session.worker.leaseExpiresAt, leaseExpiresAt, id, { refs: [sessionKey(id)] });
  tx.put(sessionKey(id), { ...session, worker: { workerId, leaseExpiresAt } });
  return true;
}

/** The session's own rows; what is still open of its tasks is ended by `endSession` of sessions.ts. Nothing when it is over already. */
export function closeSession(tx: Transaction, session: SessionRecord, because: SessionEnd): SessionRecord {
  if (session.over) return session;
  const over: SessionRecord = { ...session, over: { at: tx.now, because } };
  const kept = { ttlMs: SESSION_KEPT_MS };
  tx.put(sessionKey(session.id), over, kept);
  tx.put(ofKey(session), { id: session.id }, kept);
  tx.delete(openKey(session));
  dueSessions.remove(tx, session.expiresAt, session.id);
  if (session.worker) sessionLeases.remove(tx, session.worker.leaseExpiresAt, session.id);
  return over;
}
