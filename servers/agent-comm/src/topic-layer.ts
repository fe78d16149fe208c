/**
 * Topics as ordered keys. A topic is a log; publishing writes one row of it however many have subscribed, and each subscriber
 * takes what is new past its own cursor when it reads. All publishing in one topic is serialized by the topic's record, so its
 * numbers have no gaps and a row that can be read has none before it still to come.
 *
 * | key | value | why |
 * |---|---|---|
 * | `topic/<topic>` | TopicRecord | the last number given out; what waiting subscribers look at |
 * | `topic-log/<topic>/<number>` | LogRow | what was published, in order; the last TOPIC_MESSAGES_MAX, while their messages are kept |
 * | `topic-name/<topic>` | TopicName | which topics there are: apart from the records, which every publishing writes |
 * | `topic-directory/state` | DirectoryState | its revision moves when a topic comes or goes |
 * | `sub/<agent>/<id>` | Subscription | what an agent wants, and how far it has got; ends SUBSCRIPTION_MS after it was last read |
 */
import { lifeOf, type MessageRecord, messageKey } from "@mcp-swarm/coordination/messages";
import { SwarmError } from "@mcp-swarm/core";
import { ordered, prefixRange, segment, type Transaction } from "@mcp-swarm/store";

/** Messages that a topic keeps; older ones go as new ones come. */
export const TOPIC_MESSAGES_MAX = 10_000;
export const TOPICS_MAX = 1_000;
/** A topic without a message for so long is forgotten; by then all its messages are. */
export const TOPIC_IDLE_MS = 31 * 24 * 3_600_000;
export const SUBSCRIPTION_MS = 30 * 24 * 3_600_000;
export const SUBSCRIPTIONS_MAX = 50;

export type TopicRecord = {
  readonly name: string;
  /** Which topic of this swarm it was; one that is forgotten and comes again has another. */
  readonly number: number;
  /** Of the last message, from 1. */
  readonly last: number;
  /** Whether its messages may be read by those who subscribe later. */
  readonly keep: boolean;
  readonly createdAt: number;
  /** When the last message was sent; 0 before the first. */
  readonly lastAt: number;
};

export type LogRow = {
  readonly number: number;
  readonly id: string;
  readonly from: string;
  readonly messageType: string;
  /** What the sender could do when it published. */
  readonly senderCapabilities: readonly string[];
  /** Whether it may be read by those who subscribed later. */
  readonly keep: boolean;
  /** Later than that of the message before. */
  readonly sentAt: number;
};

export type TopicName = { readonly name: string; readonly number: number };
/** How many topics ever were, and how many there are. */
export type DirectoryState = { readonly created: number; readonly count: number };

export type TopicCursor = {
  /** Of the topic; a cursor in an earlier topic of the same name is none. */
  readonly topic: number;
  /** The last message seen. */
  readonly seen: number;
  /** The last message when the agent subscribed; up to it only what is kept may be read. */
  readonly since: number;
};

export type Subscription = {
  readonly id: string;
  readonly agentId: string;
  /** Names, or beginnings of names that end in `*`. */
  readonly topics: readonly string[];
  readonly types?: readonly string[];
  readonly from?: string;
  readonly senderCapability?: string;
  readonly createdAt: number;
  /** In topics that were there when it was made, or that it has read in. */
  readonly cursors: { readonly [topic: string]: TopicCursor };
  readonly received: number;
  /** Messages that were gone before they were read. */
  readonly missed: number;
};

export const TOPICS_PREFIX = "topic/";
export const TOPIC_NAMES_PREFIX = "topic-name/";
export const DIRECTORY_KEY = "topic-directory/state";

export const topicKey = (topic: string): string => `${TOPICS_PREFIX}${segment(topic)}`;
export const topicNameKey = (topic: string): string => `${TOPIC_NAMES_PREFIX}${segment(topic)}`;
export const logPrefix = (topic: string): string => `topic-log/${segment(topic)}/`;
export const logKey = (topic: string, number: number): string => `${logPrefix(topic)}${ordered(number)}`;
export const SUBSCRIPTIONS_PREFIX = "sub/";
export const subscriptionsPrefix = (agentId: string): string => `${SUBSCRIPTIONS_PREFIX}${segment(agentId)}/`;
export const subscriptionKey = (agentId: string, id: string): string => `${subscriptionsPrefix(agentId)}${segment(id)}`;

/** The topic's record, made when it is the first message in it. `keep` stays as it was when it is not given. */
export function topicFor(tx: Transaction, name: string, keep: boolean | undefined): TopicRecord {
  const known = tx.get(topicKey(name))?.value as TopicRecord | undefined;
  if (known) return keep === undefined ? known : { ...known, keep };
  const { created, count } = (tx.get(DIRECTORY_KEY)?.value as DirectoryState | undefined) ?? { created: 0, count: 0 };
  if (count >= TOPICS_MAX) {
    throw new SwarmError("limit_exceeded", `There are ${TOPICS_MAX} topics already.`, {
      hint: "Publish in one that there is (list_topics); one without messages for a month is forgotten.",
    });
  }
  const number = created + 1;
  tx.put(DIRECTORY_KEY, { created: number, count: count + 1 });
  tx.put(topicNameKey(name), { name, number });
  return { name, number, last: 0, keep: keep ?? false, createdAt: tx.now, lastAt: 0 };
}

/**
 * Writes a message's row of the log and moves the topic on; `message` is written already, at a place behind `topic.lastAt`.
 * Answers its number.
 */
export function publishIn(
  tx: Transaction,
  topic: TopicRecord,
  message: MessageRecord,
  senderCapabilities: readonly string[],
): number {
  const number = topic.last + 1;
  const { id, from, messageType, sentAt } = message;
  const row: LogRow = { number, id, from, messageType, senderCapabilities, keep: topic.keep, sentAt };
  tx.put(logKey(topic.name, number), { ...row, refs: [messageKey(id)] }, { ttlMs: lifeOf(tx, message) });
  tx.put(topicKey(topic.name), { ...topic, last: number, lastAt: sentAt });
  if (number > TOPIC_MESSAGES_MAX) tx.delete(logKey(topic.name, number - TOPIC_MESSAGES_MAX));
  return number;
}

/** Ends all that an agent subscribed to. */
export function dropSubscriptions(tx: Transaction, agentId: string): void {
  for (const { key } of tx.scan(prefixRange(subscriptionsPrefix(agentId), SUBSCRIPTIONS_MAX))) tx.delete(key);
}

/** Whether a topic is one that a name, or the beginning of a name with `*`, stands for. */
export function isTopicOf(pattern: string, topic: string): boolean {
  return pattern.endsWith("*") ? topic.startsWith(pattern.slice(0, -1)) : topic === pattern;
}
