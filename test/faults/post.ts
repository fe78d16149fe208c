/**
 * Hosts that write to one another and note what they were told. Every answer is a promise: what was sent comes, what was handed
 * out is nobody else's for its time, what was acknowledged never comes again. In the end the notes are held against the store.
 */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import type { ToolAnswer } from "../support/host.ts";
import { HostKilled, LOCK_WORDS, Member } from "./crew.ts";

/** After so many deliveries without an acknowledgement a message is a dead letter. */
const DELIVERIES_MAX = 5;
/** What `later` puts a message off by. */
const LATER_MS = 200;
/** Pages of one prefix that a census reads. */
const PAGES_MAX = 100;

export type Outcome = "done" | "later" | "reject";
export type Kind = "direct" | "request" | "reply" | "all" | "topic";

/** A call that sends, answered or not. Its name is in the payload, so that receivers tell what they got. */
interface Attempt {
  readonly name: string;
  readonly kind: Kind;
  readonly from: string;
  readonly priority: number;
  /** Not to be handed out at once: order says nothing of it. */
  readonly delayed: boolean;
  /** The receiver, or the topic. */
  readonly to?: string;
  readonly beganAt: number;
  /** When the answer came; it was acknowledged then. */
  endedAt?: number;
  id?: string;
  expiresAt?: number;
  /** Of a broadcast: receivers that got it. */
  delivered?: number;
  /** Of a topic: its place in there. */
  sequence?: number;
}

export interface Message {
  readonly id: string;
  readonly from: string;
  readonly deliveries: number;
  readonly messageType: string;
  readonly priority: number;
  readonly payload: { readonly name: string };
}

/** One message in one answer of get_messages. */
interface HandedOut {
  readonly agent: string;
  readonly message: Message;
  /** Its place in the answer. */
  readonly index: number;
  readonly beganAt: number;
  readonly endedAt: number;
  readonly acknowledged: boolean;
  readonly visibilityMs: number;
  readonly life: Life;
}

/** One process of a host; what it had is free when it ends. */
interface Life {
  endsAt: number;
}

/** An acknowledgement; `confirmed` when it was answered. */
interface Settled {
  readonly agent: string;
  readonly id: string;
  readonly outcome: Outcome;
  readonly beganAt: number;
  confirmedAt?: number;
  status?: string;
}

/** What the store has of one message at one receiver. */
export interface StoredDelivery {
  readonly id: string;
  readonly to: string;
  readonly from: string;
  readonly state: "ready" | "delayed" | "in_flight" | "done" | "dead";
  readonly deliveries: number;
  readonly cause?: "rejected" | "undelivered";
}

/** What the store holds at one moment. */
export interface PostCensus {
  readonly deliveries: readonly StoredDelivery[];
  readonly messages: readonly { readonly id: string; readonly payload: { readonly name: string } }[];
  readonly now: number;
}

export interface PostOptions {
  readonly store: string;
  /** Names of agents, one for each process; an agent may have several. */
  readonly agents: readonly string[];
  readonly leaseMs: number;
  /** How far the clocks of the test and of what decides about times may lie apart. */
  readonly skewMs: number;
  /** Of which calls are repeated that were cut off. */
  readonly seed: number;
  readonly env?: Record<string, string>;
}

/** A call that changes something. */
interface Call {
  readonly tool: string;
  readonly args: Record<string, unknown>;
  /** Errors that are answers too. */
  readonly mayBe?: RegExp;
  /** Messages that are gone at `agent` when the call took place and nobody heard so. */
  readonly cutOff?: number;
  readonly agent?: string;
  /** Notes the answer. */
  readonly took: (answer: ToolAnswer, beganAt: number) => void;
}

interface Read {
  readonly agentId?: string;
  readonly limit?: number;
  readonly waitMs?: number;
  readonly acknowledge?: boolean;
  readonly visibilityMs: number;
}

export class Post implements AsyncDisposable {
  readonly members: readonly Member[];
  readonly #skewMs: number;
  readonly #attempts = new Map<string, Attempt>();
  readonly #handedOut: HandedOut[] = [];
  readonly #settled: Settled[] = [];
  readonly #subscribed: { agent: string; topic: string; at: number }[] = [];
  readonly #lives = new Map<Member, Life>();
  readonly #random: Random;
  /** Calls that were cut off and are made again, with the same idempotency key, when their host is back. */
  readonly #toRepeat = new Map<Member, { call: Call; beganAt: number }>();
  #keys = 0;
  /** Agents whose reading or asking was cut off when it acknowledged by itself: so many messages may have gone with it. */
  readonly #cutOff = new Map<string, number>();
  #names = 0;
  #repeated = 0;

  private constructor({ store, agents, leaseMs, skewMs, seed, env }: PostOptions) {
    this.#skewMs = skewMs;
    this.#random = seededRandom(seed);
    const options = { server: "agent-comm", store, env: { SWARM_LEASE_MS: String(leaseMs), ...env } };
    this.members = agents.map((agent) => new Member(agent, options));
  }

  /** All members start at the same moment. */
  static async start(options: PostOptions): Promise<Post> {
    const post = new Post(options);
    await Promise.all(post.members.map((member) => post.revive(member)));
    return post;
  }

  /** Starts a member, which then repeats what was cut off when it was killed, if it is to. */
  async revive(member: Member): Promise<void> {
    await member.start();
    this.#lives.set(member, { endsAt: Number.POSITIVE_INFINITY });
    const cut = this.#toRepeat.get(member);
    this.#toRepeat.delete(member);
    if (!cut) return;
    this.#repeated += 1;
    await this.#do(member, cut.call, cut.beganAt);
  }

  /** How many calls were repeated after a kill. */
  get repeated(): number {
    return this.#repeated;
  }

  /** Ends a member cleanly: it gives back what it had. */
  async retire(member: Member): Promise<void> {
    this.#life(member).endsAt = clock();
    await member.close();
  }

  get stderr(): string {
    return this.members.map(({ agent, stderr }) => (stderr === "" ? "" : `${agent}: ${stderr}`)).join("");
  }

  /** How many answers promised something. */
  get acknowledged(): number {
    const sent = [...this.#attempts.values()].filter(({ id }) => id !== undefined).length;
    return sent + this.#handedOut.length + this.#settled.filter(({ confirmedAt }) => confirmedAt !== undefined).length;
  }

  /** Messages that at least one host was handed. */
  get received(): number {
    return new Set(this.#handedOut.map(({ agent, message }) => `${agent} ${message.id}`)).size;
  }

  async subscribe(member: Member, topic: string): Promise<void> {
    const took = () => void this.#subscribed.push({ agent: member.agent, topic, at: clock() });
    await this.#do(member, { tool: "subscribe", args: { topics: [topic] }, took });
  }

  async send(member: Member, to: string, more: Record<string, unknown> = {}, kind: "direct" | "reply" = "direct"): Promise<void> {
    const attempt = this.#begin(member, kind, more, to);
    const args = { targetAgent: to, messageType: kind, payload: { name: attempt.name }, ...more };
    await this.#do(member, { tool: "send_message", args, took: ({ structured }) => sent(attempt, structured.message) });
  }

  async broadcast(member: Member): Promise<void> {
    const attempt = this.#begin(member, "all", {});
    const args = { scope: "all", messageType: "all", payload: { name: attempt.name } };
    const took = ({ structured }: ToolAnswer) => {
      sent(attempt, structured.message);
      attempt.delivered = Number(structured.delivered);
    };
    await this.#do(member, { tool: "broadcast_message", args, took });
  }

  async publish(member: Member, topic: string): Promise<void> {
    const attempt = this.#begin(member, "topic", {}, topic);
    const args = { scope: "topic", name: topic, messageType: "topic", payload: { name: attempt.name } };
    const took = ({ structured }: ToolAnswer) => {
      sent(attempt, structured.message);
      attempt.sequence = (structured.published as { sequence: number }).sequence;
    };
    await this.#do(member, { tool: "broadcast_message", args, took });
  }

  /** Asks and waits; that no reply comes in time is an answer too. */
  async request(member: Member, to: string, waitMs: number): Promise<void> {
    const { agent } = member;
    const attempt = this.#begin(member, "request", {}, to);
    const args = { targetAgent: to, messageType: "request", payload: { name: attempt.name }, waitMs };
    const took = ({ isError, text, structured }: ToolAnswer) => {
      const id = isError ? /No reply to (\S+) came/.exec(text)?.[1] : structured.requestId;
      sent(attempt, { id });
      if (isError) return;
      const { id: replyId } = structured.reply as Message;
      const { beganAt } = attempt;
      this.#settled.push({ agent, id: replyId, outcome: "done", beganAt, confirmedAt: clock(), status: "done" });
    };
    await this.#do(member, { tool: "request_reply", args, mayBe: /^deadline_exceeded: /, cutOff: 1, took });
  }

  async read(member: Member, { agentId, ...args }: Read): Promise<readonly Message[]> {
    const { limit = 10, acknowledge = false, visibilityMs } = args;
    const agent = agentId === undefined ? member.agent : `${member.agent}/${agentId}`;
    let messages: readonly Message[] = [];
    const took = ({ structured }: ToolAnswer, beganAt: number) => {
      messages = structured.messages as Message[];
      const [endedAt, life] = [clock(), this.#life(member)];
      for (const [index, message] of messages.entries()) {
        this.#handedOut.push({ agent, message, index, beganAt, endedAt, acknowledged: acknowledge, visibilityMs, life });
      }
    };
    const call = { tool: "get_messages", args: agentId === undefined ? args : { ...args, agentId }, agent, took };
    // what is not acknowledged comes again anyway
    await this.#do(member, acknowledge ? { ...call, cutOff: limit } : call, undefined, acknowledge);
    return messages;
  }

  async acknowledge(member: Member, id: string, outcome: Outcome): Promise<void> {
    const note: Settled = { agent: member.agent, id, outcome, beganAt: clock() };
    this.#settled.push(note);
    const took = ({ structured }: ToolAnswer) => {
      note.confirmedAt = clock();
      note.status = (structured.messages as { status: string }[])[0]?.status ?? "none";
    };
    const args = { messageIds: [id], outcome, ...(outcome === "later" ? { delayMs: LATER_MS } : {}) };
    await this.#do(member, { tool: "acknowledge_messages", args, took });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
  }

  /** All that was promised and is not so, and all that was never to happen; empty when all is well. */
  wrong({ deliveries, messages, now }: PostCensus): string[] {
    const ids = Map.groupBy(messages, ({ payload }) => payload.name);
    const doubled = [...ids].flatMap(([name, all]) => (all.length > 1 ? [`${name} was sent ${all.length} times.`] : []));
    return [...doubled, ...this.#lost(deliveries, now), ...this.#twice(), ...this.#outOfOrder(), ...this.#uneven(deliveries)];
  }

  /**
   * A call that must succeed, but for errors that it may be answered with. When its host is killed, some calls are repeated once it
   * is back: the answer is then that of the first, wherever that was cut off.
   * @throws HostKilled
   */
  async #do(member: Member, call: Call, firstAt?: number, repeatable = true): Promise<void> {
    const beganAt = clock();
    this.#keys += 1;
    const args = call.args.idempotencyKey === undefined ? { ...call.args, idempotencyKey: `key-${this.#keys}` } : call.args;
    try {
      const answer = await member.try(call.tool, args);
      const wrong = answer.isError && !call.mayBe?.test(answer.text);
      if (wrong || LOCK_WORDS.test(answer.text)) throw new Error(`${member.agent} was told by ${call.tool}: ${answer.text}`);
      call.took(answer, firstAt ?? beganAt);
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      const life = this.#life(member);
      life.endsAt = Math.min(life.endsAt, beganAt);
      if (repeatable && this.#random.integer(2) === 0) this.#toRepeat.set(member, { call: { ...call, args }, beganAt });
      else {
        const { agent = member.agent, cutOff = 0 } = call;
        this.#cutOff.set(agent, (this.#cutOff.get(agent) ?? 0) + cutOff);
      }
      throw error;
    }
  }

  #begin({ agent }: Member, kind: Kind, args: Record<string, unknown>, to?: string): Attempt {
    this.#names += 1;
    const name = `${kind}-${this.#names}`;
    const priority = Number(args.priority ?? 5);
    const base = { name, kind, from: agent, priority, delayed: args.notBefore !== undefined, beganAt: clock() };
    const attempt: Attempt = to === undefined ? base : { ...base, to };
    this.#attempts.set(name, attempt);
    return attempt;
  }

  #life(member: Member): Life {
    const life = this.#lives.get(member);
    if (!life) throw new Error(`${member.agent} never started`);
    return life;
  }

  /** Who was to get what, by what senders were told. */
  #promised(): { agent: string; attempt: Attempt }[] {
    return [...this.#attempts.values()].flatMap((attempt) => {
      const { kind, to, id, from, beganAt } = attempt;
      if (id === undefined || kind === "all") return [];
      if (kind !== "topic") return [{ agent: to ?? "", attempt }];
      const readers = this.#subscribed.filter(({ agent, topic, at }) => topic === to && at < beganAt && agent !== from);
      return readers.map(({ agent }) => ({ agent, attempt }));
    });
  }

  /** What was sent and neither read, nor dead, nor over by its own terms. */
  #lost(deliveries: readonly StoredDelivery[], now: number): string[] {
    const wrong: string[] = [];
    const stored = new Map(deliveries.map((delivery) => [`${delivery.to} ${delivery.id}`, delivery]));
    const seen = new Set([
      ...this.#handedOut.map(({ agent, message }) => `${agent} ${message.id}`),
      ...this.#settled.map(({ agent, id }) => `${agent} ${id}`),
    ]);
    const unread = new Map<string, number>();
    const expired = new Set(
      [...this.#attempts.values()].flatMap(({ id, expiresAt }) => (id && expiresAt && expiresAt <= now ? [id] : [])),
    );
    for (const { agent, attempt } of this.#promised()) {
      const key = `${agent} ${attempt.id}`;
      if (!seen.has(key) && !stored.has(key) && !expired.has(attempt.id ?? "")) {
        wrong.push(`${attempt.name} from ${attempt.from} to ${agent} was acknowledged and is nowhere.`);
      }
    }
    for (const [key, { to, from, id, state, cause, deliveries: times }] of stored) {
      if (state !== "done" && state !== "dead") wrong.push(`${id} from ${from} is still ${state} at ${to}.`);
      if (cause === "undelivered" && times !== DELIVERIES_MAX) wrong.push(`${id} died at ${to} after ${times} deliveries.`);
      if (seen.has(key)) continue;
      if (state === "dead" && cause === "rejected") wrong.push(`${id} was rejected by ${to}, which never had it.`);
      if (state === "done") unread.set(to, (unread.get(to) ?? 0) + 1);
    }
    for (const [agent, count] of unread) {
      // read with acknowledge: true, they are delivered at most once
      const cut = this.#cutOff.get(agent) ?? 0;
      if (count > cut) wrong.push(`${count} messages are done at ${agent} that it never had; ${cut} may have been cut off.`);
    }
    return wrong;
  }

  /** What was handed out though it was another's, or over. */
  #twice(): string[] {
    const wrong: string[] = [];
    const given = Map.groupBy(this.#handedOut, ({ agent, message }) => `${agent} ${message.id}`);
    const settled = Map.groupBy(this.#settled, ({ agent, id }) => `${agent} ${id}`);
    for (const [key, times] of given) {
      const notes = settled.get(key) ?? [];
      const attempt = this.#attempts.get(times[0]?.message.payload.name ?? "");
      for (const one of times) {
        const { message } = one;
        if (attempt?.from !== message.from) wrong.push(`${key} says it is from ${message.from}, and was ${attempt?.name}.`);
        if (attempt?.id !== undefined && attempt.id !== message.id) wrong.push(`${attempt.name} came as ${message.id}.`);
        const { expiresAt } = attempt ?? {};
        if (expiresAt !== undefined && one.beganAt > expiresAt + this.#skewMs) wrong.push(`${key} came after it expired.`);
        for (const { outcome, confirmedAt, status } of notes) {
          const over = outcome !== "later" && (status === "done" || status === "dead");
          if (over && confirmedAt !== undefined && confirmedAt < one.beganAt) wrong.push(`${key} came after it was ${status}.`);
        }
      }
      const ordered = times.toSorted((a, b) => a.message.deliveries - b.message.deliveries);
      for (const [at, next] of ordered.entries()) {
        const one = ordered[at - 1];
        if (!one) continue;
        const count = one.message.deliveries;
        if (count === next.message.deliveries) wrong.push(`Delivery ${count} of ${key} was given to two readers.`);
        if (next.endedAt < one.beganAt) wrong.push(`${key}: delivery ${next.message.deliveries} came before delivery ${count}.`);
        if (one.acknowledged) wrong.push(`${key} came again though its reading acknowledged it.`);
        if (next.endedAt + this.#skewMs < heldUntil(one, notes))
          wrong.push(`${key} came again while it was in somebody's hands.`);
      }
    }
    return wrong;
  }

  /** First deliveries that came in another order than they were sent in. */
  #outOfOrder(): string[] {
    const wrong: string[] = [];
    const first = this.#handedOut.flatMap((one) => {
      const attempt = this.#attempts.get(one.message.payload.name);
      return one.message.deliveries === 1 && attempt && !attempt.delayed ? [{ one, attempt }] : [];
    });
    const ofSenders = Map.groupBy(first, ({ one, attempt: { from, priority } }) => `${one.agent}, ${from} ${priority}`);
    const published = first.filter(({ attempt }) => attempt.kind === "topic");
    const ofTopics = Map.groupBy(published, ({ one, attempt }) => `${one.agent}, topic ${attempt.to}`);
    for (const [which, arrivals] of [...ofSenders, ...ofTopics]) {
      for (const earlier of arrivals) {
        for (const later of arrivals) {
          if (!isBefore(earlier.attempt, later.attempt)) continue;
          const sameAnswer = earlier.one.beganAt === later.one.beganAt && earlier.one.life === later.one.life;
          const overtook = sameAnswer ? later.one.index < earlier.one.index : later.one.endedAt < earlier.one.beganAt;
          if (overtook) wrong.push(`${which}: ${later.attempt.name} was read before ${earlier.attempt.name}.`);
        }
      }
    }
    return wrong;
  }

  /** Broadcasts that other than so many got as their sender was told. */
  #uneven(deliveries: readonly StoredDelivery[]): string[] {
    const receivers = Map.groupBy(deliveries, ({ id }) => id);
    return [...this.#attempts.values()].flatMap(({ name, id, delivered }) => {
      const got = id === undefined ? 0 : (receivers.get(id)?.length ?? 0);
      return delivered === undefined || got === delivered ? [] : [`${name} was delivered to ${delivered}, and ${got} have it.`];
    });
  }
}

/** Notes that a message was sent. */
function sent(attempt: Attempt, message: unknown): void {
  const { id, expiresAt } = message as { id?: string; expiresAt?: number };
  if (id === undefined) throw new Error(`${attempt.name} was sent without an id`);
  attempt.endedAt = clock();
  attempt.id = id;
  if (expiresAt !== undefined) attempt.expiresAt = expiresAt;
}

/** Ms since the epoch, in parts of ms: what is told one right after the other is still told apart. */
function clock(): number {
  return performance.timeOrigin + performance.now();
}

/** Until when nobody else may be handed a message that somebody was. */
function heldUntil({ beganAt, message, visibilityMs, life }: HandedOut, notes: readonly Settled[]): number {
  const hidden = beganAt + visibilityMs * 2 ** (message.deliveries - 1);
  const releases = notes.filter(({ outcome }) => outcome === "later").map((note) => note.beganAt);
  return Math.min(hidden, life.endsAt, ...releases.filter((at) => at >= beganAt));
}

/** Whether one was acknowledged before the other was sent, or stands before it in their topic. */
function isBefore(one: Attempt, other: Attempt): boolean {
  const inOneTopic = one.kind === "topic" && other.kind === "topic" && one.to === other.to;
  if (inOneTopic && one.sequence !== undefined && other.sequence !== undefined) return one.sequence < other.sequence;
  return one.endedAt !== undefined && one.endedAt < other.beganAt;
}

async function all(store: Pick<Store, "scan">, prefix: string): Promise<unknown[]> {
  const values: unknown[] = [];
  let after: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const rows = await store.scan(prefixRange(prefix, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    values.push(...rows.map(({ value }) => value));
    after = rows.at(-1)?.key;
    if (rows.length < SCAN_LIMIT_MAX) return values;
  }
  throw new Error(`There is more below ${prefix} than this looks at`);
}

export async function postCensus(store: Pick<Store, "scan" | "now">): Promise<PostCensus> {
  const deliveries = (await all(store, "delivery/")) as StoredDelivery[];
  const messages = (await all(store, "msg/")) as PostCensus["messages"];
  return { deliveries, messages, now: await store.now() };
}

/** Index rows of inboxes that no delivery explains, and deliveries without theirs. */
export async function strayRows(store: Pick<Store, "scan" | "now">): Promise<string[]> {
  const rows = (await all(store, "inbox/")) as { id: string; to: string }[];
  const open = (await postCensus(store)).deliveries.filter(({ state }) => state !== "done");
  const left = new Set(open.map(({ id, to }) => `${to} ${id}`));
  const strays = rows.map(({ id, to }) => `${to} ${id}`).filter((key) => !left.delete(key));
  return [...strays.map((key) => `${key} has a row too many`), ...[...left].map((key) => `${key} has no row`)];
}
