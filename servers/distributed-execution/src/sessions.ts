/** Sessions: begun, listed, ended; by their agent, by time, or because the worker that held one is gone. */
import { type DueEntry, decodeCursor, dueJob, encodeCursor, type MaintenanceJob } from "@mcp-swarm/coordination";
import { newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { noSuchEnvironment } from "./environments.ts";
import { inExecutions } from "./execution-groups.ts";
import type { ExecutionContext } from "./execution-layer.ts";
import type { Requires } from "./execution-record.ts";
import { endSession } from "./session-ending.ts";
import {
  addSession,
  checkOwner,
  dueSessions,
  noSuchSession,
  openSessionsPrefix,
  readSession,
  SESSION_MS_DEFAULT,
  SESSION_MS_MAX,
  SESSION_MS_MIN,
  SESSIONS_PER_AGENT_MAX,
  type SessionEnd,
  type SessionRecord,
  sessionKey,
  sessionLeases,
  sessionsOfPrefix,
} from "./session-layer.ts";

/** Sessions that one run of a job ends: each ends its tasks in the same transaction. */
const DUE_BATCH_MAX = 10;

export interface StartSession {
  readonly environment: string;
  readonly ttlMs?: number | undefined;
  readonly requires?: Requires | undefined;
}

export interface SessionsOptions {
  readonly store: Store;
  readonly context: ExecutionContext;
  readonly random: Random;
}

export class Sessions {
  readonly #options: SessionsOptions;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /**
   * Nothing is opened yet: the worker that claims its first task holds it.
   * @throws SwarmError not_found (environment), failed_precondition (it keeps nothing), limit_exceeded, invalid_argument
   */
  async start(
    call: Call,
    { environment: name, ttlMs = SESSION_MS_DEFAULT, requires = {} }: StartSession,
  ): Promise<SessionRecord> {
    if (!Number.isInteger(ttlMs) || ttlMs < SESSION_MS_MIN || ttlMs > SESSION_MS_MAX) {
      throw new SwarmError("invalid_argument", "ttlMs is out of bounds.", {
        hint: `A session lives ${SESSION_MS_MIN} to ${SESSION_MS_MAX} ms.`,
      });
    }
    const { random } = this.#options;
    const { environments } = this.#options.context;
    const { agentId } = call.caller;
    const id = newId("session", random);
    await environments.ready(call.store);
    const open = prefixRange(openSessionsPrefix(agentId), SESSIONS_PER_AGENT_MAX);
    return await call.transact(
      (tx): SessionRecord => {
        const environment = environments.find(tx, name);
        if (!environment) throw noSuchEnvironment(name);
        if (environment.session === "none") {
          throw new SwarmError("failed_precondition", `Environment ${name} keeps nothing between tasks.`, {
            hint: "list_environments tells which environments have sessions.",
          });
        }
        if (tx.scan(open).length >= SESSIONS_PER_AGENT_MAX) {
          throw new SwarmError("limit_exceeded", `You have ${SESSIONS_PER_AGENT_MAX} open sessions.`, {
            hint: "End one with end_session; list_sessions shows them.",
          });
        }
        const labels = [...new Set([...(environment.requires.labels ?? []), ...(requires.labels ?? [])])].sort();
        const arch = requires.arch ?? environment.requires.arch;
        const session: SessionRecord = {
          id,
          agentId,
          environment: name,
          environmentVersion: environment.version,
          keeps: environment.session,
          requires: { ...(arch === undefined ? {} : { arch }), ...(labels.length === 0 ? {} : { labels }) },
          createdAt: tx.now,
          expiresAt: tx.now + ttlMs,
        };
        addSession(tx, session);
        return session;
      },
      { prefetch: { keys: [environments.keyOf(name)], ranges: [open] } },
    );
  }

  /**
   * Ends it at once, with what has not ended of its tasks. Of one that is over already nothing changes.
   * @throws SwarmError not_found, permission_denied
   */
  async end(call: Call, { sessionId }: { readonly sessionId: string }): Promise<SessionRecord> {
    return await call.transact(
      (tx): SessionRecord => {
        const session = readSession(tx, sessionId);
        if (!session) throw noSuchSession(sessionId);
        checkOwner(session, call.caller.agentId);
        return this.#end(tx, session, "ended") ?? session;
      },
      { prefetch: { keys: [sessionKey(sessionId)] } },
    );
  }

  /** The caller's own, the latest first: open ones, and those that are over for less than a day. */
  async list(
    call: Call,
    { limit = PAGE_DEFAULT, cursor }: { readonly limit?: number | undefined; readonly cursor?: string | undefined },
  ): Promise<{ sessions: SessionRecord[]; nextCursor?: string }> {
    const prefix = sessionsOfPrefix(call.caller.agentId);
    const scope = { list: "sessions", prefix };
    const after = cursor === undefined ? {} : { after: decodeCursor(scope, cursor) };
    const rows = await call.store.scan(prefixRange(prefix, limit, { reverse: true, ...after }));
    const ids = rows.map(({ value }) => (value as { id: string }).id);
    const records = ids.length === 0 ? [] : await call.store.getMany(ids.map(sessionKey));
    const last = rows.length === limit ? rows.at(-1)?.key : undefined;
    return {
      sessions: records.flatMap((entry) => (entry ? [entry.value as SessionRecord] : [])),
      ...(last === undefined ? {} : { nextCursor: encodeCursor(scope, last) }),
    };
  }

  /** Its worker lets go of it: it stops, or found its lease over. Nothing when it is over or another's. */
  letGo(tx: Transaction, sessionId: string, workerId: string): void {
    const session = readSession(tx, sessionId);
    if (session?.worker?.workerId === workerId) this.#end(tx, session, "worker_lost");
  }

  /** What ends by itself: by time, and with the lease of its worker. */
  jobs(): MaintenanceJob[] {
    const { store } = this.#options;
    const limit = DUE_BATCH_MAX;
    const handle = (because: SessionEnd) => (tx: Transaction, entry: DueEntry) => {
      this.#end(tx, entry, because);
    };
    return [
      dueJob({ name: "end sessions by time", store, index: dueSessions, limit, handle: handle("expired") }),
      dueJob({ name: "end sessions of lost workers", store, index: sessionLeases, limit, handle: handle("worker_lost") }),
    ];
  }

  #end(tx: Transaction, { id }: { readonly id: string }, because: SessionEnd): SessionRecord | undefined {
    return inExecutions(tx, this.#options.context, (executions) => endSession(executions, id, because));
  }
}
