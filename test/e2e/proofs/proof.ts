/** What the tests that run over every server need to know of one. */
import type { Host } from "../../support/host.ts";

export type ToolCall = readonly [tool: string, args: Record<string, unknown>];

/**
 * What earlier answers held, for the arguments of later calls: `%lock.fencingToken` stands for what the last answer with a
 * `lock.fencingToken` had there, and `%^lock.fencingToken` for what the one before it had.
 */
export class Recall {
  readonly #answers: unknown[] = [];

  learn(answer: unknown): void {
    this.#answers.unshift(answer);
  }

  fill<T>(args: T): T {
    if (typeof args === "string" && args.startsWith("%")) return this.#find(args.slice(1).split(".")) as T;
    if (Array.isArray(args)) return args.map((item) => this.fill(item)) as T;
    if (typeof args !== "object" || args === null) return args;
    return Object.fromEntries(Object.entries(args).map(([name, value]) => [name, this.fill(value)])) as T;
  }

  #find([first = "", ...rest]: readonly string[]): unknown {
    const path = [first.replace(/^\^/, ""), ...rest];
    let skipped = first.startsWith("^") ? 1 : 0;
    for (const answer of this.#answers) {
      const found = path.reduce((at, step) => (at as Record<string, unknown> | undefined)?.[step], answer);
      if (found !== undefined && skipped-- === 0) return found;
    }
    throw new Error(`No answer had ${path.join(".")}`);
  }
}

/** One call of a story with a hostile text in it. What `writer` says must succeed; what `reader` says may be refused. */
export type HostileCall = readonly [who: "writer" | "reader", tool: string, args: Record<string, unknown>];

/** A call of a write tool that succeeds and changes something. `@` makes ids of its own for each test. */
export interface WriteProof {
  before: readonly ToolCall[];
  args: Record<string, unknown>;
  /** Input of the same tool that means another call. */
  other: Record<string, unknown>;
  /** Another agent that does its part while the calls are made, until it is disposed. */
  meanwhile?: (store: string, server: string) => Promise<AsyncDisposable>;
}

export interface ServerProof {
  /** Its tools work in a secured swarm alone, of which these are members besides the agents of the tests. */
  members?: readonly string[];
  /** Members of answers that are other ones on each store: keys, what is made with them, and what is measured. */
  varies?: readonly string[];
  /** So that there is something to change: calls before bad ones, by the agent a1. */
  setup: readonly ToolCall[];
  /** Another agent that does its part in the story, until it is disposed. */
  meanwhile?: (store: string, server: string) => Promise<AsyncDisposable>;
  /** Calls that make every tool of the server answer once, in order, by the agent `teller`. */
  story: readonly ToolCall[];
  /** Each write tool. */
  writes: Readonly<Record<string, WriteProof>>;
  /**
   * Calls by which one agent puts a text everywhere that the server takes text, and another reads all of it, and is refused about it;
   * `n` makes ids of its own for each text.
   */
  hostile(text: string, n: number): readonly HostileCall[];
  /** A call that changes something, and one that reads it back from another host. */
  roundTrip(writer: Host, reader: Host, mark: string): Promise<void>;
}
