/** Reads an agent's messages as they come, acknowledges each, and keeps what they said of parts of the report. */
import type { Tools } from "./host.ts";

const WAIT_MS = 500;

export interface PartNews {
  from: string;
  part: string;
  sentAt: number;
}

interface Message {
  id: string;
  from: string;
  sentAt: number;
  payload: { part: string };
}

export class Mailbox {
  readonly news: PartNews[] = [];
  readonly #comm: Tools;
  readonly #reading: Promise<void>;
  #stopping = false;

  /** @param comm the tools of the agent's agent-comm server */
  constructor(comm: Tools) {
    this.#comm = comm;
    this.#reading = this.#read();
    this.#reading.catch(() => {}); // whoever stops it hears of it
  }

  /** Reads what is there, and no longer waits for more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#reading;
  }

  async #read(): Promise<void> {
    for (;;) {
      const last = this.#stopping;
      const { messages } = await this.#comm<{ messages: Message[] }>("get_messages", { waitMs: last ? 0 : WAIT_MS });
      if (messages.length > 0) {
        for (const { from, sentAt, payload } of messages) this.news.push({ from, part: payload.part, sentAt });
        await this.#comm("acknowledge_messages", { messageIds: messages.map(({ id }) => id) });
      } else if (last) return;
    }
  }
}
