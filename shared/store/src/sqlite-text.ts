import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Json } from "@mcp-swarm/core";
import { decodeValue } from "./row.ts";
import { type ParsedQuery, TEXT_NAMESPACE, tokensOf } from "./search.ts";

/** Numbers that rows of one ms have before those of the next begin: 2 to this power. */
const SAME_MS_BITS = 20;

/** Rows of each kind that one `mend` looks after. */
const MEND_PAGE = 500;

/**
 * The index of the words of `text` rows: FTS5 knows which numbers hold a word, `keyv_text` whose number it is and at which
 * revision. Numbers go with the time in the key, so the newest are found without sorting all that match. Words are folded
 * already (search.ts), so the tokenizer parts at spaces alone: of ASCII only letters, digits and what scopes hold are words.
 */
export const TEXT_SCHEMA = `
  CREATE TABLE IF NOT EXISTS keyv_text(
    id INTEGER PRIMARY KEY,
    key VARCHAR(255) NOT NULL UNIQUE,
    rev BIGINT NOT NULL
  );
  CREATE VIRTUAL TABLE IF NOT EXISTS keyv_words USING fts5(
    words, content='', contentless_delete=1, detail=none, tokenize="ascii tokenchars '=_.-~'"
  );
`;

/** Rows of `text` that the index does not know as they are, whoever wrote them; and what it knows that is no such row. */
const UNINDEXED = `SELECT k.key FROM keyv k LEFT JOIN keyv_text t ON t.key = k.key
  WHERE k.namespace = '${TEXT_NAMESPACE}' AND t.rev IS NOT k.rev`;
const ORPHANED = `SELECT t.key FROM keyv_text t LEFT JOIN keyv k ON k.namespace = '${TEXT_NAMESPACE}' AND k.key = t.key
  WHERE k.key IS NULL`;

/** How many rows the index does not know as they are, and how many it knows that are gone. */
export function outOfStep(db: DatabaseSync): number {
  const row = db.prepare("SELECT value FROM keyv WHERE namespace = ? AND key = ?");
  let rows = db.prepare(`SELECT count(*) AS n FROM (${ORPHANED})`).get()?.n as number;
  for (const { key } of db.prepare(UNINDEXED).iterate()) {
    if (tokensOf(String(key), readable(row.get(TEXT_NAMESPACE, String(key))?.value))) rows += 1;
  }
  return rows;
}

/** Statements are prepared when a text is first written or looked for: a server that has none pays nothing. */
export class TextIndex {
  readonly #db: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** In the transaction that writes the row. */
  put(rest: string, value: Json, rev: number): void {
    this.remove(rest);
    const found = tokensOf(rest, value);
    if (!found) return;
    const { time, tokens } = found;
    const from = `(?1 << ${SAME_MS_BITS})`;
    this.#run(
      `INSERT INTO keyv_text(id, key, rev) SELECT coalesce(max(id) + 1, ${from}), ?2, ?3 FROM keyv_text
        WHERE id >= ${from} AND id < ((?1 + 1) << ${SAME_MS_BITS})`,
      [time, rest, rev],
    );
    this.#run("INSERT INTO keyv_words(rowid, words) SELECT id, ? FROM keyv_text WHERE key = ?", [tokens, rest]);
  }

  /** In the transaction that deletes the row. */
  remove(rest: string): void {
    this.#run("DELETE FROM keyv_words WHERE rowid = (SELECT id FROM keyv_text WHERE key = ?)", [rest]);
    this.#run("DELETE FROM keyv_text WHERE key = ?", [rest]);
  }

  /**
   * Brings a page of rows in step that somebody else wrote or deleted: a plain Keyv, a person. Within a transaction.
   * @returns how many it looked after, and the key to go on behind; undefined when that was all
   */
  mend(after: string): { mended: number; next: string | undefined } {
    const keys = (sql: string, ...parameters: string[]) =>
      this.#statement(sql)
        .all(...parameters)
        .map(({ key }) => String(key));
    const orphaned = keys(`${ORPHANED} LIMIT ${MEND_PAGE}`);
    for (const key of orphaned) this.remove(key);
    const unindexed = keys(`${UNINDEXED} AND k.key > ? ORDER BY k.key LIMIT ${MEND_PAGE}`, after);
    for (const key of unindexed) {
      const row = this.#statement("SELECT value, rev FROM keyv WHERE namespace = ? AND key = ?").get(TEXT_NAMESPACE, key);
      this.put(key, readable(row?.value), Number(row?.rev));
    }
    const more = orphaned.length === MEND_PAGE || unindexed.length === MEND_PAGE;
    return { mended: orphaned.length + unindexed.length, next: more ? (unindexed.at(-1) ?? after) : undefined };
  }

  /** All of it. */
  mendAll(): void {
    for (let next: string | undefined = ""; next !== undefined; ) next = this.mend(next).next;
  }

  /** Keys within the namespace and their rows, in the columns given; by descending key. */
  search(columns: string, { words, prefix, scopes, before, beforeTime, limit }: ParsedQuery, now: number): unknown[] {
    if (scopes.length === 0) return [];
    const all = words.map((word) => `"${word}"`);
    if (prefix !== undefined) all.push(`"${prefix}"*`);
    const match = `${all.join(" AND ")} AND (${scopes.map((scope) => `"${scope}"`).join(" OR ")})`;
    const hits = `keyv_words CROSS JOIN keyv_text t ON t.id = keyv_words.rowid
        CROSS JOIN keyv k ON k.namespace = '${TEXT_NAMESPACE}' AND k.key = t.key AND k.rev = t.rev
      WHERE keyv_words MATCH ?1 AND keyv_words.rowid < ((?2 + 1) << ${SAME_MS_BITS}) AND t.key < ?3
        AND (k.expires IS NULL OR k.expires > ?4)`;
    // rows of one ms are numbered as they came: the last ms of the page is read whole and put in the order of keys
    const last = `SELECT (min(id) >> ${SAME_MS_BITS}) << ${SAME_MS_BITS}
      FROM (SELECT keyv_words.rowid AS id FROM ${hits} ORDER BY keyv_words.rowid DESC LIMIT ?5)`;
    const statement = this.#statement(
      `SELECT ${columns} FROM ${hits} AND keyv_words.rowid >= (${last}) ORDER BY k.key DESC LIMIT ?5`,
      true,
    );
    return statement.all(match, beforeTime, before, now, limit);
  }

  #run(sql: string, parameters: (string | number)[]): void {
    this.#statement(sql).run(...parameters);
  }

  #statement(sql: string, arrays = false): StatementSync {
    let statement = this.#prepared.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      statement.setReturnArrays(arrays);
      this.#prepared.set(sql, statement);
    }
    return statement;
  }
}

/** The value of a row that anybody may have written; null, which has no words, for what cannot be read. */
function readable(text: unknown): Json {
  try {
    return decodeValue(String(text));
  } catch {
    return null;
  }
}
