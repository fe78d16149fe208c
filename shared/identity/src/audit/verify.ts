/** Finds what was changed in the log after it was written. Needs nothing but the rows and the public keys of those who signed checkpoints. */
import { SwarmError } from "@mcp-swarm/core";
import { type Entry, prefixRange, type Snapshot, type Store } from "@mcp-swarm/store";
import { CHECKPOINT_PREFIX, type Checkpoint, checkpointRowOf, type Head, noteHash, parseCheckpoint } from "./checkpoint.ts";
import { AUDIT_PREFIX, hashOf, placeOf, rowOf } from "./entry.ts";
import { isSignedBy, type Note, parseNote } from "./note.ts";
import { Tree } from "./tree.ts";

/** Rows that are read at once. */
const PAGE = 1_000;

/**
 * `damaged`: the store cannot read it. `edited`: it is not what its hash was made of. `rewritten`: it was edited and hashed anew, with all
 * that follow up to the next checkpoint. `missing`: it was deleted. `inserted`: it was never written. `checkpoint_edited`,
 * `checkpoint_missing`; `checkpoint_forged`: not signed by a key that is known; `checkpoint_wrong`: signed, and not true of the entries.
 * `copy_forged`; `copy_lost`: a checkpoint of which there is a copy is no longer in the store.
 */
export type Tampering =
  | "damaged"
  | "edited"
  | "rewritten"
  | "missing"
  | "inserted"
  | "checkpoint_edited"
  | "checkpoint_missing"
  | "checkpoint_forged"
  | "checkpoint_wrong"
  | "copy_forged"
  | "copy_lost";

export interface BadRow {
  readonly what: Tampering;
  /** The row's key; of one that is missing or damaged, where that shows. Copies have none. */
  readonly key?: string;
  readonly chain?: string;
  readonly seq?: number;
  /** One plain sentence. */
  readonly details: string;
}

export interface AuditReport {
  readonly ok: boolean;
  readonly rows: number;
  readonly chains: number;
  readonly checkpoints: number;
  /** Entries that no checkpoint covers: of them only a change that leaves the rest of their chain as it was is found. */
  readonly uncovered: number;
  /** The first bad entry in order of time; when there is none, the first bad checkpoint; then the first bad copy. */
  readonly firstBad?: BadRow;
}

export interface VerifyOptions {
  readonly store: Pick<Store, "snapshot">;
  /** First line of every checkpoint. */
  readonly origin: string;
  /**
   * The Ed25519 key (base64url) that an agent signed with, now or in the past; undefined when it never had one with this id
   * (`keyIdOf` gives the id of a key).
   */
  readonly publicKey: (agentId: string, keyId: string) => Promise<string | undefined> | string | undefined;
  /** Checkpoints that were kept outside the store. */
  readonly copies?: readonly string[];
}

/** @throws SwarmError unavailable */
export async function verifyAuditLog(options: VerifyOptions): Promise<AuditReport> {
  return await options.store.snapshot(async (view) => {
    const keys = new KnownKeys(options.publicKey);
    const checkpoints = await readCheckpoints(view, options.origin, keys);
    const chains = new Chains(checkpoints.sound);
    await chains.read(view);
    const firstBad =
      chains.firstBad ??
      checkpoints.firstBad ??
      chains.wrongCheckpoint ??
      (await firstBadCopy(options, checkpoints.hashes, keys));
    return {
      ok: firstBad === undefined,
      rows: chains.rows,
      chains: chains.size,
      checkpoints: checkpoints.count,
      uncovered: chains.uncovered,
      ...(firstBad ? { firstBad } : {}),
    };
  });
}

class KnownKeys {
  readonly #ask: VerifyOptions["publicKey"];
  readonly #known = new Map<string, string | undefined>();

  constructor(ask: VerifyOptions["publicKey"]) {
    this.#ask = ask;
  }

  /** Whether the key that is said to have signed the note is known, and whether it did. */
  async check(note: Note): Promise<"signed" | "changed" | "unknown"> {
    const { name, keyId } = note.signature;
    const id = `${name} ${keyId}`;
    if (!this.#known.has(id)) this.#known.set(id, await this.#ask(name, keyId));
    const key = this.#known.get(id);
    if (key === undefined) return "unknown";
    return isSignedBy(note, key) ? "signed" : "changed";
  }
}

/** All rows under a prefix. A row that the store cannot read ends them: `damaged` is told where. */
async function* rowsOf(view: Snapshot, prefix: string, damaged: (bad: BadRow) => void): AsyncGenerator<Entry> {
  let after: string | undefined;
  for (let limit = PAGE; ; ) {
    let page: Entry[];
    try {
      page = await view.scan(prefixRange(prefix, limit, after === undefined ? {} : { after }));
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code !== "internal") throw error;
      if (limit === 1) {
        const details = `${error.message} It is the one ${after === undefined ? "at the front" : `after ${after}`}.`;
        return damaged({ what: "damaged", key: `${after ?? prefix}\0`, details });
      }
      limit = Math.ceil(limit / 2); // what comes before it can still be read
      continue;
    }
    yield* page;
    after = page.at(-1)?.key;
    if (after === undefined || page.length < limit) return;
  }
}

// ── checkpoints ──

type Sound = Pick<Checkpoint, "size" | "root" | "heads"> & { readonly key: string; readonly number: number };

async function readCheckpoints(view: Snapshot, origin: string, keys: KnownKeys) {
  const sound: Sound[] = [];
  const hashes = new Set<string>();
  let firstBad: BadRow | undefined;
  const bad = (row: BadRow) => {
    firstBad ??= row;
  };
  let count = 0;
  let before: { number: number; hash: string | undefined } = { number: 0, hash: undefined };
  for await (const entry of rowsOf(view, CHECKPOINT_PREFIX, bad)) {
    count += 1;
    const { key } = entry;
    const row = checkpointRowOf(entry);
    if (!row) {
      bad({ what: "checkpoint_edited", key, details: "It does not hold a checkpoint as it was written." });
      before = { number: before.number + 1, hash: undefined };
      continue;
    }
    const { number, note, checkpoint, source } = row;
    if (number !== before.number + 1) {
      bad({ what: "checkpoint_missing", key, details: `Checkpoint ${before.number + 1} was deleted.` });
    } else if (checkpoint.after !== before.hash) {
      bad({
        what: "checkpoint_missing",
        key,
        details: "It does not follow the checkpoint before it: one was deleted or replaced.",
      });
    }
    const state = checkpoint.origin === origin ? await keys.check(note) : "unknown";
    if (state === "signed") sound.push({ key, number, size: checkpoint.size, root: checkpoint.root, heads: checkpoint.heads });
    else if (state === "changed") bad({ what: "checkpoint_edited", key, details: "It is not what its signer has signed." });
    else bad({ what: "checkpoint_forged", key, details: "No key that is known has signed it for this log." });
    const hash = noteHash(source);
    hashes.add(hash);
    before = { number, hash };
  }
  return { sound: new SoundCheckpoints(sound), hashes, count, firstBad };
}

/** Checkpoints that were signed as they stand. */
class SoundCheckpoints {
  readonly all: readonly Sound[];
  /** Chain → its heads, in the order in which they were signed. */
  readonly heads = new Map<string, (Head & { readonly key: string })[]>();

  constructor(all: readonly Sound[]) {
    this.all = all;
    for (const { heads, key } of all) {
      for (const head of heads) {
        const known = this.heads.get(head.chain);
        if (known) known.push({ ...head, key });
        else this.heads.set(head.chain, [{ ...head, key }]);
      }
    }
  }
}

async function firstBadCopy({ copies = [], origin }: VerifyOptions, hashes: Set<string>, keys: KnownKeys) {
  for (const copy of copies) {
    const note = parseNote(copy);
    const checkpoint = note && parseCheckpoint(note.text);
    if (!checkpoint || checkpoint.origin !== origin || (await keys.check(note)) !== "signed") {
      const details = "Among the copies is one that no key that is known has signed for this log.";
      return { what: "copy_forged", details } satisfies BadRow;
    }
    if (!hashes.has(noteHash(copy))) {
      const { name } = note.signature;
      const details = `The checkpoint of ${checkpoint.size} entries that ${name} signed is no longer in the store.`;
      return { what: "copy_lost", details } satisfies BadRow;
    }
  }
  return undefined;
}

// ── entries ──

/** A chain as far as it was read. */
interface Chain {
  seq: number;
  hash: string | undefined;
  key: string;
  /** Whether a bad entry was found since the last head: then the next head says no more. */
  bad: boolean;
  /** The first entry since the last head. */
  since: { key: string; seq: number } | undefined;
  /** The head that the last entry read does not have, and what that means unless the next entry shows more. */
  lost: { hash: string; bad: BadRow } | undefined;
  /** Which of its heads comes next. */
  next: number;
  ended: boolean;
  /** Hashes that belong to no checkpoint yet. */
  leaves: string[];
}

class Chains {
  rows = 0;
  /** The first bad entry. */
  firstBad: BadRow | undefined;
  /** The first checkpoint that is not true of entries which are as they were written. */
  wrongCheckpoint: BadRow | undefined;
  readonly #checkpoints: SoundCheckpoints;
  readonly #chains = new Map<string, Chain>();
  /** Checked against their entries so far. */
  #checked = 0;
  readonly #tree = new Tree();

  constructor(checkpoints: SoundCheckpoints) {
    this.#checkpoints = checkpoints;
  }

  get size(): number {
    return this.#chains.size;
  }

  get uncovered(): number {
    let sum = 0;
    for (const [id, { seq }] of this.#chains) sum += Math.max(0, seq - (this.#checkpoints.heads.get(id)?.at(-1)?.seq ?? 0));
    return sum;
  }

  async read(view: Snapshot): Promise<void> {
    for await (const entry of rowsOf(view, AUDIT_PREFIX, (bad) => this.#bad(bad))) {
      this.rows += 1;
      this.#readRow(entry);
      if (this.rows % PAGE === 0) this.#check();
    }
    for (const { lost } of this.#chains.values()) if (lost) this.#bad(lost.bad);
    this.#check();
    if (this.firstBad?.what === "damaged") return; // what lies behind it was not read
    for (const [id, heads] of this.#checkpoints.heads) {
      const seq = this.#chains.get(id)?.seq ?? 0;
      const head = heads.find((head) => head.seq > seq);
      const details = `Entries ${seq + 1} to ${head?.seq} of chain ${id} were deleted: a checkpoint covers them.`;
      // of all that is missing this comes last: when its entries were written is gone with them
      if (head) this.firstBad ??= { what: "missing", key: head.key, ...at(id, seq + 1), details };
    }
  }

  #bad(row: BadRow): void {
    const first = this.firstBad;
    if (!first || (row.key ?? "") < (first.key ?? "")) this.firstBad = row;
  }

  #readRow(entry: Entry): void {
    const { key } = entry;
    const place = placeOf(key);
    if (!place) {
      this.#bad({ what: "inserted", key, details: "Its key is none that the log gives." });
      return;
    }
    const { chain: id, seq } = place;
    const chain = this.#chain(id);
    const expected = chain.seq + 1;
    if (seq < expected || chain.ended) {
      const details = seq < expected ? `Chain ${id} has another entry ${seq} before it.` : `Chain ${id} had ended before it.`;
      this.#bad({ what: "inserted", key, ...at(id, seq), details });
      return;
    }
    if (seq > expected) {
      const details = `Entries ${expected} to ${seq - 1} of chain ${id} were deleted.`;
      this.#bad({ what: "missing", key, ...at(id, expected), details });
      chain.bad = true;
    }
    const row = rowOf(entry);
    if (!row || hashOf(row) !== row.hash) {
      this.#bad({ what: "edited", key, ...at(id, seq), details: "It does not hold what was written." });
      chain.bad = true;
    } else if (seq === expected && row.prev !== chain.hash) {
      const details = `It, or one before it, was edited and hashed anew: entry ${seq} of chain ${id} followed another.`;
      if (seq === 1) this.#bad({ what: "edited", key, ...at(id, seq), details: "The first of a chain has none before it." });
      else this.#bad({ what: "rewritten", key: chain.key, ...at(id, seq - 1), details });
      chain.bad = true;
    }
    if (chain.lost && chain.lost.hash !== row?.prev) this.#bad(chain.lost.bad); // else the last entry alone was edited, which was told
    chain.since ??= { key, seq };
    Object.assign(chain, { seq, hash: row?.hash, key, lost: undefined });
    if (!this.firstBad) chain.leaves.push(row?.hash ?? "");
    this.#compare(id, chain);
  }

  /** The entry just read with the head that names it. */
  #compare(id: string, chain: Chain): void {
    const heads = this.#checkpoints.heads.get(id) ?? [];
    for (let head = heads[chain.next]; head && head.seq <= chain.seq; head = heads[chain.next]) {
      chain.next += 1;
      if (head.seq < chain.seq) continue; // that entry is missing, which was told
      if (head.hash !== chain.hash && !chain.bad) {
        const { key, seq } = chain.since ?? chain;
        const details = `One of the entries ${seq} to ${head.seq} of chain ${id} was edited, and all were hashed anew from there.`;
        chain.lost = { hash: head.hash, bad: { what: "rewritten", key, ...at(id, seq), details } };
      }
      chain.since = undefined;
      chain.bad = false;
      chain.ended = head.ended;
    }
  }

  #chain(id: string): Chain {
    let chain = this.#chains.get(id);
    if (!chain) {
      chain = {
        seq: 0,
        hash: undefined,
        key: "",
        bad: false,
        since: undefined,
        lost: undefined,
        next: 0,
        ended: false,
        leaves: [],
      };
      this.#chains.set(id, chain);
    }
    return chain;
  }

  /** Checkpoints whose entries were all read, in their order. */
  #check(): void {
    const { all } = this.#checkpoints;
    for (let next = all[this.#checked]; next && !this.wrongCheckpoint && !this.firstBad; next = all[this.#checked]) {
      const { heads, size, root, key, number } = next;
      if (number !== this.#checked + 1) return; // one before it is not sound: from there on trees cannot be told
      if (!heads.every(({ chain, seq }) => (this.#chains.get(chain)?.seq ?? 0) >= seq)) return;
      for (const { chain: id, seq } of heads) {
        const chain = this.#chain(id);
        const count = seq - (chain.seq - chain.leaves.length);
        for (const leaf of chain.leaves.splice(0, Math.max(0, count))) this.#tree.append(Buffer.from(leaf, "base64url"));
      }
      if (this.#tree.size !== size || this.#tree.root().toString("base64") !== root) {
        const details = `Checkpoint ${number} is signed, and is not true of the entries that it covers.`;
        this.wrongCheckpoint = { what: "checkpoint_wrong", key, details };
      }
      this.#checked += 1;
    }
  }
}

function at(chain: string, seq: number) {
  return { chain, seq };
}
