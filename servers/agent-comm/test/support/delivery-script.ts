/**
 * The commands of the scripts in golden/delivery, on processes over one store and a clock that the script moves.
 *
 * `join a` a process for agent a (again: one more, `a#2`) · `send a b text [name=value …]` · `read a [name=value …]` ·
 * `ack|later|reject a m1 … [name=value …]` · `dead a [sent]` · `redeliver a m1 …` · `overdue a` · `ask a b text [wait=5s]` ·
 * `replies` what became of the questions · `inbox a` counts · `advance 5m` · `kill a` · `stop a`.
 *
 * Messages are m1, m2 … in the order of sending. Times are since the beginning, or lengths such as 500ms, 15s, 5m, 1h.
 */
import { type ManualClock, manualClock, SwarmError } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { type Acknowledged, countInbox, type Outcome } from "../../src/inbox.ts";
import { type CommProcess, commOn } from "./comm.ts";

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
const LENGTH = /^(\d+)(ms|s|m|h|d)$/;
const COUNT_MAX = 1_000;
const MESSAGE_ID = /msg-[0-9a-z]{12}/g;

function ms(text: string): number {
  const [, amount, unit] = LENGTH.exec(text) ?? [];
  if (amount === undefined || unit === undefined) throw new Error(`Not a length of time: ${text}`);
  return Number(amount) * UNITS[unit as keyof typeof UNITS];
}

function shown(lengthMs: number): string {
  for (const unit of ["h", "m", "s"] as const) {
    if (lengthMs >= UNITS[unit] && lengthMs % UNITS[unit] === 0) return `${lengthMs / UNITS[unit]}${unit}`;
  }
  return `${lengthMs}ms`;
}

export class DeliveryScript {
  readonly #clock: ManualClock = manualClock();
  readonly #startedAt = this.#clock.now();
  readonly #store = new MemoryStore({ clock: this.#clock });
  readonly #processes = new Map<string, CommProcess>();
  readonly #names = new Map<string, string>();
  readonly #ids = new Map<string, string>();
  readonly #questions: string[] = [];
  #started = 0;

  async run(line: string): Promise<readonly string[]> {
    const words = line.split(" ").filter((word) => word !== "");
    const options = new Map(words.filter((word) => word.includes("=")).map((word) => word.split("=", 2) as [string, string]));
    const [command = "", ...args] = words.filter((word) => !word.includes("="));
    try {
      return await this.#do(command, args, options);
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      return [`${error.code}: ${this.#short(error.message)}`];
    }
  }

  async #do(command: string, args: readonly string[], options: ReadonlyMap<string, string>): Promise<string[]> {
    const [first = "", ...rest] = args;
    const length = (name: string) => (options.has(name) ? ms(options.get(name) ?? "") : undefined);
    switch (command) {
      case "join":
        return this.#join(first);
      case "send": {
        const [to = "", ...text] = rest;
        const after = length("after");
        const sent = await this.#at(first).sending.send(this.#at(first).call, {
          targetAgent: to,
          messageType: options.get("type") ?? "note",
          payload: text.join(" "),
          priority: options.has("priority") ? Number(options.get("priority")) : undefined,
          ttlMs: length("ttl"),
          ackWithinMs: length("ack"),
          notBefore: after === undefined ? undefined : this.#clock.now() + after,
          correlationId: this.#idOf(options.get("thread")),
          replyTo: this.#idOf(options.get("reply")),
        });
        return [`${this.#name(sent.id)} ${sent.status}${sent.hops > 0 ? ` hops=${sent.hops}` : ""}`];
      }
      case "read":
        return this.#read(first, options, length("visibility"));
      case "ack":
      case "later":
      case "reject":
        return this.#settle(first, command === "ack" ? "done" : command, rest, options, length("delay"));
      case "dead": {
        const { deadLetters } = this.#at(first);
        const page = await deadLetters.list(this.#at(first).call, { sent: rest.includes("sent") });
        return page.deadLetters.map(({ message, delivery }) => {
          const why = [delivery.cause, delivery.reason].filter((one) => one !== undefined).join(": ");
          return `${this.#name(message.id)} at ${delivery.to} deliveries=${delivery.deliveries} ${why}`;
        });
      }
      case "redeliver": {
        const { deadLetters, call } = this.#at(first);
        const { messages } = await deadLetters.redeliver(call, { messageIds: rest.map((name) => this.#id(name)) });
        return messages.map((one) => this.#became(one));
      }
      case "overdue": {
        const { overdue, call } = this.#at(first);
        const { messages } = await overdue.list(call);
        return messages.map(({ message, role, overdueMs }) => `${this.#name(message.id)} ${role} by ${shown(overdueMs)}`);
      }
      case "ask":
        return this.#ask(first, rest, length("wait") ?? 30_000);
      case "replies":
        return this.#questions.splice(0);
      case "inbox": {
        const { ready, due, dead } = await countInbox(this.#store, first, COUNT_MAX);
        return [`ready=${ready.count} due=${due.count} dead=${dead.count}`];
      }
      case "advance":
        await this.#clock.advance(ms(first));
        return [`at ${shown(this.#clock.now() - this.#startedAt)}`];
      case "kill":
        this.#at(first).die();
        this.#processes.delete(first);
        return [];
      case "stop": {
        const { inbox, presence } = this.#at(first);
        await inbox.close();
        await presence.leave();
        this.#processes.delete(first);
        return [];
      }
      default:
        throw new Error(`Unknown command: ${command}`);
    }
  }

  async #join(agent: string): Promise<string[]> {
    this.#started += 1;
    let name = agent;
    for (let at = 2; this.#processes.has(name); at++) name = `${agent}#${at}`;
    this.#processes.set(name, await commOn(this.#store, this.#clock, agent, { process: this.#started }));
    return [name];
  }

  async #read(name: string, options: ReadonlyMap<string, string>, visibilityMs: number | undefined): Promise<string[]> {
    const { inbox, call } = this.#at(name);
    const { messages } = await inbox.get(call, {
      limit: options.has("limit") ? Number(options.get("limit")) : undefined,
      types: options.get("types")?.split(","),
      from: options.get("from"),
      correlationId: this.#idOf(options.get("thread")),
      acknowledge: options.get("acknowledge") === "true",
      visibilityMs,
    });
    if (messages.length === 0) return ["nothing"];
    return messages.map(({ message, deliveries, overdue }) => {
      const again = deliveries > 1 ? ` delivery=${deliveries}` : "";
      const late = overdue ? " overdue" : "";
      return `${this.#name(message.id)} from ${message.from} p${message.priority} ${JSON.stringify(message.payload)}${again}${late}`;
    });
  }

  async #settle(
    name: string,
    outcome: Outcome,
    messages: readonly string[],
    options: ReadonlyMap<string, string>,
    delayMs: number | undefined,
  ): Promise<string[]> {
    const { inbox, call } = this.#at(name);
    const messageIds = messages.map((one) => this.#id(one));
    const settled = await inbox.acknowledge(call, { messageIds, outcome, delayMs, reason: options.get("reason") });
    return settled.messages.map((one) => this.#became(one));
  }

  async #ask(name: string, [to = "", ...text]: readonly string[], waitMs: number): Promise<string[]> {
    const { requests, call } = this.#at(name);
    const asking = requests.ask(call, { targetAgent: to, payload: text.join(" ") }, { waitMs });
    asking.then(
      ({ requestId, reply }) =>
        this.#questions.push(`${this.#name(requestId)} answered ${this.#name(reply.id)} ${JSON.stringify(reply.payload)}`),
      (error: unknown) =>
        this.#questions.push(error instanceof SwarmError ? `${error.code}: ${this.#short(error.message)}` : String(error)),
    );
    await this.#clock.advance(0);
    return [];
  }

  #at(name: string): CommProcess {
    const process = this.#processes.get(name);
    if (!process) throw new Error(`No process ${name}: join it first`);
    return process;
  }

  #became({ id, status, changed }: Acknowledged): string {
    return `${this.#names.get(id) ?? id} ${status}${changed ? "" : " (unchanged)"}`;
  }

  #name(id: string): string {
    const known = this.#names.get(id) ?? `m${this.#names.size + 1}`;
    this.#names.set(id, known);
    this.#ids.set(known, id);
    return known;
  }

  #idOf(name: string | undefined): string | undefined {
    return name === undefined ? undefined : this.#id(name);
  }

  #id(name: string): string {
    return this.#ids.get(name) ?? name;
  }

  #short(text: string): string {
    return text.replaceAll(MESSAGE_ID, (id) => this.#name(id));
  }
}
