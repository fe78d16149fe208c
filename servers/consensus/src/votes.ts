/** Votes: begun, looked at, listed, called off. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import type { PostedNotice } from "@mcp-swarm/coordination/messages";
import { type Json, newId, PAGE_DEFAULT, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, rootAgent, speakAs } from "@mcp-swarm/identity";
import { prefixRange, type Store } from "@mcp-swarm/store";
import { type BallotRow, isSettled } from "./ballot-record.ts";
import type { Closing, Standing } from "./closing.ts";
import type { Notices } from "./notices.ts";
import type { ResultRecord } from "./result-record.ts";
import type { Signing } from "./signing.ts";
import { electorateOf, ruleFor } from "./tallying.ts";
import { noSuchVote, type VoteBook, weightOf } from "./vote-book.ts";
import {
  activeVotes,
  ballotKey,
  countsOf,
  endedVotes,
  listActive,
  listEnded,
  readBallots,
  readForAgent,
  readState,
  rollChunks,
  rollKey,
  SMALL_VOTE_MAX,
  stateKey,
  untilForgotten,
  type Vote,
  voteKey,
  votesOf,
} from "./vote-layer.ts";
import {
  checkRoll,
  checkSizes,
  delegationCaps,
  proposalHash,
  REVEAL_MS_DEFAULT,
  statusAt,
  TIMEOUT_MS_DEFAULT,
  tallySettings,
  type VoteRecord,
  type Voter,
  type VoteSettings,
  type VoteState,
  type VoteStatus,
} from "./vote-record.ts";

/** Participants that have not voted, and rows of a list that one call reads, however few fit what is asked. */
const WAITED_FOR_NAMED_MAX = 20;
const LISTED_ROWS_MAX = 1_000;
const DAY_MS = 24 * 3_600_000;

type Unset<T> = { readonly [Name in keyof T]?: T[Name] | undefined };

export interface InitiateVote extends Unset<Omit<VoteSettings, "delegation" | "secured">> {
  readonly proposal: Json;
  readonly participants: readonly string[];
  /** Of weighted votes; who has none counts once. */
  readonly weights?: Readonly<Record<string, number>> | undefined;
  /** How long ballots are taken. */
  readonly timeoutMs?: number | undefined;
}

/** What a beginning answers: nothing that time alone changes. */
export type BegunVote = {
  readonly id: string;
  readonly hash: string;
  readonly status: "open";
  readonly participants: number;
  readonly startedAt: number;
  readonly closesAt: number;
  /** How many of the participants were told by message. */
  readonly told: number;
};

/** What the reader did, or still has to do. */
export type Own = "to_cast" | "cast" | "committed" | "to_reveal" | "delegated" | "recused" | "equivocated" | "none";

export interface VoteView {
  readonly record: VoteRecord;
  readonly state: VoteState | undefined;
  readonly status: VoteStatus;
  readonly result: ResultRecord | undefined;
  /** The reader's own row. */
  readonly own: Own;
  readonly row: BallotRow | undefined;
  readonly weight: number | undefined;
  /** Who has voted, committed or recused themselves, and the first of those who have not; the names of small votes only. */
  readonly settled: number;
  readonly waitingFor?: readonly string[];
}

export interface ListVotes {
  /** Only those in which the agent may vote. */
  readonly mine?: boolean | undefined;
  /** Those that ended, the latest first. */
  readonly ended?: boolean | undefined;
  readonly agentId?: string | undefined;
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export type ListedVote = Pick<VoteView, "record" | "state" | "status" | "own">;

export interface VotesOptions {
  book: VoteBook;
  closing: Closing;
  signing: Signing;
  notices: Notices;
  random: Random;
  /** `SWARM_RETENTION_DAYS`: how long a vote is kept after its last deadline; at least a day. */
  retentionDays: number;
}

export class Votes {
  readonly #options: VotesOptions;

  constructor(options: VotesOptions) {
    this.#options = options;
  }

  /** @throws SwarmError invalid_argument (settings that do not fit), failed_precondition (byzantine in an open swarm) */
  async initiate(call: Call, input: InitiateVote): Promise<BegunVote> {
    const { random, notices, retentionDays } = this.#options;
    const { proposal, participants, weights, timeoutMs = TIMEOUT_MS_DEFAULT, ...rest } = input;
    checkSizes(input);
    const roll = checkRoll(participants, weights);
    const settings = this.#settings(rest, weights !== undefined, roll);
    const { caller, store } = call;
    const id = newId("vote", random);
    const eligible = electorateOf({ record: { settings }, roll }, []);
    ruleFor({ settings }).check(tallySettings(settings), { eligible });
    const keptMs = timeoutMs + (settings.revealMs ?? 0) + Math.max(1, retentionDays) * DAY_MS;
    const notice = await notices.began(store, caller, { id, settings, timeoutMs }, roll);
    const { begun, posted } = await call.transact(
      (tx): { begun: BegunVote; posted: PostedNotice | null } => {
        const startedAt = tx.now;
        const chunks = rollChunks(roll);
        const rollStarts = chunks.flatMap(([first]) => (first ? [first.name] : []));
        const unhashed = {
          ...{ id, proposal, initiator: caller.agentId, settings },
          ...{ participants: roll.length, rollStarts },
          ...{ startedAt, timeoutMs, closesAt: startedAt + timeoutMs, keptUntil: startedAt + keptMs },
        };
        const record: VoteRecord = { ...unhashed, hash: proposalHash(unhashed, roll) };
        const ttl = untilForgotten(record, tx.now);
        tx.put(voteKey(id), { ...record, refs: [rollKey(id, 0)] }, ttl);
        for (const [chunk, voters] of chunks.entries()) tx.put(rollKey(id, chunk), { voters }, ttl);
        listActive(tx, { record, roll });
        const { hash, closesAt } = record;
        const told = notice.receivers;
        return {
          begun: { id, hash, status: "open", participants: roll.length, startedAt, closesAt, told },
          posted: notice.post(tx),
        };
      },
      { prefetch: { keys: notice.reads } },
    );
    await notice.finish(store, posted);
    return begun;
  }

  /** @throws SwarmError permission_denied (another's), failed_precondition (over) */
  async cancel(
    call: Call,
    input: { readonly voteId: string; readonly reason?: string | undefined },
  ): Promise<{ id: string; at: number }> {
    const { book, notices } = this.#options;
    const vote = await book.find(call.store, input.voteId);
    const { record } = vote;
    if (record.initiator !== call.caller.agentId) {
      throw new SwarmError("permission_denied", `Vote ${record.id} was begun by ${record.initiator}.`, {
        hint: "Only its initiator cancels a vote; recuse yourself if you will not take part.",
      });
    }
    const notice = await notices.ended(call.store, vote, { because: "cancelled" });
    const { at, posted } = await call.transact(
      (tx): { at: number; posted: PostedNotice | null } => {
        const state = readState(tx, record.id);
        if (tx.now >= record.keptUntil) throw noSuchVote(record.id);
        if (state?.phase === "cancelled" || state?.phase === "closed" || statusAt(record, state, tx.now).overdue) {
          throw new SwarmError("failed_precondition", "The vote is over.", { hint: "get_result tells what came of it." });
        }
        const { reason } = input;
        const cancelled: VoteState = {
          phase: "cancelled",
          at: tx.now,
          because: "cancelled",
          ...(reason === undefined ? {} : { reason }),
        };
        tx.put(stateKey(record.id), cancelled, untilForgotten(record, tx.now));
        listEnded(tx, vote, state, tx.now);
        return { at: tx.now, posted: notice.post(tx) };
      },
      { prefetch: { keys: [stateKey(record.id), ...notice.reads] } },
    );
    await notice.finish(call.store, posted);
    return { id: record.id, at };
  }

  /** @throws SwarmError not_found */
  async get(call: Call, input: { readonly voteId: string; readonly agentId?: string | undefined }): Promise<VoteView> {
    const reader = speakAs(call.caller, input.agentId);
    const vote = await this.#options.book.find(call.store, input.voteId);
    const standing = await this.#options.closing.settle(call.store, vote);
    return this.#view(call.store, vote, standing, reader);
  }

  async #view(store: Store, vote: Vote, { state, result, now }: Standing, reader: string): Promise<VoteView> {
    const { record, roll } = vote;
    const row = (await store.get(ballotKey(record.id, reader)))?.value as BallotRow | undefined;
    const { status } = statusAt(record, state, now);
    const weight = weightOf(vote, reader);
    const base = { record, state, status, result, own: ownOf(weight, row, status), row, weight };
    if (record.participants > SMALL_VOTE_MAX) return { ...base, settled: (await countsOf(store, record.id)).settled };
    const rows = await readBallots(store, record.id);
    const settled = new Set(rows.filter(isSettled).map(({ voter }) => voter));
    const waitingFor = roll.map(({ name }) => name).filter((name) => !settled.has(name));
    return { ...base, settled: settled.size, waitingFor: waitingFor.slice(0, WAITED_FOR_NAMED_MAX) };
  }

  /** What differs when something that `get` shows differs. */
  async version(store: Store, voteId: string): Promise<{ version: string; againInMs?: number }> {
    const vote = await this.#options.book.find(store, voteId);
    const { record } = vote;
    const { state, result, now } = await this.#options.closing.settle(store, vote);
    const rows = record.participants > SMALL_VOTE_MAX ? undefined : await readBallots(store, record.id);
    const counts = rows
      ? rows.map(({ revisions = 0, ballot, delegated, ...row }) => [
          revisions,
          !!ballot,
          delegated?.to ?? "",
          isSettled({ ...row, ...(ballot ? { ballot } : {}) }),
        ])
      : await countsOf(store, record.id);
    const version = JSON.stringify([state?.phase, result?.hash, counts]);
    if (result || state?.phase === "cancelled") return { version };
    return { version, againInMs: Math.max(0, (state?.revealUntil ?? record.closesAt) - now) };
  }

  /** The reader's own first, each part in order of the deadline; ended ones the latest first. */
  async list(call: Call, input: ListVotes = {}): Promise<{ votes: ListedVote[]; nextCursor?: string }> {
    const { mine = false, ended = false, limit = PAGE_DEFAULT } = input;
    const reader = speakAs(call.caller, input.agentId);
    const scope = { list: JSON.stringify(["votes", mine, ended, reader]), prefix: "vote-" };
    let after = input.cursor === undefined ? undefined : decodeCursor(scope, input.cursor);
    const own = votesOf(reader).prefix;
    const walks = ended ? [endedVotes.prefix] : [own, activeVotes.prefix];
    const votes: ListedVote[] = [];
    let looked = 0;
    for (const prefix of walks) {
      if (after !== undefined && !after.startsWith(prefix)) {
        if (prefix === own) continue; // the cursor is behind this walk
        after = undefined;
      }
      for (;;) {
        const page = await this.#page(call.store, prefix, reader, limit, { after, reverse: ended });
        for (const { key, listed, weight } of page.found) {
          after = key;
          looked += 1;
          const before = prefix === activeVotes.prefix && weight !== undefined && isSmall(listed?.record);
          const asked = !mine || weight !== undefined;
          if (listed && asked && !before) votes.push(listed);
          if (votes.length === limit || looked === LISTED_ROWS_MAX) return { votes, nextCursor: encodeCursor(scope, key) };
        }
        if (page.last === undefined) break;
        after = page.last;
      }
      after = undefined;
    }
    return { votes };
  }

  async #page(store: Store, prefix: string, reader: string, limit: number, at: { after: string | undefined; reverse: boolean }) {
    const range = prefixRange(prefix, limit, { reverse: at.reverse, ...(at.after === undefined ? {} : { after: at.after }) });
    const pointers = await store.scan(range);
    const ids = pointers.map(({ value }) => (value as { id: string }).id);
    const [votes, rows, now] = await Promise.all([
      readForAgent(store, ids, reader),
      ids.length === 0 ? [] : store.getMany(ids.flatMap((id) => [stateKey(id), ballotKey(id, reader)])),
      store.now(),
    ]);
    const found = pointers.map(({ key }, index): { key: string; weight?: number | undefined; listed?: ListedVote } => {
      const vote = votes.get(ids[index] ?? "");
      if (!vote) return { key }; // forgotten just now
      const { record, weight } = vote;
      const state = rows[2 * index]?.value as VoteState | undefined;
      const row = rows[2 * index + 1]?.value as BallotRow | undefined;
      const { status, overdue } = statusAt(record, state, now);
      // one that is overdue is being ended
      return overdue ? { key, weight } : { key, weight, listed: { record, state, status, own: ownOf(weight, row, status) } };
    });
    return { found, last: pointers.length === limit ? pointers.at(-1)?.key : undefined };
  }

  #settings(
    input: Unset<Omit<VoteSettings, "delegation" | "secured">>,
    hasWeights: boolean,
    roll: readonly Voter[],
  ): VoteSettings {
    const { algorithm = "majority", sealed, revealMs, revisable, trustNames, ...rest } = input;
    if (hasWeights && algorithm !== "weighted") {
      throw new SwarmError("invalid_argument", 'Field "weights" goes with algorithm "weighted" alone.');
    }
    if (revealMs !== undefined && !sealed) throw new SwarmError("invalid_argument", 'Field "revealMs" goes with sealed alone.');
    if (trustNames && algorithm !== "byzantine") {
      throw new SwarmError("invalid_argument", 'Field "trustNames" goes with algorithm "byzantine" alone.');
    }
    if (revisable && algorithm === "byzantine") {
      throw new SwarmError("invalid_argument", "A byzantine vote cannot be revisable: two different ballots are equivocation.");
    }
    if (algorithm === "byzantine" && !trustNames && !this.#options.signing.secured) {
      throw new SwarmError(
        "failed_precondition",
        "A byzantine vote needs signed ballots, and in an open swarm nobody can sign.",
        {
          hint: "Secure the swarm (the security server tells how); or say trustNames: true, and take all names on trust.",
        },
      );
    }
    if (algorithm === "byzantine" && !trustNames && new Set(roll.map(({ name }) => rootAgent(name))).size < roll.length) {
      throw new SwarmError("invalid_argument", 'Field "participants" names an agent and its subagents, or several of them.', {
        hint: "They sign with one key, so one that lies casts several ballots: name each agent once, or say trustNames: true.",
      });
    }
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    return {
      ...given,
      algorithm,
      ...(this.#options.signing.secured ? { secured: true } : {}),
      delegation: delegationCaps(roll),
      ...(sealed ? { sealed, revealMs: revealMs ?? REVEAL_MS_DEFAULT } : {}),
      ...(revisable ? { revisable } : {}),
      ...(trustNames ? { trustNames } : {}),
    };
  }
}

/** Whether its participants have an index of their own of it: then it was shown among the reader's own votes. */
function isSmall(record: VoteRecord | undefined): boolean {
  return record !== undefined && record.participants <= SMALL_VOTE_MAX;
}

function ownOf(weight: number | undefined, row: BallotRow | undefined, status: VoteStatus): Own {
  if (weight === undefined) return "none";
  if (row?.equivocation) return "equivocated";
  if (row?.recused) return "recused";
  if (row?.ballot) return "cast";
  if (row?.commitment) return status === "revealing" ? "to_reveal" : "committed";
  if (row?.delegated) return "delegated";
  return status === "open" ? "to_cast" : "none";
}
