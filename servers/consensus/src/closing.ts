/**
 * How a vote ends. Nothing runs for it: whoever looks next writes what has become so. First the state, from which on no ballot is taken;
 * then, from rows that no longer change, the result. Whoever dies in between leaves it to the next.
 */
import { type Attempt, waitFor } from "@mcp-swarm/coordination";
import { assert, type Clock } from "@mcp-swarm/core";
import type { Store, Transaction } from "@mcp-swarm/store";
import type { BallotRow } from "./ballot-record.ts";
import { hashOf } from "./canonical.ts";
import type { Notices } from "./notices.ts";
import { asJson, type ResultRecord } from "./result-record.ts";
import { resultPayload, type Signing } from "./signing.ts";
import { decidedBy, electorateOf, outcomeOf, validRows } from "./tallying.ts";
import { noSuchVote } from "./vote-book.ts";
import {
  ballotKey,
  COUNT_SHARDS,
  changeKey,
  changesIn,
  countsOf,
  listEnded,
  moveActive,
  readBallots,
  readResult,
  readState,
  resultKey,
  SMALL_VOTE_MAX,
  stateKey,
  untilForgotten,
  type Vote,
} from "./vote-layer.ts";
import { type EndedBecause, REVEAL_MS_DEFAULT, statusAt, type VoteRecord, type VoteState } from "./vote-record.ts";

/** All ballots of a large vote are looked at after each of so many parts of them, and after the last: it may end so much later than it could. */
const LOOKS_PER_VOTE = 100;
/** How often a waiting call looks whether the vote is decided: whoever cast the deciding ballot may have died before it said so. */
const LOOK_EVERY_MS = 2_000;
/** Deadline, reveal deadline, result, and once more to read it. */
const STEPS_MAX = 6;

/** Where a vote is. `result` is there exactly when it is closed and not cancelled. */
export interface Standing {
  readonly state: VoteState | undefined;
  readonly result: ResultRecord | undefined;
  /** The engine's clock. */
  readonly now: number;
}

/** Of a large vote: its part of the counts, and how many that part has with this one. */
export interface Counted {
  readonly shard: number;
  readonly nth: number;
}

export interface ClosingOptions {
  clock: Clock;
  signing: Signing;
  notices: Notices;
}

export class Closing {
  readonly #options: ClosingOptions;

  constructor(options: ClosingOptions) {
    this.#options = options;
  }

  /** Where the vote is, once all that is due has been written. */
  async settle(store: Store, vote: Vote): Promise<Standing> {
    const { record } = vote;
    let standing: Standing | undefined;
    for (let step = 0; step < STEPS_MAX; step++) {
      const [[stateRow, resultRow], now] = await Promise.all([
        store.getMany([stateKey(record.id), resultKey(record.id)]),
        store.now(),
      ]);
      if (now >= record.keptUntil) throw noSuchVote(record.id);
      const state = stateRow?.value as VoteState | undefined;
      const result = resultRow?.value as ResultRecord | undefined;
      standing = { state, result, now };
      if (isOver(standing)) return standing;
      if (state?.phase === "closed") await this.#count(store, vote, state);
      else if (statusAt(record, state, now).overdue) await this.#end(store, vote, state, "deadline");
      else return standing;
    }
    assert(standing, "there is at least one step");
    return standing; // the time of a transaction may still lie before the deadline
  }

  /** After a ballot, a recusal or a reveal: ends the vote when nothing that may come can change its outcome. */
  async follow(store: Store, vote: Vote, counted: Counted): Promise<void> {
    if (await this.#mayBeOver(store, vote, counted)) await this.look(store, vote);
  }

  /** Ends the vote when it is decided, or everybody has committed or revealed. */
  async look(store: Store, vote: Vote): Promise<void> {
    const { record } = vote;
    const [stateRow, changeRow] = await store.getMany([stateKey(record.id), changeKey(record.id)]);
    const state = stateRow?.value as VoteState | undefined;
    const takesNone = state && state.phase !== "revealing";
    const mayChange = !state && record.settings.revisable;
    if (takesNone || mayChange) return;
    const changes = changesIn(changeRow);
    const rows = await readBallots(store, record.id);
    const because = record.settings.sealed ? sealedEnd(vote, rows, state) : await this.#decision(vote, rows);
    if (because === undefined) return;
    await this.#end(store, vote, state, because, changes);
    await this.settle(store, vote);
  }

  /**
   * The result, or where the vote is when `waitMs` is over. A wait ends with the casting of a sealed vote too, and is none for a reader who
   * has something to reveal: it would wait until that is too late.
   */
  async wait(store: Store, vote: Vote, reader: string, waiting: Waiting): Promise<Standing> {
    const { record } = vote;
    const whileCasting = record.settings.sealed === true && (await store.get(stateKey(record.id))) === undefined;
    let last: Standing | undefined;
    const ended = await waitFor<Standing>({
      store,
      clock: this.#options.clock,
      prefixes: [stateKey(record.id), resultKey(record.id)],
      ...waiting,
      attempt: async (): Promise<Attempt<Standing>> => {
        last = await this.settle(store, vote);
        if (!isOver(last)) {
          await this.#lookAgain(store, vote);
          last = await this.settle(store, vote);
        }
        if (isOver(last)) return { value: last };
        if (last.state?.phase === "revealing" && (whileCasting || (await hasToReveal(store, record, reader))))
          return { value: last };
        const dueAt = last.state?.revealUntil ?? record.closesAt;
        return { againInMs: Math.max(0, Math.min(LOOK_EVERY_MS, dueAt - last.now)) };
      },
    });
    assert(last, "a wait attempts at least once");
    return ended ?? last;
  }

  /** Of a large vote only when more have voted than at the last look of this process. */
  async #lookAgain(store: Store, vote: Vote): Promise<void> {
    const { record } = vote;
    if (record.participants > SMALL_VOTE_MAX) {
      const { settled, revealed } = await countsOf(store, record.id);
      if (this.#looked.get(record.id) === settled + revealed) return;
      this.#looked.set(record.id, settled + revealed);
      const [oldest] = this.#looked.keys();
      if (this.#looked.size > LOOKED_KEPT_MAX && oldest !== undefined) this.#looked.delete(oldest);
    }
    await this.look(store, vote);
  }

  readonly #looked = new Map<string, number>();

  async #mayBeOver(store: Store, { record }: Vote, { nth, shard }: Counted): Promise<boolean> {
    const { participants, settings } = record;
    if (participants <= SMALL_VOTE_MAX) return true;
    const every = Math.ceil(participants / LOOKS_PER_VOTE);
    // each part begins at another place, so that parts that grow alike do not all look at once
    const turn = nth + Math.floor((shard * every) / COUNT_SHARDS);
    if (!settings.sealed && turn % every === 0) return true;
    const [{ settled, revealed }, changes] = await Promise.all([countsOf(store, record.id), store.get(changeKey(record.id))]);
    // whoever recused itself has settled and will not reveal
    if (revealed > 0) return revealed + changesIn(changes) >= settled;
    return settled >= participants;
  }

  /** Signatures are checked before a vote is ended early, so that a forged row does not end it. */
  async #decision(vote: Vote, rows: readonly BallotRow[]): Promise<EndedBecause | undefined> {
    if (!decidedBy(vote, rows)) return undefined;
    return decisionOf(vote, await validRows(vote, rows, this.#options.signing));
  }

  /** Writes the state after `seen`, unless another did, or what it was reckoned from has changed. */
  async #end(store: Store, vote: Vote, seen: VoteState | undefined, because: EndedBecause, changes?: number): Promise<void> {
    const { record } = vote;
    const notice = record.settings.sealed && !seen ? await this.#options.notices.revealing(store, vote) : undefined;
    const posted = await store.transact(
      (tx) => {
        const state = readState(tx, record.id);
        if (state && state.phase !== "revealing") return null;
        if (because === "deadline" && !statusAt(record, state, tx.now).overdue) return null;
        if (changes !== undefined && changesIn(tx.get(changeKey(record.id))) !== changes) return null;
        if (state ? because === "all_voted" : because === "all_revealed") return null;
        if (notice && !state) {
          beginReveal(tx, vote, because);
          return notice.post(tx);
        }
        tx.put(stateKey(record.id), { ...state, phase: "closed", at: tx.now, because }, untilForgotten(record, tx.now));
        return null;
      },
      { prefetch: { keys: [stateKey(record.id), changeKey(record.id), ...(notice?.reads ?? [])] } },
    );
    await notice?.finish(store, posted);
  }

  async #count(store: Store, vote: Vote, state: VoteState): Promise<void> {
    const { signing, notices } = this.#options;
    const { record } = vote;
    const outcome = await outcomeOf(vote, await readBallots(store, record.id), state, signing);
    const hash = hashOf(asJson(outcome));
    const signed = await signing.signOwn("vote-result", resultPayload(record, hash));
    const result: ResultRecord = {
      outcome,
      hash,
      ...(signed ? { countedBy: signed.by, signature: signed.signature } : {}),
    };
    const notice = await notices.ended(store, vote, outcome);
    const posted = await store.transact(
      (tx) => {
        if (readResult(tx, record.id)) return null;
        tx.put(resultKey(record.id), { ...result, outcome: asJson(outcome) }, untilForgotten(record, tx.now));
        listEnded(tx, vote, state, tx.now);
        return notice.post(tx);
      },
      { prefetch: { keys: [resultKey(record.id), ...notice.reads] } },
    );
    await notice.finish(store, posted);
  }
}

/** Votes whose last look this process remembers. */
const LOOKED_KEPT_MAX = 1_000;

export interface Waiting {
  /** 0 to WAIT_MS_MAX. */
  readonly waitMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((waitedMs: number) => void) | undefined;
}

function isOver({ state, result }: Standing): boolean {
  return result !== undefined || state?.phase === "cancelled";
}

/** No more commitments; choices from now on. */
function beginReveal(tx: Transaction, { record }: Vote, because: EndedBecause): void {
  const revealUntil = tx.now + (record.settings.revealMs ?? REVEAL_MS_DEFAULT);
  const state: VoteState = { phase: "revealing", at: tx.now, because, revealUntil };
  tx.put(stateKey(record.id), state, untilForgotten(record, tx.now));
  moveActive(tx, record, revealUntil);
}

/** Whether a commitment of the agent's own still waits for its opening. */
async function hasToReveal(store: Store, { id }: VoteRecord, agentId: string): Promise<boolean> {
  const row = (await store.get(ballotKey(id, agentId)))?.value as BallotRow | undefined;
  return row?.commitment !== undefined && !row.ballot && !row.equivocation;
}

/** Why a vote that is not sealed is over before its deadline; undefined while it is not. All rows are valid. */
function decisionOf(vote: Vote, valid: readonly BallotRow[]): "all_voted" | "decided" | undefined {
  if (!decidedBy(vote, valid)) return undefined;
  const voted = new Set(valid.flatMap(({ voter, ballot }) => (ballot ? [voter] : [])));
  return [...electorateOf(vote, valid).keys()].every((name) => voted.has(name)) ? "all_voted" : "decided";
}

/**
 * Whether a vote with these rows, which no longer change, ends as its state says. What was decided by some of the final ballots is decided
 * by all of them, so an early end can be proven after it.
 */
export async function endsAs(vote: Vote, rows: readonly BallotRow[], state: VoteState, signing: Signing): Promise<boolean> {
  const { settings, startedAt, timeoutMs } = vote.record;
  const { phase, at, because, revealUntil } = state;
  const closesAt = startedAt + timeoutMs;
  if (phase !== "closed") return false;
  if (settings.sealed) {
    if (revealUntil === undefined) return false;
    const castUntil = revealUntil - (settings.revealMs ?? REVEAL_MS_DEFAULT);
    const castingOver = castUntil >= closesAt || (!settings.revisable && sealedEnd(vote, rows, undefined) === "all_voted");
    if (!castingOver) return false;
    if (because === "deadline") return at >= revealUntil;
    return because === "all_revealed" && sealedEnd(vote, rows, state) === because;
  }
  if (because === "deadline") return at >= closesAt;
  if (settings.revisable) return false;
  const decision = decisionOf(vote, await validRows(vote, rows, signing));
  // the last may have voted after it was decided
  return decision !== undefined && (because === decision || because === "decided");
}

/** Why the phase of a sealed vote is over before its deadline; undefined while it is not. */
function sealedEnd(vote: Vote, rows: readonly BallotRow[], state: VoteState | undefined): EndedBecause | undefined {
  if (state) {
    const committed = rows.filter(({ commitment, equivocation }) => commitment && !equivocation);
    return committed.every(({ ballot }) => ballot) ? "all_revealed" : undefined;
  }
  const committed = new Set(rows.flatMap(({ voter, commitment }) => (commitment ? [voter] : [])));
  const eligible = [...electorateOf(vote, rows).keys()];
  return eligible.length > 0 && eligible.every((name) => committed.has(name)) ? "all_voted" : undefined;
}
