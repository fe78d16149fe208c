/** The domain of this server at work in one process: what its tools are given. */
import { expiredRowsJob, Maintenance } from "@mcp-swarm/coordination";
import type { Held, ReadsTopic } from "@mcp-swarm/coordination/messages";
import { systemRandom } from "@mcp-swarm/core";
import { deriveAgentId } from "@mcp-swarm/identity";
import type { Domain, Host } from "@mcp-swarm/server";
import { forgetAgentsJob } from "./agent-retention.ts";
import { Agents, type HostSession } from "./agents.ts";
import { type Broadcasting, broadcasting, type Subscribing, subscribing } from "./broadcasting.ts";
import { Channels } from "./channel.ts";
import { MessageSearch } from "./message-search.ts";
import { type Messaging, messaging } from "./messaging.ts";
import { Threads } from "./threads.ts";
import { dropSubscriptions } from "./topic-layer.ts";
import { trustSealing } from "./trust-sealing.ts";

export interface CommServer extends Domain, Messaging, Subscribing, Pick<Broadcasting, "broadcasts"> {
  readonly agents: Agents;
  readonly threads: Threads;
  readonly search: MessageSearch;
  readonly channels: Channels;
  readonly readsTopic: ReadsTopic | undefined;
}

export async function openCommServer({ store, presence, config, clock, random, log, security }: Host): Promise<CommServer> {
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  maintenance.add(expiredRowsJob(store));
  maintenance.start();
  const { retentionDays, messageRate } = config;
  const readsTopic: ReadsTopic | undefined =
    security &&
    ((agentId, name) =>
      // as whoever comes with a token of its own: this process's key says nothing of others
      security.guard.stillAdmits(
        { agentId, verified: true, processId: undefined },
        { operation: "topic:read", resource: `topic/${name}`, arguments: {} },
      ));
  const topics = subscribing({ clock, random, readsTopic });
  const trust = security?.trust;
  const held: Held | undefined = trust && ((from) => trust.quarantined(from));
  const sealing = trust && trustSealing(trust, clock);
  const sources = [topics.subscriptions];
  const messages = messaging({ store, clock, random, retentionDays, messageRate, sources, held, sealing });
  const { broadcasts, jobs } = broadcasting(store, messages);
  for (const job of [...jobs, forgetAgentsJob(store, retentionDays)]) maintenance.add(job);
  const channels = new Channels({
    ...{ store, clock, inbox: messages.inbox, envelopes: messages.envelopes },
    onError: (error) => log.warn({ err: error }, "New messages were not pushed into the session; they wait in the inbox"),
  });
  return {
    ...messages,
    channels,
    readsTopic,
    ...topics,
    broadcasts,
    threads: new Threads({ held, readsTopic }),
    search: new MessageSearch({ held, readsTopic }),
    agents: new Agents({ presence, session: hostSession(config.hostSessionId), forget: dropSubscriptions }),
    async close() {
      await maintenance.stop();
      await messages.inbox.close();
    },
  };
}

function hostSession(key: string | undefined): HostSession | undefined {
  if (key === undefined) return undefined;
  const name = deriveAgentId({ env: { CLAUDE_CODE_SESSION_ID: key }, random: systemRandom });
  return { name, isKey: (text) => text === key };
}
