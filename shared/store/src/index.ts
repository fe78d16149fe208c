export {
  type Entry,
  type KeyRange,
  type Rev,
  SCAN_LIMIT_MAX,
  type Snapshot,
  type Store,
  type Transaction,
  type TransactOptions,
} from "./contract.ts";
export { fromOrdered, KEY_BYTES_MAX, ordered, prefixRange, segment } from "./keys.ts";
export { type OpenOptions, openStore, sqlitePath } from "./open.ts";
