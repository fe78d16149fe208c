import { ProtocolError, ProtocolErrorCode } from "@modelcontextprotocol/server";

/** Most resources that one connection, or one listen stream over HTTP, is told about. */
export const SUBSCRIPTIONS_MAX = 100;

interface Held {
  uses: number;
  watch: Promise<Disposable>;
}

/**
 * What one connection is told about: a watch for each URI, however often the connection asked for it. All end with `close`, which
 * the connection's end calls.
 */
export class Subscriptions {
  readonly #open: (uri: string, signal: AbortSignal, onChange: () => void) => Promise<Disposable>;
  readonly #notify: (uri: string) => void;
  readonly #held = new Map<string, Held>();
  readonly #ended = new AbortController();

  /** `open` makes one watch and refuses who may not have it; `notify` tells the connection. */
  constructor(
    open: (uri: string, signal: AbortSignal, onChange: () => void) => Promise<Disposable>,
    notify: (uri: string) => void,
  ) {
    this.#open = open;
    this.#notify = notify;
  }

  /**
   * From when this resolves, the connection is told of each change, until `remove` was called as often.
   * @throws ProtocolError when there is no such resource, the caller may not watch it, or there are too many
   */
  async add(uri: string): Promise<void> {
    if (this.#ended.signal.aborted) throw new ProtocolError(ProtocolErrorCode.InternalError, "The connection has ended.");
    let held = this.#held.get(uri);
    if (!held) {
      if (this.#held.size >= SUBSCRIPTIONS_MAX) throw tooMany();
      held = { uses: 0, watch: this.#open(uri, this.#ended.signal, () => this.#notify(uri)) };
      this.#held.set(uri, held);
    }
    held.uses += 1;
    try {
      await held.watch;
    } catch (error) {
      if (this.#held.get(uri) === held) this.#held.delete(uri);
      throw error;
    }
  }

  /**
   * Adds those that exist and that the caller may watch, and answers which they were.
   * @throws ProtocolError when there are too many, or when it could not be found out; then none was added
   */
  async addPermitted(uris: readonly string[]): Promise<string[]> {
    const asked = [...new Set(uris)];
    if (asked.length > SUBSCRIPTIONS_MAX) throw tooMany();
    const added: string[] = [];
    try {
      for (const uri of asked) {
        try {
          await this.add(uri);
          added.push(uri);
        } catch (error) {
          if (!isRefusal(error)) throw error;
        }
      }
      return added;
    } catch (error) {
      for (const uri of added) this.remove(uri);
      throw error;
    }
  }

  remove(uri: string): void {
    const held = this.#held.get(uri);
    if (!held) return;
    held.uses -= 1;
    if (held.uses > 0) return;
    this.#held.delete(uri);
    dispose(held);
  }

  close(): void {
    this.#ended.abort();
    for (const held of this.#held.values()) dispose(held);
    this.#held.clear();
  }
}

function dispose({ watch }: Held): void {
  watch.then(
    (opened) => opened[Symbol.dispose](),
    () => {}, // it never opened; who asked for it was told
  );
}

function tooMany(): ProtocolError {
  return new ProtocolError(
    ProtocolErrorCode.InvalidParams,
    `One connection is told about at most ${SUBSCRIPTIONS_MAX} resources. Unsubscribe from some first.`,
    { code: "limit_exceeded" },
  );
}

/** Codes of refusals that concern one URI and this caller, and no others. */
const REFUSALS: ReadonlySet<unknown> = new Set(["permission_denied", "unauthenticated", "invalid_argument"]);

function isRefusal(error: unknown): boolean {
  if (!(error instanceof ProtocolError)) return false;
  const data = error.data as { code?: unknown; uri?: unknown } | undefined;
  return data?.uri !== undefined || REFUSALS.has(data?.code);
}
