/**
 * What participants are told through agent-comm: that a vote began, that its sealed ballots are to be revealed, and how it ended; one
 * message each to those who use messages.
 */
import type { Addressees, Notice, Postbox, PostedNotice } from "@mcp-swarm/coordination/messages";
import type { JsonObject } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { Outcome } from "./result-record.ts";
import type { Vote } from "./vote-layer.ts";
import { REVEAL_MS_DEFAULT, type VoteRecord, type Voter } from "./vote-record.ts";

/** agent-comm's type of messages about votes. */
const MESSAGE_TYPE = "vote";

/** What the beginning of a vote takes from its initiator's rate of messages at most; one for each receiver below. */
const COST_MAX = 100;

/** A notice that is posted in the transaction that decides what it tells. */
export interface Ready {
  /** How many agents it goes to. */
  readonly receivers: number;
  /** Keys that posting reads. */
  readonly reads: readonly string[];
  post(tx: Transaction): PostedNotice | null;
  /** Delivers to those whom the transaction left over. */
  finish(store: Store, posted: PostedNotice | null): Promise<void>;
}

export interface NoticesOptions {
  postbox: Postbox;
  /** Told of receivers that get theirs later, from whichever agent-comm server comes first. */
  onError: (error: unknown) => void;
}

export class Notices {
  readonly #options: NoticesOptions;

  constructor(options: NoticesOptions) {
    this.#options = options;
  }

  /** To all participants but the initiator itself. */
  async began(
    store: Store,
    caller: Caller,
    vote: Pick<VoteRecord, "id" | "settings" | "timeoutMs">,
    roll: readonly Voter[],
  ): Promise<Ready> {
    const { id: voteId, settings, timeoutMs } = vote;
    const { algorithm, method, sealed } = settings;
    const payload = { event: "vote_began", voteId, initiator: caller.agentId, algorithm, method, sealed, timeoutMs };
    const receivers = roll.map(({ name }) => name).filter((name) => name !== caller.agentId);
    return this.#ready(store, voteId, receivers, { from: caller.agentId, verified: caller.verified }, payload, COST_MAX);
  }

  /** To all participants: the casting is over, and whoever committed has so long to reveal. */
  async revealing(store: Store, { record, roll }: Vote): Promise<Ready> {
    const { id: voteId, initiator, settings } = record;
    const payload = { event: "vote_revealing", voteId, revealMs: settings.revealMs ?? REVEAL_MS_DEFAULT };
    const receivers = roll.map(({ name }) => name);
    return this.#ready(store, voteId, receivers, { from: initiator, verified: false }, payload, 0);
  }

  /** To all participants and the initiator, in the initiator's name: nobody in particular ends a vote. */
  async ended(
    store: Store,
    { record, roll }: Vote,
    { because, tally }: Pick<Outcome, "because"> & { tally?: Outcome["tally"] },
  ): Promise<Ready> {
    const voteId = record.id;
    const payload = { event: "vote_ended", voteId, because, outcome: tally?.outcome, winners: tally && [...tally.winners] };
    const receivers = [...new Set([...roll.map(({ name }) => name), record.initiator])];
    return this.#ready(store, voteId, receivers, { from: record.initiator, verified: false }, payload, 0);
  }

  async #ready(
    store: Store,
    voteId: string,
    agentIds: readonly string[],
    sender: { from: string; verified: boolean },
    payload: JsonObject,
    costMax: number,
  ): Promise<Ready> {
    const { postbox, onError } = this.#options;
    const addressees: Addressees = await postbox.addressees(store, agentIds);
    const audience: Notice["audience"] = { kind: "vote", name: voteId };
    const draft = postbox.draft({ ...sender, audience, messageType: MESSAGE_TYPE, payload });
    const cost = Math.min(costMax, addressees.receivers.length);
    return {
      receivers: addressees.receivers.length,
      reads: addressees.receivers.length === 0 ? [] : postbox.reads(draft),
      post: (tx) => postbox.post(tx, draft, addressees, { cost }) ?? null,
      // the vote is written: what is left of the notice is nothing that may fail it
      finish: async (store, posted) => {
        if (posted?.inParts) await postbox.finish(store, posted).catch(onError);
      },
    };
  }
}
