import { type Entry, type KeyRange, ordered, type Store } from "@mcp-swarm/store";
import { AUDIT_PREFIX, type AuditEntry, entryOf, type Outcome, rowOf } from "./entry.ts";

/** Entries that one page looks at, whatever it finds: the log has no index but time. */
export const EXAMINED_MAX = 5_000;
const SCAN = 500;

export interface AuditFilter {
  /** The agent and its subagents. */
  readonly agentId?: string;
  /** One operation, or all that begin as it does when it ends in `*`. */
  readonly operation?: string;
  /** As `operation`. */
  readonly resource?: string;
  readonly outcome?: Outcome;
  /** Ms since the epoch: `since` is included, `until` is not. */
  readonly since?: number;
  readonly until?: number;
}

export interface AuditPage {
  /** The newest first. */
  readonly entries: readonly AuditEntry[];
  /** There may be older ones: give it as `before`. A page may be short, or empty, and have one. */
  readonly next?: string;
  /** Rows that are not as they were written; verifying names them. */
  readonly unreadable: number;
}

/** A page of the log. @param page `before`: `next` of the page before */
export async function readAudit(
  store: Pick<Store, "scan">,
  filter: AuditFilter,
  page: { readonly limit: number; readonly before?: string },
): Promise<AuditPage> {
  const entries: AuditEntry[] = [];
  let unreadable = 0;
  let before = page.before;
  for (let examined = 0; examined < EXAMINED_MAX; examined += SCAN) {
    const range = rangeOf(filter, before);
    if (range.from >= range.before) return { entries, unreadable };
    const rows: Entry[] = await store.scan(range);
    for (const entry of rows) {
      const row = rowOf(entry);
      if (!row) unreadable += 1;
      else if (isWanted(row, filter)) entries.push(entryOf(row));
      before = entry.key;
      if (entries.length === page.limit) return { entries, next: before, unreadable };
    }
    if (rows.length < SCAN) return { entries, unreadable };
  }
  return { entries, unreadable, ...(before === undefined ? {} : { next: before }) };
}

function rangeOf({ since, until }: AuditFilter, before: string | undefined): KeyRange {
  const end = until === undefined ? `${AUDIT_PREFIX.slice(0, -1)}0` : `${AUDIT_PREFIX}${ordered(until)}`; // "0" comes after "/"
  return {
    from: since === undefined ? AUDIT_PREFIX : `${AUDIT_PREFIX}${ordered(since)}`,
    before: before === undefined || before > end ? end : before,
    limit: SCAN,
    reverse: true,
  };
}

function isWanted(entry: AuditEntry, { agentId, operation, resource, outcome }: AuditFilter): boolean {
  return (
    (agentId === undefined || entry.agentId === agentId || entry.agentId.startsWith(`${agentId}/`)) &&
    (operation === undefined || matches(entry.operation, operation)) &&
    (resource === undefined || matches(entry.resource, resource)) &&
    (outcome === undefined || entry.outcome === outcome)
  );
}

function matches(text: string, wanted: string): boolean {
  return wanted.endsWith("*") ? text.startsWith(wanted.slice(0, -1)) : text === wanted;
}
