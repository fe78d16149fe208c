/** What a context is made of, before anything is shortened: what is known of each thing, the most important first. */
import type { Json, JsonObject } from "@mcp-swarm/core";

/** One text or value that may be shortened, because `readOn` reads all of it. */
export type SourcePart = {
  readonly name: string;
  readonly value: Json;
  /**
   * The call that reads on from a place in the value's text: its characters when it is a text, else its JSON. Holds checked ids
   * and numbers only.
   */
  readonly readOn: (offset: number) => string;
};

export type SourceKind = "task" | "workflow" | "state" | "message";

/** A task, a workflow, a value or a message. */
export type Source = {
  readonly kind: SourceKind;
  readonly id: string;
  /** The call that reads it, with `<id>` where its id goes. */
  readonly reading: string;
  /** Short; never shortened. */
  readonly facts: JsonObject;
  /** How much room its parts get beside those of others: twice the weight, twice the room. */
  readonly weight: number;
  readonly parts: readonly SourcePart[];
};

/** What was found, and what was not even looked at. */
export type Sources = {
  readonly sources: readonly Source[];
  readonly unread: readonly Unread[];
};

/** Things beyond what one call reads. */
export type Unread = { readonly what: string; readonly why: string; readonly readOn: string };
