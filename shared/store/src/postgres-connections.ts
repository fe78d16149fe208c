import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { SwarmError } from "@mcp-swarm/core";
import pg from "pg";
import {
  breaksConnection,
  ConnectionLost,
  isLostStatement,
  isOutOfConnections,
  isPassing,
  isRefused,
} from "./postgres-errors.ts";
import { quoted } from "./postgres-schema.ts";
import type { PostgresTarget } from "./postgres-url.ts";

/** Connections of one store. Few: many processes share the server's own bound (100 by default). */
export const CONNECTIONS_MAX = 4;

/** A connection that nobody used for so long is closed. */
const IDLE_MS_MAX = 30_000;

/** How long the server has to accept a connection, and to answer one statement. A statement may wait for locks. */
const CONNECT_MS_MAX = 10_000;
const STATEMENT_MS_MAX = 30_000;

/** How long a lost server is waited for before the caller hears of it; it restarts within that. */
export const OUTAGE_MS_MAX = 30_000;
const RECONNECT_PAUSE_MS = 20;
const RECONNECT_PAUSE_MS_MAX = 500;

/** A store that is being closed waits so long for a server that is away. */
const CLOSING_MS_MAX = 1_000;

/** How long no further connection is asked for after the server had none. */
const CROWDED_MS = 5_000;

/** Most operations of one process that wait for a connection. */
const WAITING_MAX = 20_000;

/** A statement with parameters; `name` is its plan's name on the connection. */
export interface Statement {
  name: string;
  text: string;
  values: unknown[];
}

/** Random bytes are drawn for so many ids at once: asking the system for eight costs as much as for thousands. */
const IDS_DRAWN = 256;
let drawn = Buffer.alloc(0);

/** Positive and below 2^63, as text. */
export function randomId(): string {
  if (drawn.length === 0) drawn = randomBytes(IDS_DRAWN * 8);
  const id = drawn.readBigUInt64BE() >> 1n;
  drawn = drawn.subarray(8);
  return id.toString();
}

/** A commit that was sent and whose answer is not there yet. */
export interface Pending {
  session: string;
  before: string;
  id: string;
  /** What the session is set to if the commit did not take place; the same when the question is repeated. */
  fence: string;
}

/**
 * One place for a connection. It outlives the connections that fill it, and so does its session: the chain of commits by
 * which a commit whose answer was lost is told from one that never happened.
 */
export class Slot {
  readonly #target: PostgresTarget;
  readonly #named: () => boolean;
  #client: pg.Client | undefined;
  #session: string | undefined;
  /** The last commit of the session that is known to have taken place. */
  #last = "0";
  idleSince = 0;

  constructor(target: PostgresTarget, named: () => boolean) {
    this.#target = target;
    this.#named = named;
  }

  get connected(): boolean {
    return this.#client !== undefined;
  }

  async connect(): Promise<void> {
    if (this.#client) return;
    let mine: pg.Client | undefined;
    mine = await connect(this.#target, () => {
      if (mine && this.#client === mine) this.drop(); // a late word of an earlier connection says nothing of this one
    });
    this.#client = mine;
  }

  /** @throws ConnectionLost, or the server's error when the connection is still good */
  async query(statement: Statement): Promise<pg.QueryResult> {
    return await this.#run(this.#named() ? statement : { text: statement.text, values: statement.values });
  }

  /** Several statements without parameters in one round trip. @throws as `query` */
  async script(sql: string): Promise<pg.QueryResult[]> {
    const results = await this.#run({ text: sql });
    return Array.isArray(results) ? results : [results];
  }

  async #run(query: { name?: string; text: string; values?: unknown[] }): Promise<pg.QueryResult> {
    const client = this.#client;
    if (!client) throw new ConnectionLost(undefined);
    try {
      // rows as arrays of text: the driver makes no objects, and a bigint stays exact
      return await client.query({ ...query, rowMode: "array" } as pg.QueryConfig);
    } catch (error) {
      if (!breaksConnection(error) || isLostStatement(error)) throw error;
      this.drop();
      throw new ConnectionLost(error);
    }
  }

  /** The session, which is entered in the database before its first commit. */
  async session(): Promise<{ id: string; last: string }> {
    if (this.#session === undefined) {
      const id = randomId();
      await this.query({
        name: "mcp_swarm_session",
        text: `INSERT INTO ${quoted(this.#target.schema)}.mcp_swarm_session (id, last) VALUES ($1, 0)`,
        values: [id],
      });
      this.#session = id;
      this.#last = "0";
    }
    return { id: this.#session, last: this.#last };
  }

  /** The commit took place. */
  committed(id: string): void {
    this.#last = id;
  }

  /** The database does not know the session any more; the next commit begins another. */
  forgetSession(): void {
    this.#session = undefined;
  }

  /** Whether a commit whose answer was lost took place; after `false` it never will. The slot must be connected again. */
  async settle({ session, before, id, fence }: Pending): Promise<boolean> {
    const { rows } = await this.query({
      name: "mcp_swarm_settle",
      text: `SELECT ${quoted(this.#target.schema)}.mcp_swarm_settle_v1($1, $2, $3, $4)`,
      values: [session, before, id, fence],
    });
    const state: unknown = rows[0]?.[0];
    this.forgetSession();
    if (state === "committed") return true;
    if (state === "fenced") return false;
    throw new SwarmError("internal", "The store cannot tell whether a commit took place: others have used its session.", {
      hint: "Read what the call should have changed before it is repeated.",
      retryable: false,
    });
  }

  /** Lets go of the connection without waiting for anything. */
  drop(): void {
    const client = this.#client;
    this.#client = undefined;
    destroy(client);
  }

  async end(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => destroy(client));
  }
}

/** A connection of its own. `lost` is called once when it breaks while nothing is asked of it. */
export async function connect(target: PostgresTarget, lost: () => void): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: target.connectionString,
    application_name: "mcp-swarm",
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    query_timeout: STATEMENT_MS_MAX,
    types: { getTypeParser: () => (text: string | Buffer) => text },
  } as pg.ClientConfig);
  client.on("error", lost);
  client.on("end", lost);
  try {
    await client.connect();
  } catch (error) {
    destroy(client);
    throw error;
  }
  return client;
}

/** Cuts a connection; one that does not answer would keep a polite end waiting. */
export function destroy(client: pg.Client | undefined): void {
  if (!client) return;
  client.on("error", () => {}); // nobody listens to it any more
  const { connection } = client as unknown as { connection?: { stream?: { destroy?: () => void } } };
  connection?.stream?.destroy?.();
}

/** A few connections, opened when needed, shared first come first served. */
export class Connections {
  readonly #target: PostgresTarget;
  readonly #free: Slot[] = [];
  readonly #all = new Set<Slot>();
  readonly #waiting: ((slot: Slot) => void)[] = [];
  readonly #max: number;
  #named: boolean;
  /** By `performance.now()`: until then the server is not asked for more connections. */
  #crowdedUntil = 0;
  #closed = false;
  /** By `performance.now()`. */
  #closingAt = Number.POSITIVE_INFINITY;
  #sweeper: NodeJS.Timeout | undefined;
  #quiet: (() => void) | undefined;

  constructor(target: PostgresTarget, max = CONNECTIONS_MAX) {
    this.#target = target;
    this.#max = max;
    this.#named = target.pooler === "none";
  }

  /** Uses no named statements from now on: something between us and the server does not keep them. */
  withoutNames(): void {
    this.#named = false;
  }

  /**
   * Runs `work` on a connected slot that is its own meanwhile. Connects again while the server is away, up to
   * `OUTAGE_MS_MAX`; `work` itself decides what is safe to repeat.
   */
  async use<T>(work: (slot: Slot) => Promise<T>): Promise<T> {
    const slot = await this.#connected();
    try {
      return await work(slot);
    } finally {
      this.#give(slot);
    }
  }

  async #connected(): Promise<Slot> {
    for (;;) {
      const slot = await this.#take();
      try {
        await slot.connect();
        return slot;
      } catch (error) {
        if (isOutOfConnections(error) && [...this.#all].some((other) => other !== slot && other.connected)) {
          this.#retire(slot); // the server has no more: those that we have serve all
          continue;
        }
        try {
          if (!isPassing(error)) throw error;
          await this.reconnect(slot, performance.now() + OUTAGE_MS_MAX);
          return slot;
        } catch (last) {
          this.#give(slot);
          throw last;
        }
      }
    }
  }

  /**
   * Connects a slot that has lost its connection.
   * @param deadline by `performance.now()`
   */
  async reconnect(slot: Slot, deadline: number): Promise<void> {
    for (let pause = RECONNECT_PAUSE_MS; !slot.connected; pause = Math.min(pause * 2, RECONNECT_PAUSE_MS_MAX)) {
      try {
        await slot.connect();
      } catch (error) {
        if (!isPassing(error) || performance.now() + pause > Math.min(deadline, this.#closingAt + CLOSING_MS_MAX)) throw error;
        await sleep(pause * (0.5 + Math.random()));
      }
    }
  }

  /** Opens the first connection: a server that refuses, or is not there, is reported at once. */
  async first(): Promise<void> {
    const slot = await this.#take();
    try {
      const deadline = performance.now() + CONNECT_MS_MAX;
      await slot.connect().catch(async (error: unknown) => {
        if (isRefused(error) || !isPassing(error)) throw error;
        await this.reconnect(slot, deadline);
      });
    } finally {
      this.#give(slot);
    }
  }

  /** What is under way still ends, but no longer waits for a server that is away. */
  beginClosing(): void {
    this.#closingAt = performance.now();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweeper);
    if (this.#free.length < this.#all.size) await new Promise<void>((resolve) => (this.#quiet = resolve));
    await Promise.all([...this.#all].map((slot) => slot.end()));
  }

  async #take(): Promise<Slot> {
    if (this.#closed) throw new SwarmError("unavailable", "The store is closed.");
    const free = this.#free.pop(); // the one used last: the others may close
    if (free) return free;
    const max = performance.now() < this.#crowdedUntil ? Math.max(1, this.#all.size) : this.#max;
    if (this.#all.size < max) {
      const slot = new Slot(this.#target, () => this.#named);
      this.#all.add(slot);
      this.#sweeper ??= setInterval(() => this.#closeIdle(), IDLE_MS_MAX / 2).unref();
      return slot;
    }
    if (this.#waiting.length >= WAITING_MAX) {
      throw new SwarmError("unavailable", `More than ${WAITING_MAX} operations of this process wait for the store.`, {
        hint: "Send fewer calls at once, then try again.",
      });
    }
    return await new Promise<Slot>((resolve) => this.#waiting.push(resolve));
  }

  #give(slot: Slot): void {
    slot.idleSince = performance.now();
    const next = this.#waiting.shift();
    if (next) {
      next(slot);
      return;
    }
    this.#free.push(slot);
    if (this.#free.length === this.#all.size) this.#quiet?.();
  }

  #retire(slot: Slot): void {
    this.#all.delete(slot);
    this.#crowdedUntil = performance.now() + CROWDED_MS;
    if (this.#free.length === this.#all.size) this.#quiet?.();
  }

  #closeIdle(): void {
    const before = performance.now() - IDLE_MS_MAX;
    for (const slot of this.#free) if (slot.connected && slot.idleSince < before) void slot.end();
  }
}
