/** What the tests that run over every server need to know of one. */
import type { Host } from "../../support/host.ts";

export type ToolCall = readonly [tool: string, args: Record<string, unknown>];

/** A call of a write tool that succeeds and changes something. `@` makes ids of its own for each test. */
export interface WriteProof {
  before: readonly ToolCall[];
  args: Record<string, unknown>;
  /** Input of the same tool that means another call. */
  other: Record<string, unknown>;
}

export interface ServerProof {
  /** So that there is something to change: calls before bad ones, by the agent a1. */
  setup: readonly ToolCall[];
  /** Calls that make every tool of the server answer once, in order, by the agent `teller`. */
  story: readonly ToolCall[];
  /** Each write tool. */
  writes: Readonly<Record<string, WriteProof>>;
  /** A call that changes something, and one that reads it back from another host. */
  roundTrip(writer: Host, reader: Host, mark: string): Promise<void>;
}
