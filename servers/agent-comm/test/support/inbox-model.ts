/** What one inbox does, said as simply as can be: a list of messages, and every question by looking at all of it. */
import type { DeliveryState } from "@mcp-swarm/coordination/messages";

const DELIVERIES_MAX = 5;
const VISIBILITY_MS = 300_000;
const HOUR_MS = 3_600_000;
const LATER_MS = 30_000;

export interface ModelMessage {
  readonly id: string;
  readonly sender: string;
  readonly type: string;
  readonly priority: number;
  readonly sentAt: number;
  /** How many the sender sent before at the same ms. */
  readonly same: number;
  readonly expiresAt: number;
  readonly ackDueAt: number | undefined;
  state: DeliveryState;
  rejected: boolean;
  dueAt: number;
  deliveries: number;
  process: string | undefined;
}

export interface Reader {
  readonly process: string | undefined;
  /** Whether another process of the reading agent lives. */
  alive(process: string): boolean;
}

export class InboxModel {
  now: number;
  #messages: ModelMessage[] = [];
  readonly #last = new Map<string, { at: number; same: number }>();

  constructor(now: number) {
    this.now = now;
  }

  get messages(): readonly ModelMessage[] {
    this.#messages = this.#messages.filter(({ expiresAt }) => expiresAt > this.now);
    return this.#messages;
  }

  /** `id` is what the inbox gave it; all else the model says itself. */
  send(
    id: string,
    given: {
      sender: string;
      type: string;
      priority: number;
      ttlMs: number | undefined;
      delayMs: number;
      ackWithinMs: number | undefined;
    },
  ): ModelMessage {
    const last = this.#last.get(given.sender);
    const same = last?.at === this.now ? last.same + 1 : 0;
    this.#last.set(given.sender, { at: this.now, same });
    const { sender, type, priority, ttlMs, delayMs, ackWithinMs } = given;
    const message: ModelMessage = {
      ...{ id, sender, type, priority, same },
      sentAt: this.now,
      expiresAt: ttlMs === undefined ? Number.POSITIVE_INFINITY : this.now + ttlMs,
      ackDueAt: ackWithinMs === undefined ? undefined : this.now + delayMs + ackWithinMs,
      state: delayMs > 0 ? "delayed" : "ready",
      rejected: false,
      dueAt: this.now + delayMs,
      deliveries: 0,
      process: undefined,
    };
    this.#messages.push(message);
    return message;
  }

  read(reader: Reader, options: { limit: number; type: string | undefined; acknowledge: boolean }): ModelMessage[] {
    for (const message of this.messages) {
      if (message.state !== "delayed" && message.state !== "in_flight") continue;
      const orphaned =
        message.state === "in_flight" &&
        message.process !== undefined &&
        message.process !== reader.process &&
        !reader.alive(message.process);
      if (message.dueAt <= this.now || orphaned) this.#comeAgain(message);
    }
    const taken = this.#ready()
      .filter(({ type }) => type === (options.type ?? type))
      .slice(0, options.limit);
    for (const message of taken) {
      message.deliveries += 1;
      message.state = options.acknowledge ? "done" : "in_flight";
      message.dueAt = this.now + Math.min(HOUR_MS, VISIBILITY_MS * 2 ** (message.deliveries - 1));
      message.process = options.acknowledge ? undefined : reader.process;
    }
    return taken;
  }

  /** The clean end of a process. */
  stop(process: string): void {
    for (const message of this.messages) {
      if (message.state === "in_flight" && message.process === process) this.#comeAgain(message);
    }
  }

  acknowledge(
    id: string,
    outcome: "done" | "later" | "reject",
    delayMs: number | undefined,
  ): { status: string; changed: boolean } {
    const message = this.messages.find((one) => one.id === id);
    if (!message) return { status: "unknown", changed: false };
    const over = message.state === "done" || message.state === "dead";
    if (over && !(message.state === "dead" && outcome === "done")) return { status: message.state, changed: false };
    if (outcome === "done") message.state = "done";
    else if (outcome === "reject" || message.deliveries >= DELIVERIES_MAX) {
      message.state = "dead";
      message.rejected = outcome === "reject";
    } else {
      message.state = "delayed";
      message.dueAt = this.now + (delayMs ?? Math.min(HOUR_MS, LATER_MS * 2 ** (Math.max(1, message.deliveries) - 1)));
    }
    return { status: message.state, changed: true };
  }

  redeliver(id: string): { status: string; changed: boolean } {
    const message = this.messages.find((one) => one.id === id);
    if (message?.state !== "dead") return { status: message?.state ?? "unknown", changed: false };
    message.state = "ready";
    message.deliveries = 0;
    return { status: "ready", changed: true };
  }

  inState(...states: DeliveryState[]): ModelMessage[] {
    return this.messages.filter(({ state }) => states.includes(state));
  }

  overdue(): ModelMessage[] {
    return this.messages.filter(
      ({ ackDueAt, state, rejected }) =>
        ackDueAt !== undefined && ackDueAt <= this.now && state !== "done" && !(state === "dead" && rejected),
    );
  }

  #comeAgain(message: ModelMessage): void {
    const over = message.state === "in_flight" && message.deliveries >= DELIVERIES_MAX;
    message.state = over ? "dead" : "ready";
    if (over) message.rejected = false;
  }

  #ready(): ModelMessage[] {
    return this.inState("ready").sort(
      (a, b) => b.priority - a.priority || a.sentAt - b.sentAt || a.same - b.same || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
    );
  }
}
