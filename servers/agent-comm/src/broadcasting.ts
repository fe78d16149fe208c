/** Topics, subscriptions and broadcasts of one process, put together around its messages. */
import type { MaintenanceJob } from "@mcp-swarm/coordination";
import { FanOuts, type ReadsTopic } from "@mcp-swarm/coordination/messages";
import type { Clock, Random } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { Broadcasts } from "./broadcast.ts";
import type { Messaging } from "./messaging.ts";
import { Subscriptions } from "./subscriptions.ts";
import { idleTopicsJob, Topics } from "./topics.ts";

export interface Subscribing {
  readonly topics: Topics;
  /** A source of the inbox. */
  readonly subscriptions: Subscriptions;
}

export interface Broadcasting {
  readonly broadcasts: Broadcasts;
  /** For `Maintenance`. */
  readonly jobs: readonly MaintenanceJob[];
}

export function subscribing(options: { clock: Clock; random: Random; readsTopic?: ReadsTopic | undefined }): Subscribing {
  const topics = new Topics();
  return { topics, subscriptions: new Subscriptions({ topics, ...options }) };
}

export function broadcasting(
  store: Store,
  { posting, sending, room }: Pick<Messaging, "posting" | "sending" | "room">,
): Broadcasting {
  const fanOuts = new FanOuts({ room });
  return { broadcasts: new Broadcasts({ posting, sending, room, fanOuts }), jobs: [fanOuts.job(store), idleTopicsJob(store)] };
}
