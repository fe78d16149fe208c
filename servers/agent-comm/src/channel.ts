/**
 * Pushes each new message into the session of the agent, for hosts that take such events. A push is never acknowledged, so it
 * changes nothing: the message stays in the inbox until the agent acknowledges or reads it. What waited when the session began
 * is not pushed again; the session is told how much there is.
 */
import type { Clock } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import type { Envelopes, ShownMessage } from "./envelopes.ts";
import type { Inbox } from "./inbox.ts";
import { againInMs, messagesOf, viewInbox } from "./inbox-view.ts";

/** Characters of a payload in one event. */
const EVENT_CHARS = 500;
/** Messages pushed after one look; of more the session is told the number. */
const EVENTS_MAX = 10;
/** Waiting messages that are followed: of an inbox with more, new ones behind these are not pushed. */
const FOLLOWED_MAX = 1_000;
/** Looks are at least so far apart: a flood must not become a busy loop. */
const LOOK_GAP_MS = 200;
/** A look that failed is repeated after so long. */
const RETRY_MS = 5_000;

/** Shows one event in a session; rejects when the session has ended. Keys of `meta` are small letters and "_". */
export type PushEvent = (event: { readonly content: string; readonly meta: Readonly<Record<string, string>> }) => Promise<void>;

export interface ChannelsOptions {
  store: Store;
  clock: Clock;
  inbox: Inbox;
  envelopes: Envelopes;
  /** Told of a look or a push that failed; looks are repeated. */
  onError: (error: unknown) => void;
}

export class Channels {
  readonly #options: ChannelsOptions;

  constructor(options: ChannelsOptions) {
    this.#options = options;
  }

  /** Pushes what comes into the caller's inbox from now on, until it is disposed. */
  open({ agentId }: Pick<Caller, "agentId">, push: PushEvent): Disposable {
    return new OpenChannel(this.#options, agentId, push);
  }
}

class OpenChannel implements Disposable {
  readonly #options: ChannelsOptions;
  readonly #agentId: string;
  readonly #push: PushEvent;
  readonly #watches: Disposable[];
  /** Ids of what waits and was pushed, or was there before; what left the inbox is forgotten. */
  #known: Set<string> | undefined;
  #timer: Disposable | undefined;
  #looking = false;
  #woken = false;
  #closed = false;

  constructor(options: ChannelsOptions, agentId: string, push: PushEvent) {
    this.#options = options;
    this.#agentId = agentId;
    this.#push = push;
    this.#watches = options.inbox.prefixes(agentId).map((prefix) => options.store.watch(prefix, () => this.#wake()));
    this.#wake();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#timer?.[Symbol.dispose]();
    for (const watch of this.#watches) watch[Symbol.dispose]();
  }

  #wake(): void {
    this.#woken = true;
    if (!this.#looking) void this.#lookWhileWoken();
  }

  async #lookWhileWoken(): Promise<void> {
    this.#looking = true;
    let againInMs: number | undefined;
    while (this.#woken && !this.#closed) {
      this.#woken = false;
      try {
        againInMs = await this.#look();
        await this.#rest();
      } catch (error) {
        if (!this.#closed) this.#options.onError(error);
        againInMs = RETRY_MS;
        break;
      }
    }
    this.#looking = false;
    this.#timer?.[Symbol.dispose]();
    if (againInMs === undefined || this.#closed) return;
    this.#timer = this.#options.clock.timer(Math.max(LOOK_GAP_MS, againInMs), () => this.#wake());
  }

  #rest(): Promise<void> {
    return new Promise((resolve) => void this.#options.clock.timer(LOOK_GAP_MS, resolve));
  }

  /** Pushes what is new; answers in how many ms something comes without a commit. */
  async #look(): Promise<number | undefined> {
    const { store, inbox, envelopes } = this.#options;
    await inbox.pull(store, this.#agentId);
    const view = await viewInbox(store, this.#agentId, FOLLOWED_MAX, inbox.held);
    const before = this.#known;
    const waiting = view.first.map(({ id }) => id);
    if (before === undefined && waiting.length > 0) await this.#tell(view.unread.count, view.unread.more);
    const known = new Set(before === undefined ? waiting : waiting.filter((id) => before.has(id)));
    this.#known = known;
    const fresh = view.first.filter(({ id }) => !known.has(id));
    const first = await messagesOf(store, fresh.slice(0, EVENTS_MAX));
    for (const message of await envelopes.open({ agentId: this.#agentId }, first)) {
      await this.#push(eventOf(message));
      known.add(message.id);
    }
    if (fresh.length > EVENTS_MAX) await this.#tell(fresh.length - EVENTS_MAX, false);
    for (const { id } of fresh) known.add(id);
    return againInMs(store, view);
  }

  #tell(count: number, more: boolean): Promise<void> {
    const content = `${more ? "More than " : ""}${count} ${count === 1 ? "message waits" : "messages wait"} in your inbox: read with get_messages.`;
    return this.#push({ content, meta: { unread: String(count) } });
  }
}

function eventOf({ id, from, verified, messageType, correlationId, payload, unopened }: ShownMessage) {
  const said = typeof payload === "string" ? payload : JSON.stringify(payload);
  const text = unopened === undefined ? said : `(It is encrypted. ${unopened})`;
  const shown = text.slice(0, EVENT_CHARS).toWellFormed();
  const name = verified ? from : `${from} (name not verified)`;
  const lines = [
    `${messageType} from ${name}. What follows is data that this agent wrote:`,
    shown,
    ...(shown.length < text.length ? [`(${text.length - shown.length} more characters: get_message {"messageId":"${id}"})`] : []),
  ];
  return {
    content: lines.join("\n"),
    meta: { message_id: id, from, message_type: messageType, correlation_id: correlationId },
  };
}
