/** The message domain of one process, put together. */
import { type Held, InboxRoom, MESSAGE_RATE_DEFAULT, messageRetentionMs, Posting } from "@mcp-swarm/coordination/messages";
import type { Clock, Random } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { DeadLetters } from "./dead-letters.ts";
import { Envelopes, type Sealing } from "./envelopes.ts";
import { Inbox, type InboxSource } from "./inbox.ts";
import { Overdue } from "./overdue.ts";
import { Requests } from "./requests.ts";
import { Sending } from "./sending.ts";

export interface MessagingOptions {
  store: Store;
  clock: Clock;
  random: Random;
  /** `SWARM_RETENTION_DAYS`. */
  retentionDays: number;
  /** `SWARM_MESSAGE_RATE`. */
  messageRate?: number | undefined;
  /** Where more messages for an inbox come from. */
  sources?: readonly InboxSource[];
  /** Most messages that wait in one inbox. */
  inboxMax?: number | undefined;
  /** Of a secured swarm. */
  held?: Held | undefined;
  sealing?: Sealing | undefined;
}

export interface Messaging {
  readonly envelopes: Envelopes;
  readonly posting: Posting;
  readonly sending: Sending;
  readonly room: InboxRoom;
  readonly inbox: Inbox;
  readonly requests: Requests;
  readonly deadLetters: DeadLetters;
  readonly overdue: Overdue;
}

/** Once for each process; `inbox.close()` at its end gives back what was read and not acknowledged. */
export function messaging({ store, clock, random, sources = [], held, sealing, ...options }: MessagingOptions): Messaging {
  const envelopes = new Envelopes(sealing);
  const room = new InboxRoom({ random, max: options.inboxMax });
  const messageRate = options.messageRate ?? MESSAGE_RATE_DEFAULT;
  const posting = new Posting({ messageRate, retentionMs: messageRetentionMs(options.retentionDays) });
  const sending = new Sending({ random, room, posting, envelopes });
  const inbox = new Inbox({ store, clock, random, sources, held });
  const requests = new Requests({ clock, sending, held });
  return {
    envelopes,
    posting,
    sending,
    room,
    inbox,
    requests,
    deadLetters: new DeadLetters({ held }),
    overdue: new Overdue({ held }),
  };
}
