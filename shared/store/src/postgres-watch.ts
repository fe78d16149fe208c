import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Connections, connect, destroy, randomId } from "./postgres-connections.ts";
import type { PostgresTarget } from "./postgres-url.ts";

/**
 * Notifications of one process follow one another at least so far apart: after a quiet a little, and twice as far with each that had
 * something to tell again. What is committed meanwhile shares the next.
 */
const NOTIFY_PAUSE_MS_MIN = 1;
const NOTIFY_PAUSE_MS_MAX = 8;

/** More touched prefixes than this are told as "anything": a payload has less than 8,000 bytes. */
const PREFIXES_MAX = 24;
const ANYTHING = "*";

/** How long a notification to oneself may take before LISTEN counts as not working (a transaction pooler swallows it). */
const PROBE_MS_MAX = 2_000;

/** How often the write-ahead log's position is looked at: alone, and behind a LISTEN that works (a process may die between commit and NOTIFY). */
const POLL_MS = 100;
const POLL_BEHIND_LISTEN_MS = 2_000;

const RECONNECT_PAUSE_MS = 250;

/** How many segments of a touched key a notification tells. */
const TOLD_DEPTH = 3;

/** Wakes watchers after commits: one's own at once, those of other processes by LISTEN and NOTIFY, or by polling where that does not work. */
export class Watch {
  readonly #target: PostgresTarget;
  readonly #connections: Connections;
  readonly #watchers = new Set<{ prefix: string; wake: () => void }>();
  /** Tells this process's notifications from others'. */
  readonly #self = randomId();
  readonly #touched = new Set<string>();
  #notifying: Promise<void> | undefined;
  #listening: Promise<void> | undefined;
  #listener: pg.Client | undefined;
  readonly #stop = new AbortController();
  /** How commits of other processes are noticed, once that is known. */
  mode: "listen" | "poll" | undefined;

  constructor(target: PostgresTarget, connections: Connections) {
    this.#target = target;
    this.#connections = connections;
  }

  watch(prefix: string, wake: () => void): Disposable {
    const watcher = { prefix, wake };
    this.#watchers.add(watcher);
    if (this.#listening) {
      if (this.mode === undefined) queueMicrotask(wake);
    } else {
      this.#listening = this.#listen();
    }
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** Keys that a commit of this process touched. `told`: other processes may be watching. */
  committed(keys: Iterable<string>, told: boolean): void {
    const touched = [...keys];
    this.#wake(touched);
    if (!told || this.#stop.signal.aborted) return;
    for (const key of touched) this.#touched.add(shortened(key));
    this.#notifying ??= this.#notify();
  }

  async close(): Promise<void> {
    this.#watchers.clear();
    await this.#notifying;
    this.#stop.abort();
    destroy(this.#listener);
    await this.#listening;
  }

  #wake(keys: readonly string[]): void {
    for (const { prefix, wake } of [...this.#watchers]) {
      if (keys.some((key) => key === ANYTHING || key.startsWith(prefix) || prefix.startsWith(key))) queueMicrotask(wake);
    }
  }

  async #notify(): Promise<void> {
    for (let pauseMs = NOTIFY_PAUSE_MS_MIN; this.#touched.size > 0; pauseMs = Math.min(2 * pauseMs, NOTIFY_PAUSE_MS_MAX)) {
      const told = this.#touched.size > PREFIXES_MAX ? [ANYTHING] : [...this.#touched];
      this.#touched.clear();
      try {
        await this.#send(told);
      } catch {
        // the server is away, for longer than commits wait for it; when it is back, watchers look at the log's position
      }
      await sleep(pauseMs);
    }
    this.#notifying = undefined;
  }

  async #send(told: readonly string[]): Promise<void> {
    const payload = JSON.stringify([this.#self, ...told]);
    await this.#connections.use((slot) =>
      slot.query({ name: "mcp_swarm_notify", text: "SELECT pg_notify($1, $2)", values: [this.#target.channel, payload] }),
    );
  }

  async #position(): Promise<string> {
    return await this.#connections.use(async (slot) => {
      const { rows } = await slot.query({ name: "mcp_swarm_position", text: "SELECT pg_current_wal_insert_lsn()", values: [] });
      return String(rows[0]?.[0]);
    });
  }

  /** Keeps a listening connection as long as the store is open, and looks at the log's position. */
  async #listen(): Promise<void> {
    const { signal } = this.#stop;
    let position = "";
    while (!signal.aborted) {
      try {
        if (!this.#listener && this.#target.pooler === "none" && this.mode !== "poll") {
          this.mode = (await this.#startListening()) ? "listen" : "poll";
        } else {
          this.mode ??= "poll";
        }
        const found = await this.#position();
        if (found !== position) this.#wake([ANYTHING]); // also the first time: nothing was heard before
        position = found;
        await sleep(this.mode === "listen" ? POLL_BEHIND_LISTEN_MS : POLL_MS, undefined, { signal, ref: false });
      } catch {
        // the server is away: watchers wake when it is back, and learn of the failure when they read
        position = "";
        if (!signal.aborted) await sleep(RECONNECT_PAUSE_MS, undefined, { ref: false });
      }
    }
  }

  /** False when a notification to oneself does not arrive. */
  async #startListening(): Promise<boolean> {
    let heard = (_works: boolean) => {};
    const probe = new Promise<boolean>((resolve) => {
      heard = resolve;
    });
    const token = `probe ${randomId()}`;
    let mine: pg.Client | undefined;
    const client = await connect(this.#target, () => {
      if (mine && this.#listener === mine) this.#listener = undefined;
    });
    mine = client;
    client.on("notification", ({ payload }) => {
      const [from, ...keys] = parsePayload(payload);
      if (keys[0] === token) heard(true);
      else if (from !== this.#self) this.#wake(keys);
    });
    try {
      await client.query(`LISTEN ${client.escapeIdentifier(this.#target.channel)}`);
      await client.query("SELECT pg_advisory_lock_shared($1, 0)", [this.#target.watchClass]);
      await this.#send([token]);
      const works = await Promise.race([probe, sleep(PROBE_MS_MAX, false, { signal: this.#stop.signal, ref: false })]);
      if (works) {
        this.#listener = client;
        return true;
      }
    } catch (error) {
      destroy(client);
      throw error;
    }
    destroy(client);
    return false;
  }
}

/** The first segments of a key: what a watcher's prefix is compared with. */
function shortened(key: string): string {
  let end = -1;
  for (let depth = 0; depth < TOLD_DEPTH; depth++) {
    const slash = key.indexOf("/", end + 1);
    if (slash < 0) return key;
    end = slash;
  }
  return key.slice(0, end + 1);
}

/** Who sent it and what was touched; a notification that is not ours may mean anything. */
function parsePayload(payload: string | undefined): string[] {
  try {
    const parsed: unknown = JSON.parse(payload ?? "");
    if (Array.isArray(parsed) && parsed.every((part) => typeof part === "string")) return parsed;
  } catch {
    // not ours
  }
  return ["", ANYTHING];
}
