import { closeSync, constants, type FSWatcher, openSync, watch, writeSync } from "node:fs";

/** How often a process looks for the commits of others when the file system's own events work, and when they do not. */
const POLL_MS = 500;
const POLL_ALONE_MS = 20;

/** What a commit may have touched; undefined when it is not known. */
type Keys = readonly string[] | undefined;

/**
 * Tells waiters, here and in other processes, that something was committed. A committer writes one byte to a file beside
 * the database and the others watch that file: watching the database itself would wake them before the commit shows.
 * Nothing here keeps the process alive.
 */
export class Wake {
  readonly #path: string;
  /** A number that changes when another connection has committed (`PRAGMA data_version`). */
  readonly #dataVersion: () => number;
  readonly #watchers = new Set<{ prefix: string; wake: () => void }>();
  #file: number | undefined;
  #events: FSWatcher | undefined;
  #poll: NodeJS.Timeout | undefined;
  #seen = 0;

  constructor(path: string, dataVersion: () => number) {
    this.#path = path;
    this.#dataVersion = dataVersion;
  }

  /** Whether anyone here waits, so that a commit need not collect its keys for nobody. */
  get watched(): boolean {
    return this.#watchers.size > 0;
  }

  /** To be called after a commit of this process. */
  committed(keys: Keys): void {
    try {
      writeSync(this.#open(), "\n", 0);
    } catch {
      // the commit stands, whatever became of this file: the others' poll finds it
    }
    for (const { prefix, wake } of [...this.#watchers]) {
      if (!keys || keys.some((key) => key.startsWith(prefix) || prefix.startsWith(key))) queueMicrotask(wake);
    }
  }

  watch(prefix: string, wake: () => void): Disposable {
    const watcher = { prefix, wake };
    if (this.#watchers.size === 0) this.#start();
    this.#watchers.add(watcher);
    return {
      [Symbol.dispose]: () => {
        if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.#stop();
      },
    };
  }

  close(): void {
    this.#watchers.clear();
    this.#stop();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  /** Not truncating: that would be an event of its own, before the commit. */
  #open(): number {
    this.#file ??= openSync(this.#path, constants.O_RDWR | constants.O_CREAT, 0o600);
    return this.#file;
  }

  #start(): void {
    this.#open(); // there is a file to watch
    this.#seen = this.#dataVersion();
    try {
      const events = watch(this.#path, { persistent: false }, () => this.#look());
      // the system ran out of watches, or the file went away: the poll goes on alone
      events.on("error", () => this.#pollEvery(POLL_ALONE_MS));
      this.#events = events;
      this.#pollEvery(POLL_MS);
    } catch {
      this.#pollEvery(POLL_ALONE_MS);
    }
  }

  #stop(): void {
    clearInterval(this.#poll);
    this.#events?.close();
    this.#events = undefined;
  }

  #pollEvery(ms: number): void {
    clearInterval(this.#poll);
    this.#poll = setInterval(() => this.#look(), ms).unref();
  }

  /** An event may come from this process's own commit, whose waiters were woken by it. */
  #look(): void {
    const version = this.#dataVersion();
    if (version === this.#seen) return;
    this.#seen = version;
    for (const { wake } of [...this.#watchers]) wake();
  }
}
