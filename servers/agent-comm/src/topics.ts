/** Which topics there are. */
import { decodeCursor, encodeCursor, type MaintenanceJob, passJob } from "@mcp-swarm/coordination";
import { PAGE_DEFAULT } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import { prefixRange, type Rev, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import {
  DIRECTORY_KEY,
  type DirectoryState,
  isTopicOf,
  TOPIC_IDLE_MS,
  TOPIC_NAMES_PREFIX,
  type TopicName,
  type TopicRecord,
  topicKey,
  topicNameKey,
} from "./topic-layer.ts";

/** How often topics that nobody uses are looked for, and how many at once. */
const FORGET_EVERY_MS = 600_000;
const FORGET_BATCH_MAX = 50;

export interface Topic {
  readonly name: string;
  /** Published since it began. */
  readonly messages: number;
  readonly keep: boolean;
  readonly createdAt: number;
  readonly lastAt: number;
}

export interface TopicPage {
  topics: Topic[];
  nextCursor?: string;
}

/** The topics as of one revision. */
interface Directory {
  readonly rev: Rev | undefined;
  readonly names: readonly TopicName[];
}

export class Topics {
  #known: Directory | undefined;

  /** Topics in order of their names as keys. */
  async list(
    { store }: Pick<Call, "store">,
    filter: { prefix?: string; limit?: number; cursor?: string } = {},
  ): Promise<TopicPage> {
    const { prefix = "", limit = PAGE_DEFAULT } = filter;
    const scope = { list: `topics ${prefix}`, prefix: TOPIC_NAMES_PREFIX };
    const after = filter.cursor === undefined ? "" : decodeCursor(scope, filter.cursor);
    const { names } = await this.directory(store);
    const fitting = names.filter(({ name }) => isTopicOf(`${prefix}*`, name) && topicNameKey(name) > after);
    const shown = fitting.slice(0, limit);
    const records = shown.length === 0 ? [] : await store.getMany(shown.map(({ name }) => topicKey(name)));
    const topics = records.flatMap((entry) => {
      const topic = entry?.value as TopicRecord | undefined;
      if (topic === undefined) return [];
      const { name, last, keep, createdAt, lastAt } = topic;
      return [{ name, messages: last, keep, createdAt, lastAt }];
    });
    const end = shown.at(-1);
    return end === undefined || shown.length === fitting.length
      ? { topics }
      : { topics, nextCursor: encodeCursor(scope, topicNameKey(end.name)) };
  }

  /** All topics. They seldom change: what was read is remembered while its revision holds. */
  async directory(store: Store): Promise<Directory> {
    const entry = await store.get(DIRECTORY_KEY);
    if (this.#known === undefined || this.#known.rev !== entry?.rev) {
      // there are no more than TOPICS_MAX, which is what one scan reads
      const rows = entry === undefined ? [] : await store.scan(prefixRange(TOPIC_NAMES_PREFIX, SCAN_LIMIT_MAX));
      this.#known = { rev: entry?.rev, names: rows.map(({ value }) => value as TopicName) };
    }
    return this.#known;
  }
}

/** For `Maintenance`: a topic in which nothing was published for TOPIC_IDLE_MS is forgotten. */
export function idleTopicsJob(store: Store): MaintenanceJob {
  return passJob("forget idle topics", store, FORGET_EVERY_MS, (after) => forgetIdleTopics(store, after));
}

export async function forgetIdleTopics(store: Store, after?: string): Promise<string | undefined> {
  const range = prefixRange(TOPIC_NAMES_PREFIX, FORGET_BATCH_MAX, after === undefined ? {} : { after });
  const keys = (await store.scan(range)).map(({ key, value }) => ({ key, topic: topicKey((value as TopicName).name) }));
  if (keys.length === 0) return undefined;
  const now = await store.now();
  const isIdle = (value: unknown) => now - (value as TopicRecord).lastAt >= TOPIC_IDLE_MS;
  const records = await store.getMany(keys.map(({ topic }) => topic));
  const idle = keys.filter((_, at) => records[at] !== undefined && isIdle(records[at].value));
  if (idle.length > 0) {
    await store.transact((tx) => {
      let gone = 0;
      for (const { key, topic } of idle) {
        const entry = tx.get(topic);
        if (!entry || !isIdle(entry.value)) continue; // somebody published meanwhile
        tx.delete(topic);
        tx.delete(key);
        gone += 1;
      }
      const state = tx.get(DIRECTORY_KEY)?.value as DirectoryState | undefined;
      if (state && gone > 0) tx.put(DIRECTORY_KEY, { ...state, count: state.count - gone });
    });
  }
  return keys.length === FORGET_BATCH_MAX ? keys.at(-1)?.key : undefined;
}
