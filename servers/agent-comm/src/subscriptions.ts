/**
 * Subscriptions to topics. A subscriber that reads its inbox first takes what is new in its topics into it, as ordinary deliveries,
 * and moves its cursors, in one transaction: so nothing is lost or comes twice however often it dies, and acknowledging,
 * redelivery and dead letters are those of any message.
 */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { deliver, deliveryKey, type MessageRecord, messageKey, type ReadsTopic } from "@mcp-swarm/coordination/messages";
import { type Clock, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, speakAs } from "@mcp-swarm/identity";
import { type Entry, ordered, prefixRange, type Rev, type Store, type Transaction } from "@mcp-swarm/store";
import type { InboxSource } from "./inbox.ts";
import {
  isTopicOf,
  type LogRow,
  logPrefix,
  SUBSCRIPTION_MS,
  SUBSCRIPTIONS_MAX,
  SUBSCRIPTIONS_PREFIX,
  type Subscription,
  subscriptionKey,
  subscriptionsPrefix,
  TOPICS_PREFIX,
  type TopicCursor,
  type TopicRecord,
  topicKey,
} from "./topic-layer.ts";
import type { Topics } from "./topics.ts";

/** Names and beginnings of names in one subscription. */
export const SUBSCRIBED_TOPICS_MAX = 20;
export const SUBSCRIBED_TYPES_MAX = 20;
/** Topics that one subscription may replay: where each begins is looked up. */
export const REPLAYED_TOPICS_MAX = 100;
/** Messages that one transaction takes into an inbox: their rows stay few enough to be locked one by one. */
const TAKEN_MAX = 64;
/** Rows of logs that one transaction passes over. */
const PASSED_MAX = 500;
/** Subscriptions that are looked at to tell a sender how many take what it published. */
const SUBSCRIPTIONS_COUNTED_MAX = 1_000;
/** Transactions of one `pull`. Who reads on gets on. */
const ROUNDS_MAX = 8;

export interface NewSubscription {
  agentId?: string | undefined;
  topics: readonly string[];
  types?: readonly string[] | undefined;
  from?: string | undefined;
  senderCapability?: string | undefined;
  /** `now`: what is published from now on. `start`, or a time in ms: also what topics kept from then on. */
  replayFrom?: "now" | "start" | number | undefined;
}

export interface ListSubscriptions {
  agentId?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface SubscriptionPage {
  subscriptions: (Subscription & { behind: number })[];
  total: number;
  nextCursor?: string;
}

/** How far one subscription gets by one transaction. */
interface Step {
  readonly key: string;
  /** The subscription as it was read; if it is another by now, another reader was here. */
  readonly rev: Rev;
  readonly next: Subscription;
  readonly messages: readonly string[];
}

interface Pulled {
  readonly steps: readonly Step[];
  readonly messages: ReadonlyMap<string, MessageRecord>;
  /** There is more than one transaction takes. */
  readonly more: boolean;
}

export class Subscriptions implements InboxSource {
  readonly #topics: Topics;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #readsTopic: ReadsTopic | undefined;

  constructor(options: { topics: Topics; clock: Clock; random: Random; readsTopic?: ReadsTopic | undefined }) {
    const { topics, clock, random, readsTopic } = options;
    this.#readsTopic = readsTopic;
    this.#topics = topics;
    this.#clock = clock;
    this.#random = random;
  }

  /**
   * Subscribing again to the same with the same filter goes on with the subscription there is; with `replayFrom` it is set back
   * to there. What an agent got once does not come again by it.
   */
  async subscribe(call: Call, input: NewSubscription): Promise<{ subscription: Subscription }> {
    const agentId = speakAs(call.caller, input.agentId);
    if (input.from !== undefined) checkAgentId(input.from);
    const id = newId("sub", this.#random);
    const wanted = { topics: unique(input.topics), ...filterOf(input) };
    const cursors = await this.#begin(call.store, wanted.topics, input.replayFrom ?? "now");
    const prefix = subscriptionsPrefix(agentId);
    const range = prefixRange(prefix, SUBSCRIPTIONS_MAX);
    const subscription = await call.transact(
      (tx): Subscription => {
        const entries = tx.scan(range);
        const same = entries.map(subscriptionOf).find((one) => sameFilter(one, wanted));
        if (same && (input.replayFrom === undefined || input.replayFrom === "now")) return same;
        if (!same && entries.length === SUBSCRIPTIONS_MAX) {
          throw new SwarmError("limit_exceeded", `An agent has at most ${SUBSCRIPTIONS_MAX} subscriptions.`, {
            hint: "End one with unsubscribe (list_subscriptions shows them), or name several topics in one.",
          });
        }
        const made = { agentId, ...wanted, cursors };
        const subscription = same ? { ...same, ...made } : { id, ...made, createdAt: tx.now, received: 0, missed: 0 };
        keep(tx, subscription);
        return subscription;
      },
      { prefetch: { ranges: [range] } },
    );
    return { subscription };
  }

  /** @throws SwarmError not_found */
  async unsubscribe(
    call: Call,
    input: { subscriptionId: string; agentId?: string | undefined },
  ): Promise<{ subscription: Subscription }> {
    const agentId = speakAs(call.caller, input.agentId);
    const key = subscriptionKey(agentId, input.subscriptionId);
    const subscription = await call.transact((tx): Subscription => {
      const entry = tx.get(key);
      if (!entry) {
        throw new SwarmError("not_found", `${agentId} has no subscription of that id.`, {
          hint: "list_subscriptions shows those there are.",
        });
      }
      tx.delete(key);
      return subscriptionOf(entry);
    });
    return { subscription };
  }

  /** The agent's subscriptions, and how many messages each has yet to look at; `total` counts those of all pages. */
  async list(call: Call, input: ListSubscriptions = {}): Promise<SubscriptionPage> {
    const agentId = speakAs(call.caller, input.agentId);
    const scope = { list: "subscriptions", prefix: subscriptionsPrefix(agentId) };
    const after = input.cursor === undefined ? "" : decodeCursor(scope, input.cursor);
    const { entries, heads } = await this.#read(call.store, agentId);
    const rest = entries.filter(({ key }) => key > after);
    const page = rest.slice(0, input.limit ?? SUBSCRIPTIONS_MAX);
    const subscriptions = page.map((entry) => {
      const subscription = subscriptionOf(entry);
      const behind = topicsOf(subscription, heads).reduce(
        (sum, topic) => sum + topic.last - cursorIn(subscription, topic).seen,
        0,
      );
      return { ...subscription, behind };
    });
    const last = page.length < rest.length ? page.at(-1) : undefined;
    const found = { subscriptions, total: entries.length };
    return last === undefined ? found : { ...found, nextCursor: encodeCursor(scope, last.key) };
  }

  readonly prefixes: readonly string[] = [TOPICS_PREFIX, SUBSCRIPTIONS_PREFIX];

  /** One scan for an agent without subscriptions; else one more read, of the topics' records. */
  async pending(store: Store, agentId: string): Promise<boolean | undefined> {
    const { entries, heads } = await this.#read(store, agentId);
    if (entries.length === 0) return undefined;
    return entries.some((entry) => {
      const one = subscriptionOf(entry);
      return this.#ends(entry) || topicsOf(one, heads).some((topic) => topic.last > cursorIn(one, topic).seen);
    });
  }

  async pull(store: Store, agentId: string): Promise<void> {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const pulled = await this.#look(store, agentId);
      if (!pulled) return;
      const ids = [...pulled.messages.keys()];
      await store.transact((tx) => take(tx, agentId, pulled), {
        prefetch: { keys: [...pulled.steps.map(({ key }) => key), ...ids.map((id) => deliveryKey(agentId, id))] },
      });
      if (!pulled.more) return;
    }
  }

  /** Whether it is time to renew a subscription. Half of weeks is left then: the process's own clock will do. */
  #ends({ expiresAt = Number.POSITIVE_INFINITY }: Entry): boolean {
    return expiresAt - this.#clock.now() < SUBSCRIPTION_MS / 2;
  }

  /** The agent's subscriptions and the records of the topics they are about. */
  async #read(store: Store, agentId: string): Promise<{ entries: Entry[]; heads: TopicRecord[] }> {
    const entries = await store.scan(prefixRange(subscriptionsPrefix(agentId), SUBSCRIPTIONS_MAX));
    if (entries.length === 0) return { entries, heads: [] };
    const patterns = entries.flatMap((entry) => subscriptionOf(entry).topics);
    const heads = await this.#heads(store, patterns);
    // what policy no longer lets the agent read stays unread; when it does again, the subscription goes on there
    return { entries, heads: this.#readsTopic ? heads.filter(({ name }) => this.#readsTopic?.(agentId, name)) : heads };
  }

  async #heads(store: Store, patterns: readonly string[]): Promise<TopicRecord[]> {
    const names = new Set(patterns.filter((pattern) => !pattern.endsWith("*")));
    const beginnings = patterns.filter((pattern) => pattern.endsWith("*"));
    if (beginnings.length > 0) {
      const { names: all } = await this.#topics.directory(store);
      for (const { name } of all) if (beginnings.some((pattern) => isTopicOf(pattern, name))) names.add(name);
    }
    if (names.size === 0) return [];
    const entries = await store.getMany([...names].map(topicKey));
    return entries.flatMap((entry) => (entry ? [entry.value as TopicRecord] : []));
  }

  /**
   * Where a subscription that is made now begins in each topic that there is. A topic that comes later is read from its beginning.
   */
  async #begin(
    store: Store,
    patterns: readonly string[],
    replayFrom: "now" | "start" | number,
  ): Promise<Subscription["cursors"]> {
    const heads = await this.#heads(store, patterns);
    if (replayFrom !== "now" && heads.length > REPLAYED_TOPICS_MAX) {
      throw new SwarmError("invalid_argument", `topics name more than ${REPLAYED_TOPICS_MAX} topics to replay.`, {
        hint: "Name fewer, or leave replayFrom out.",
      });
    }
    const cursors: { [topic: string]: TopicCursor } = {};
    for (const { name, number, last } of heads) {
      const seen = replayFrom === "now" ? last : (await firstFrom(store, name, last, replayFrom)) - 1;
      cursors[name] = { topic: number, seen, since: last };
    }
    return cursors;
  }

  /** What one transaction is to take; undefined when there is nothing to do. */
  async #look(store: Store, agentId: string): Promise<Pulled | undefined> {
    const { entries, heads } = await this.#read(store, agentId);
    const steps: Step[] = [];
    const wanted = new Set<string>();
    let passed = 0;
    let more = false;
    for (const entry of entries) {
      const subscription = subscriptionOf(entry);
      const cursors: { [topic: string]: TopicCursor } = {};
      const messages: string[] = [];
      let missed = 0;
      for (const topic of topicsOf(subscription, heads)) {
        const cursor = cursorIn(subscription, topic);
        cursors[topic.name] = cursor;
        if (topic.last <= cursor.seen) continue;
        if (passed >= PASSED_MAX || wanted.size >= TAKEN_MAX) {
          more = true;
          continue;
        }
        const limit = PASSED_MAX - passed;
        const prefix = logPrefix(topic.name);
        const rows = await store.scan({ ...prefixRange(prefix, limit), from: `${prefix}${ordered(cursor.seen + 1)}` });
        let { seen } = cursor;
        let whole = true;
        for (const row of rows.map(({ value }) => value as LogRow)) {
          if (wanted.size >= TAKEN_MAX) {
            whole = false;
            break;
          }
          missed += row.number - seen - 1;
          seen = row.number;
          passed += 1;
          if (!isWanted(subscription, row, cursor)) continue;
          wanted.add(row.id);
          messages.push(row.id);
        }
        if (!whole || rows.length === limit) more = true;
        else if (topic.last > seen) {
          missed += topic.last - seen;
          seen = topic.last;
        }
        cursors[topic.name] = { ...cursor, seen };
      }
      const moved = Object.entries(cursors).some(([name, { seen, topic }]) => {
        const before = subscription.cursors[name];
        return before?.seen !== seen || before.topic !== topic;
      });
      if (!moved && !this.#ends(entry)) continue;
      const next = { ...subscription, cursors, missed: subscription.missed + missed };
      steps.push({ key: entry.key, rev: entry.rev, next, messages });
    }
    if (steps.length === 0) return undefined;
    const ids = [...wanted];
    const found = ids.length === 0 ? [] : await store.getMany(ids.map(messageKey));
    const messages = new Map(
      found.flatMap((entry) => (entry ? [[(entry.value as MessageRecord).id, entry.value as MessageRecord]] : [])),
    );
    return { steps, messages, more };
  }
}

/** Delivers and moves the cursors. Rows of a log never change, so all that must still hold is where the cursors were. */
function take(tx: Transaction, agentId: string, { steps, messages }: Pulled): void {
  for (const { key, rev, next, messages: ids } of steps) {
    if (tx.get(key)?.rev !== rev) continue; // another process of this agent took it, or it ended
    let received = 0;
    for (const id of ids) {
      const message = messages.get(id);
      if (message && deliver(tx, message, agentId)) received += 1;
    }
    keep(tx, { ...next, received: next.received + received });
  }
}

function keep(tx: Transaction, subscription: Subscription): void {
  tx.put(subscriptionKey(subscription.agentId, subscription.id), { ...subscription }, { ttlMs: SUBSCRIPTION_MS });
}

function subscriptionOf(entry: Entry): Subscription {
  return entry.value as Subscription;
}

function topicsOf({ topics }: Subscription, heads: readonly TopicRecord[]): TopicRecord[] {
  return heads.filter(({ name }) => topics.some((pattern) => isTopicOf(pattern, name)));
}

/** Where a subscription is in a topic; at the beginning of one that came later. */
function cursorIn({ cursors }: Subscription, { name, number }: TopicRecord): TopicCursor {
  const known = Object.hasOwn(cursors, name) ? cursors[name] : undefined;
  return known?.topic === number ? known : { topic: number, seen: 0, since: 0 };
}

function isWanted(subscription: Subscription, row: LogRow, { since }: TopicCursor): boolean {
  return (row.keep || row.number > since) && fits(subscription, row);
}

/** What of a message a subscription goes by. */
type Published = Pick<LogRow, "from" | "messageType" | "senderCapabilities">;

function fits({ agentId, types, from, senderCapability }: Subscription, row: Published): boolean {
  return (
    row.from !== agentId &&
    (types === undefined || types.includes(row.messageType)) &&
    (from === undefined || row.from === from) &&
    (senderCapability === undefined || row.senderCapabilities.includes(senderCapability))
  );
}

/** The subscriptions there are, to count takers among them; `more` than SUBSCRIPTIONS_COUNTED_MAX are not read. */
export async function readSubscriptions(store: Pick<Store, "scan">): Promise<{ subscriptions: Subscription[]; more: boolean }> {
  const entries = await store.scan(prefixRange(SUBSCRIPTIONS_PREFIX, SUBSCRIPTIONS_COUNTED_MAX));
  return { subscriptions: entries.map(subscriptionOf), more: entries.length === SUBSCRIPTIONS_COUNTED_MAX };
}

/** How many agents take such a message from a topic when they next read: for its sender to know; nothing is delivered by it. */
export function countTakers(subscriptions: readonly Subscription[], topic: string, message: Published): number {
  const takers = subscriptions.filter(
    (subscription) => subscription.topics.some((pattern) => isTopicOf(pattern, topic)) && fits(subscription, message),
  );
  return new Set(takers.map(({ agentId }) => agentId)).size;
}

type Filter = Pick<Subscription, "types" | "from" | "senderCapability">;

function filterOf({ types, from, senderCapability }: NewSubscription): Filter {
  return {
    ...(types === undefined || types.length === 0 ? {} : { types: unique(types) }),
    ...(from === undefined ? {} : { from }),
    ...(senderCapability === undefined ? {} : { senderCapability }),
  };
}

const unique = (words: readonly string[]): string[] => [...new Set(words)].sort();

function sameFilter(one: Subscription, other: Filter & Pick<Subscription, "topics">): boolean {
  const text = ({ topics, types, from, senderCapability }: typeof other) =>
    JSON.stringify([topics, types, from, senderCapability]);
  return text(one) === text(other);
}

/** The number of the first message that is still there and was published at `from` or later; behind the last when there is none. */
async function firstFrom(store: Store, topic: string, last: number, from: "start" | number): Promise<number> {
  const prefix = logPrefix(topic);
  /** The first row at or behind a number. */
  const rowAt = async (number: number) => {
    const [entry] = await store.scan({ ...prefixRange(prefix, 1), from: `${prefix}${ordered(number)}` });
    return entry?.value as LogRow | undefined;
  };
  const first = (await rowAt(0))?.number ?? last + 1;
  if (from === "start") return first;
  let [low, high] = [first, last + 1];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const row = await rowAt(middle);
    if (row === undefined || row.sentAt >= from) high = middle;
    else low = row.number + 1;
  }
  return low;
}
