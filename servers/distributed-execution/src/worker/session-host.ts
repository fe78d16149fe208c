/**
 * The sandboxes of the sessions that one worker holds. Each is opened for the first task of its session, and goes with the session: at
 * its time limit, when it is ended, when a run of it is killed, when the worker's lease on it is lost, and when the worker stops.
 */
import type { HeldLease, Holdings, LeaseKeeper } from "@mcp-swarm/coordination";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { RunHooks, SandboxOutcome, SandboxSession, SandboxTask } from "../sandbox/driver.ts";
import { renewSession, SESSIONS_PER_WORKER_MAX, type SessionRecord, sessionKey } from "../session-layer.ts";

const SESSIONS_PREFIX = "exec-session/";
/** A session is bound once in its life, so one holding of it is like another. */
const TOKEN = 1;

interface Held {
  readonly sandbox: Promise<SandboxSession>;
  /** At its time limit. */
  readonly timer: Disposable;
}

export interface SessionHostOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly leases: LeaseKeeper;
  readonly workerId: string;
  /** Ends a session whose worker lets go of it, in the caller's transaction: `Sessions.letGo`. */
  readonly letGo: (tx: Transaction, sessionId: string, workerId: string) => void;
  /** Told of a sandbox that could not be closed, and of a failed look at what became of the sessions. */
  readonly onError: (error: unknown) => void;
}

export class SessionHost {
  readonly #options: SessionHostOptions;
  readonly #holdings: Holdings;
  readonly #held = new Map<string, Held>();
  readonly #closing = new Set<Promise<void>>();
  #watch: Disposable | undefined;
  readonly #told = new Set<() => void>();
  #hadRoom = true;
  #looking = false;
  #lookAgain = false;

  constructor(options: SessionHostOptions) {
    this.#options = options;
    const { workerId } = options;
    this.#holdings = options.leases.keep({
      name: "session",
      lapses: true,
      renew: (tx, { id }, leaseExpiresAt) => renewSession(tx, id, { workerId, leaseExpiresAt }),
      release: (tx, { id }) => options.letGo(tx, id, workerId),
      onLost: ({ id }: HeldLease) => this.#drop(id, "over"),
    });
  }

  /** Sessions that are held here: their tasks are this worker's alone. */
  ids(): string[] {
    return [...this.#held.keys()];
  }

  /** Whether the first task of another session may be taken. */
  get hasRoom(): boolean {
    return this.#held.size < SESSIONS_PER_WORKER_MAX;
  }

  /** Tells whenever `hasRoom` changed. */
  onRoom(told: () => void): Disposable {
    this.#told.add(told);
    return { [Symbol.dispose]: () => void this.#told.delete(told) };
  }

  #tellRoom(): void {
    if (this.hasRoom === this.#hadRoom) return;
    this.#hadRoom = this.hasRoom;
    for (const told of [...this.#told]) told();
  }

  /**
   * Runs one task of a session that is bound to this worker; `open` makes its sandbox when this is its first. One task at a time.
   * After a run that was killed, by a limit or by hand, the sandbox is gone, and the commit that records that end ends the session.
   * @throws SwarmError unavailable when the sandbox could not be opened or is gone: give the run back as `session_lost`
   */
  async run(id: string, open: () => Promise<SandboxSession>, task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    const held = this.#held.get(id) ?? (await this.#hold(id, open));
    try {
      const sandbox = await held.sandbox;
      const outcome = await sandbox.run(task, hooks);
      if (outcome.ending.kind === "limit" || outcome.ending.kind === "killed") this.#drop(id, "mine still");
      return outcome;
    } catch (error) {
      this.#drop(id, "mine still");
      throw error;
    }
  }

  /** Closes every sandbox. The sessions are let go of by the keeper of the leases, which gives back all that is held. */
  async close(): Promise<void> {
    for (const id of this.ids()) this.#drop(id, "mine still");
    while (this.#closing.size > 0) await Promise.all(this.#closing);
  }

  async #hold(id: string, open: () => Promise<SandboxSession>): Promise<Held> {
    const { store, clock } = this.#options;
    const [entry, now] = await Promise.all([store.get(sessionKey(id)), store.now()]);
    const session = entry?.value as SessionRecord | undefined;
    if (!session || session.over) throw new SwarmError("unavailable", `Session ${id} is over.`);
    this.#holdings.hold({ id, token: TOKEN });
    // its limit is of the store's clock
    const timer = clock.timer(Math.max(0, session.expiresAt - now), () => this.#drop(id, "over"));
    const held: Held = { sandbox: open(), timer };
    this.#held.set(id, held);
    this.#tellRoom();
    this.#watch ??= store.watch(SESSIONS_PREFIX, () => void this.#look());
    void this.#look(); // it may have ended before the watch began
    return held;
  }

  /** Which of those held are over: ended by their agent, or by time. */
  async #look(): Promise<void> {
    this.#lookAgain = true;
    if (this.#looking) return;
    this.#looking = true;
    try {
      while (this.#lookAgain && this.#held.size > 0) {
        this.#lookAgain = false;
        const ids = this.ids();
        const rows = await this.#options.store.getMany(ids.map(sessionKey));
        for (const [at, id] of ids.entries()) {
          const session = rows[at]?.value as SessionRecord | undefined;
          if (!session || session.over) this.#drop(id, "over");
        }
      }
    } catch (error) {
      this.#options.onError(error);
    } finally {
      this.#looking = false;
    }
  }

  /**
   * The sandbox goes. A session that is this worker's still is renewed until its end is written, by the commit that ends the run or by
   * the keeper that gives back all; the first renewal after that finds it lost.
   */
  #drop(id: string, session: "over" | "mine still"): void {
    const held = this.#held.get(id);
    if (!held) return;
    this.#held.delete(id);
    this.#tellRoom();
    if (session === "over") this.#holdings.drop(id);
    held.timer[Symbol.dispose]();
    if (this.#held.size === 0) {
      this.#watch?.[Symbol.dispose]();
      this.#watch = undefined;
    }
    const closed = held.sandbox
      .then(
        (sandbox) => sandbox.close(),
        (error: unknown) => {
          // whoever ran the first task was told that it could not be opened
          if (!(error instanceof SwarmError)) this.#options.onError(error);
        },
      )
      .catch((error: unknown) => this.#options.onError(error))
      .finally(() => this.#closing.delete(closed));
    this.#closing.add(closed);
  }
}
