export {
  type Entry,
  type KeyRange,
  type Rev,
  SCAN_LIMIT_MAX,
  type Snapshot,
  type Store,
  type TextQuery,
  type Transaction,
  type TransactOptions,
} from "./contract.ts";
export { fromOrdered, KEY_BYTES_MAX, ordered, prefixRange, segment } from "./keys.ts";
export { type OpenOptions, openStore, sqlitePath } from "./open.ts";
export { holdsPhrases, phrasesOf, QUERY_WORDS_MAX, SCOPES_MAX, searchable, TEXT_LENGTH_MAX, TEXT_NAMESPACE } from "./search.ts";
export type { SqlView, SqlViews } from "./sql-views.ts";
