/** Processes with agents, messages and topics over one store, and time that moves only when told. */
import type { MaintenanceJob } from "@mcp-swarm/coordination";
import type { Held } from "@mcp-swarm/coordination/messages";
import { type ManualClock, seededRandom } from "@mcp-swarm/core";
import { plainCall } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { type Broadcasting, broadcasting, type Subscribing, subscribing } from "../../src/broadcasting.ts";
import type { Sealing } from "../../src/envelopes.ts";
import type { DeliveredMessage } from "../../src/inbox.ts";
import { type Messaging, messaging } from "../../src/messaging.ts";
import { type AgentProcess, agentOn } from "./agents.ts";

export interface CommProcess extends AgentProcess, Messaging, Subscribing, Pick<Broadcasting, "broadcasts"> {
  readonly jobs: readonly MaintenanceJob[];
  /** Reads and acknowledges all there is. */
  readAll(): Promise<DeliveredMessage[]>;
}

export interface CommOptions {
  process: number;
  remote?: boolean;
  inboxMax?: number;
  messageRate?: number;
  retentionDays?: number;
  held?: Held;
  sealing?: Sealing;
}

const READS_MAX = 200;
const PER_READ = 25;
/** Few tests are about the rate. */
const MESSAGE_RATE = 60_000_000;

export async function commOn(
  store: Store,
  clock: ManualClock,
  agentId: string,
  { inboxMax, messageRate = MESSAGE_RATE, retentionDays = 7, held, sealing, ...options }: CommOptions,
): Promise<CommProcess> {
  const agent = await agentOn(store, clock, agentId, options);
  const random = seededRandom(options.process);
  const topics = subscribing({ clock, random });
  const messages = messaging({
    store,
    clock,
    random,
    retentionDays,
    messageRate,
    sources: [topics.subscriptions],
    inboxMax,
    held,
    sealing,
  });
  const { broadcasts, jobs } = broadcasting(store, messages);
  const call = plainCall(store, agent.caller);
  return {
    ...agent,
    ...messages,
    ...topics,
    broadcasts,
    jobs,
    call,
    async readAll() {
      const read: DeliveredMessage[] = [];
      for (let turn = 0; turn < READS_MAX; turn++) {
        const { messages: some } = await messages.inbox.get(call, { limit: PER_READ, acknowledge: true });
        if (some.length === 0) return read;
        read.push(...some);
      }
      throw new Error("The inbox has no end");
    },
  };
}
