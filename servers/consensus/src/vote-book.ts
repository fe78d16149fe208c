import { SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { readVote, type Vote } from "./vote-layer.ts";

/** Participants of all remembered votes together: some MiB. */
const REMEMBERED_VOTERS_MAX = 40_000;

/** Votes by their ids. What never changes of a vote is read once for each process. */
export class VoteBook {
  readonly #votes = new Map<string, Vote>();
  #voters = 0;

  /** @throws SwarmError not_found */
  async find(store: Store, id: string): Promise<Vote> {
    const known = this.#votes.get(id) ?? (await readVote(store, id));
    if (!known) throw noSuchVote(id);
    this.#remember(known);
    return known;
  }

  #remember(vote: Vote): void {
    const { id } = vote.record;
    if (this.#votes.delete(id)) this.#voters -= vote.roll.length;
    this.#votes.set(id, vote);
    this.#voters += vote.roll.length;
    for (const [oldest, { roll }] of this.#votes) {
      if (this.#voters <= REMEMBERED_VOTERS_MAX || oldest === id) return;
      this.#votes.delete(oldest);
      this.#voters -= roll.length;
    }
  }
}

export function noSuchVote(id: string): SwarmError {
  return new SwarmError("not_found", `There is no vote ${id}.`, {
    hint: "list_active_votes shows those that run; ended ones are forgotten after a while.",
  });
}

/** The participant's weight; undefined of one that may not vote. */
export function weightOf({ roll }: Vote, name: string): number | undefined {
  let [from, before] = [0, roll.length];
  while (from < before) {
    const middle = (from + before) >> 1;
    const found = roll[middle];
    if (!found || found.name === name) return found?.weight;
    if (found.name < name) from = middle + 1;
    else before = middle;
  }
  return undefined;
}
