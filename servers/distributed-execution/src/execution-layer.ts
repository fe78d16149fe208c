/**
 * Executions as ordered keys. A record is the truth; every index is made from it and kept in the same transaction, so that no
 * operation looks at more executions than it is about.
 *
 * | key | value | why |
 * |---|---|---|
 * | `exec/<id>` | ExecutionRecord | the truth; small, since each claim, renewal and end writes it |
 * | `exec-input/<id>` | StoredInput | what is to run; written once |
 * | `exec-text/<text>/<n>` | string | code and input that is too long for that row, or shared by a batch |
 * | `exec-text-ref/<text>/<id>` | {id} | executions that share a text: it goes with the last of them |
 * | `exec-value/<id>` | JSON | a value that is too long for the record |
 * | `exec-output/<id>/<attempt>/<position>` | OutputPart | output that is too long for the record, or came while it ran |
 * | `exec-ready/<queue>/<rank>/<seq>/<id>` | IndexEntry | queued, in the order of claiming; queues: execution-queue.ts |
 * | `exec-later/<due>/<id>` | {id} | queued, but not to be taken before |
 * | `exec-deadline/<deadline>/<id>` | {id} | queued, by when they expire |
 * | `exec-lease/<lease end>/<id>` | {id} | running, by the end of the lease |
 * | `exec-ended/<end>/<id>` | {id} | ended, by their end |
 * | `exec-all/<seq>/<id>` | {id} | all, in order of creation |
 * | `exec-by/<agent>/<seq>/<id>` | {id} | those of an agent |
 * | `exec-member/<group>/<seq>/<id>` | {id} | those of a batch or session |
 * | `exec-open/<group>/<id>` | IndexEntry | those of them that have not ended |
 * | `exec-waiting/<group>/<rank>/<seq>/<id>` | {id} | blocked by nothing but their group's limit, in the order of their turns |
 * | `exec-group/<group>` | GroupRecord | how many are queued or running of a group that limits them |
 * | `exec-dependents/<id>/<dependent>` | Edge | members of a batch that wait for another |
 * | `exec-dedupe/<agent>/<key>` | Deduped | what a `dedupe` key stands for; expires |
 * | `exec-cancel/<worker>/<id>` | {id} | tells a worker at once that a run of it is to be killed |
 */
import { DueIndex } from "@mcp-swarm/coordination";
import { assert, SwarmError } from "@mcp-swarm/core";
import { type Entry, type KeyRange, ordered, prefixRange, segment, type Transaction } from "@mcp-swarm/store";
import type { EnvironmentBook } from "./environments.ts";
import { executionQueues, queueName, queueOf, rankOf } from "./execution-queue.ts";
import { type ExecutionRecord, hasEnded } from "./execution-record.ts";
import type { McpConfig } from "./mcp/mcp-config.ts";
import type { SessionEnd } from "./session-layer.ts";

export const prefixes = {
  executions: "exec/",
  ready: "exec-ready/",
  readyIn: (queue: string) => `exec-ready/${queue}/`,
  all: "exec-all/",
  by: (agentId: string) => `exec-by/${segment(agentId)}/`,
  members: (groupId: string) => `exec-member/${segment(groupId)}/`,
  allOpen: "exec-open/",
  open: (groupId: string) => `exec-open/${segment(groupId)}/`,
  waiting: (groupId: string) => `exec-waiting/${segment(groupId)}/`,
  dependents: (id: string) => `exec-dependents/${segment(id)}/`,
  output: (id: string) => `exec-output/${segment(id)}/`,
  outputOf: (id: string, attempt: number) => `exec-output/${segment(id)}/${ordered(attempt)}/`,
  text: (textId: string) => `exec-text/${segment(textId)}/`,
  cancelled: (workerId: string) => `exec-cancel/${segment(workerId)}/`,
} as const;

export const later = new DueIndex("exec-later/");
export const deadlines = new DueIndex("exec-deadline/");
export const leases = new DueIndex("exec-lease/");
export const ended = new DueIndex("exec-ended/");

export const executionKey = (id: string): string => `${prefixes.executions}${segment(id)}`;
export const inputKey = (id: string): string => `exec-input/${segment(id)}`;
export const valueKey = (id: string): string => `exec-value/${segment(id)}`;
export const groupKey = (groupId: string): string => `exec-group/${segment(groupId)}`;
export const textKey = (textId: string, at: number): string => `${prefixes.text(textId)}${ordered(at)}`;
export const textRefs = (textId: string): string => `exec-text-ref/${segment(textId)}/`;
export const textRefKey = (textId: string, id: string): string => `${textRefs(textId)}${segment(id)}`;
export const dedupeKey = (agentId: string, key: string): string => `exec-dedupe/${segment(agentId)}/${segment(key)}`;
export const cancelKey = (workerId: string, id: string): string => `${prefixes.cancelled(workerId)}${segment(id)}`;
export const edgeKey = (id: string, dependent: string): string => `${prefixes.dependents(id)}${segment(dependent)}`;

/** `refs`: what is read next. */
export type IndexEntry = { readonly id: string; readonly refs?: readonly string[] };
/** `after`: whether the dependent runs whatever comes of the other. */
export type Edge = { readonly id: string; readonly after: "success" | "any" };
export type Deduped = { readonly id: string; readonly hash: string };
export type OutputPart = { readonly stream: "stdout" | "stderr"; readonly text: string };

/** A text in place, or so many rows of it. */
export type StoredText = string | { readonly textId: string; readonly parts: number };
/** `from`: the file `output` that this execution leaves behind; resolved when the taking one is queued. */
export type StoredFile =
  | { readonly path: string; readonly artifactId: string }
  | { readonly path: string; readonly from: string; readonly output: string };
export type StoredInput = {
  readonly code: StoredText;
  readonly args: readonly string[];
  readonly stdin: StoredText;
  readonly files: readonly StoredFile[];
};

/** A batch or session whose members' turns are counted. */
export type GroupRecord = {
  /** Of its members so many may be queued or running at once; absent: all. */
  readonly limit?: number;
  /** How many are. */
  readonly active: number;
  /** The first member that does not succeed ends it. */
  readonly stopOnFailure?: true;
  readonly stopped?: true;
};

/** What a process brings to every transaction on executions. */
export interface ExecutionContext {
  readonly environments: EnvironmentBook;
  /** What this process's operator lets tasks ask of other MCP servers; where it says nothing, any such task may be handed over. */
  readonly mcp?: McpConfig | undefined;
  /** Ends a session and, by `endMembers`, what is open of its tasks; nothing when it is over. */
  endSession(executions: ExecutionTransaction, sessionId: string, because: SessionEnd): void;
}

/** Open members that are read at once, with their records: as many as an engine across a network fetches along with what refers to them. */
const OPEN_PAGE = 60;

export function openPage(groupId: string, after?: string): KeyRange {
  return prefixRange(prefixes.open(groupId), OPEN_PAGE, after === undefined ? {} : { after });
}

export function idOf({ value }: Pick<Entry, "value">): string {
  return (value as IndexEntry).id;
}

export function recordOf({ value }: Pick<Entry, "value">): ExecutionRecord {
  return value as unknown as ExecutionRecord;
}

/** Of a batch or a session: its members are listed together. */
export function membershipOf({ batchId, sessionId }: Pick<ExecutionRecord, "batchId" | "sessionId">): string | undefined {
  return batchId ?? sessionId;
}

export function noSuchExecution(id: string): SwarmError {
  return new SwarmError("not_found", `There is no task ${id}.`, {
    hint: "list_tasks shows yours; tasks that ended long ago are forgotten, with their files.",
  });
}

/** Every index key of a record. */
function indexKeys(record: ExecutionRecord): string[] {
  const id = segment(record.id);
  const place = `${record.seq}/${id}`;
  const keys = [`${prefixes.all}${place}`, `${prefixes.by(record.agentId)}${place}`];
  const membership = membershipOf(record);
  if (membership !== undefined) {
    keys.push(`${prefixes.members(membership)}${place}`);
    if (!hasEnded(record.status)) keys.push(`${prefixes.open(membership)}${id}`);
  }
  switch (record.status) {
    case "blocked":
      if (record.groupId !== undefined && record.readyAt !== undefined) {
        keys.push(`${prefixes.waiting(record.groupId)}${rankOf(record, record.readyAt)}/${place}`);
      }
      break;
    case "queued":
      assert(record.readyAt !== undefined && record.queueDeadlineAt !== undefined, "a queued execution knows its times");
      keys.push(deadlines.key(record.queueDeadlineAt, record.id));
      if (record.dueAt !== undefined) keys.push(later.key(record.dueAt, record.id));
      else keys.push(`${prefixes.readyIn(queueName(queueOf(record)))}${rankOf(record, record.readyAt)}/${place}`);
      break;
    case "running":
      assert(record.worker !== undefined, "a running execution has a worker");
      keys.push(leases.key(record.worker.leaseExpiresAt, record.id));
      break;
    default:
      assert(record.endedAt !== undefined, "an ended execution has an end");
      keys.push(ended.key(record.endedAt, record.id));
  }
  return keys;
}

/** What is read next by who comes by an index: a claim, and what ends all members of a batch or session together. */
function refsFor(key: string, id: string): Pick<IndexEntry, "refs"> {
  if (key.startsWith(prefixes.ready)) return { refs: [executionKey(id), inputKey(id)] };
  return key.startsWith(prefixes.allOpen) ? { refs: [executionKey(id)] } : {};
}

/** Whether it takes one of the places that its group has. */
function isActive(record: ExecutionRecord | undefined): boolean {
  return record?.status === "queued" || record?.status === "running";
}

/** Whether a worker may take it now. */
function isReady({ status, dueAt }: ExecutionRecord): boolean {
  return status === "queued" && dueAt === undefined;
}

/** Executions within one transaction. Made by `inExecutions`, which settles what follows from what was done. */
export class ExecutionTransaction {
  readonly tx: Transaction;
  readonly now: number;
  readonly context: ExecutionContext;
  readonly #known = new Map<string, ExecutionRecord | undefined>();
  readonly #groups = new Map<string, GroupRecord>();
  readonly #touchedGroups = new Set<string>();
  readonly #calledOff = new Set<string>();
  #ended: ExecutionRecord[] = [];

  constructor(tx: Transaction, context: ExecutionContext) {
    this.tx = tx;
    this.now = tx.now;
    this.context = context;
  }

  find(id: string): ExecutionRecord | undefined {
    if (this.#known.has(id)) return this.#known.get(id);
    const entry = this.tx.get(executionKey(id));
    const record = entry && recordOf(entry);
    this.#known.set(id, record);
    return record;
  }

  /** @throws SwarmError not_found */
  get(id: string): ExecutionRecord {
    const record = this.find(id);
    if (record) return record;
    throw noSuchExecution(id);
  }

  insert(record: ExecutionRecord): ExecutionRecord {
    return this.#write(undefined, record);
  }

  /** Members given as undefined are taken out of the record. */
  change(record: ExecutionRecord, patch: { [K in keyof ExecutionRecord]?: ExecutionRecord[K] | undefined }): ExecutionRecord {
    const changed = { ...record, ...patch };
    for (const [name, value] of Object.entries(patch)) if (value === undefined) delete changed[name as keyof ExecutionRecord];
    return this.#write(record, changed as ExecutionRecord);
  }

  /** Removes an ended record and its indexes; rows beside it are the caller's. */
  remove(record: ExecutionRecord): void {
    assert(hasEnded(record.status), "only an ended execution is removed");
    for (const key of indexKeys(record)) this.tx.delete(key);
    this.tx.delete(executionKey(record.id));
    this.#known.set(record.id, undefined);
  }

  /** The group whose places its members take; a session has one without being asked. */
  group(groupId: string): GroupRecord | undefined {
    const known = this.#groups.get(groupId);
    if (known) return known;
    const group = this.tx.get(groupKey(groupId))?.value as GroupRecord | undefined;
    if (group) this.#groups.set(groupId, group);
    return group;
  }

  putGroup(groupId: string, group: GroupRecord): void {
    this.#groups.set(groupId, group);
    this.#touchedGroups.add(groupId);
  }

  /** Members of a batch or session that have not ended, those of this transaction included. */
  openMembers(groupId: string): ExecutionRecord[] {
    const members: ExecutionRecord[] = [];
    for (let after: string | undefined; ; ) {
      const page = this.tx.scan(openPage(groupId, after));
      for (const entry of page) members.push(this.get(idOf(entry)));
      after = page.at(-1)?.key;
      if (page.length < OPEN_PAGE) return members;
    }
  }

  /** All members of a batch or session that wait were ended together: nobody is left who must be told of the end of another. */
  callOff(membership: string): void {
    this.#calledOff.add(membership);
  }

  isCalledOff(record: ExecutionRecord): boolean {
    return this.#calledOff.has(membershipOf(record) ?? "");
  }

  /** Those that ended since it was last asked. */
  takeEnded(): ExecutionRecord[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  get anyEnded(): boolean {
    return this.#ended.length > 0;
  }

  /** Groups of which something changed. */
  touchedGroups(): readonly string[] {
    return [...this.#touchedGroups];
  }

  writeGroups(): void {
    for (const id of this.#touchedGroups) {
      const group = this.#groups.get(id);
      if (group) this.tx.put(groupKey(id), group);
    }
    this.#touchedGroups.clear();
  }

  #write(before: ExecutionRecord | undefined, after: ExecutionRecord): ExecutionRecord {
    const old = before ? indexKeys(before) : [];
    const keys = indexKeys(after);
    for (const key of old) if (!keys.includes(key)) this.tx.delete(key);
    for (const key of keys) {
      if (old.includes(key)) continue;
      this.tx.put(key, { id: after.id, ...refsFor(key, after.id) } satisfies IndexEntry);
    }
    if (isReady(after) && !(before && isReady(before))) executionQueues.keep(this.tx, queueOf(after));
    this.#countActive(before, after);
    this.tx.put(executionKey(after.id), after);
    this.#known.set(after.id, after);
    if (hasEnded(after.status) && !(before && hasEnded(before.status))) this.#ended.push(after);
    return after;
  }

  #countActive(before: ExecutionRecord | undefined, after: ExecutionRecord): void {
    if (after.groupId === undefined) return;
    const by = Number(isActive(after)) - Number(isActive(before));
    const endsNow = hasEnded(after.status);
    if (by === 0 && !endsNow) return;
    const group = this.group(after.groupId);
    assert(group !== undefined, "a member's group is there");
    this.putGroup(after.groupId, { ...group, active: group.active + by });
  }
}
