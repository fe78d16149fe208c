/** `inbox://{agentId}`: what waits for an agent, for hosts that watch resources. Reading it hands nothing out. */
import { SwarmError } from "@mcp-swarm/core";
import { type Caller, speakAs } from "@mcp-swarm/identity";
import { resourcesFor } from "@mcp-swarm/server";
import { againInMs, type InboxView, messagesOf, viewInbox } from "../inbox-view.ts";
import type { CommServer } from "../open.ts";
import { views } from "../tools/message-views.ts";

/** Messages shown of an inbox. */
const SHOWN = 10;

const defineResource = resourcesFor<CommServer>();

export const inboxResource = defineResource({
  name: "inbox",
  title: "Inbox",
  description: "What waits for you: counts and the most urgent messages. Reading it takes nothing out; get_messages does.",
  uriTemplate: "inbox://{agentId}",
  toolset: "messages",
  operation: "message:read",
  resource: ({ agentId }) => `inbox/${agentId}`,
  untrusted: ["messages[].payload"],
  list: (_, { caller }) => ({ resources: [{ params: { agentId: caller.agentId }, title: "Your inbox" }] }),
  async read({ inbox, envelopes }, { agentId: named }, { call }) {
    const agentId = ownInbox(call.caller, named);
    const { store } = call;
    const view = await viewInbox(store, agentId, SHOWN, inbox.held);
    const messages = await envelopes.open(call.caller, await messagesOf(store, view.first));
    return {
      agentId,
      unread: view.unread.count,
      inFlight: view.inFlight.count,
      deadLetters: view.dead.count,
      ...(countedToTheEnd(view) ? {} : { more: true }),
      ...((await inbox.pending(store, agentId)) ? { topics: "There may be more in your topics; get_messages brings it." } : {}),
      messages: views(
        messages,
        messages.map(() => ({})),
      ),
    };
  },
  watch({ inbox }, { agentId: named }, { call: { store, caller } }) {
    const agentId = ownInbox(caller, named);
    return {
      prefixes: inbox.prefixes(agentId),
      async version() {
        const view = await viewInbox(store, agentId, SHOWN, inbox.held);
        const counts = [view.unread.count, view.inFlight.count, view.dead.count, await inbox.pending(store, agentId)];
        const version = JSON.stringify([...counts, ...view.first.map(({ id }) => id)]);
        const again = await againInMs(store, view);
        return again === undefined ? { version } : { version, againInMs: again };
      },
    };
  },
});

/** The agent whose inbox it is: the caller, or its subagent under its whole name. @throws SwarmError permission_denied */
function ownInbox(caller: Caller, named: string): string {
  if (named === caller.agentId || named.startsWith(`${caller.agentId}/`)) return speakAs(caller, named);
  throw new SwarmError("permission_denied", "An inbox is read by its own agent only.", {
    hint: `You are ${caller.agentId}: read inbox://${caller.agentId}.`,
  });
}

function countedToTheEnd({ unread, inFlight, dead }: InboxView): boolean {
  return !unread.more && !inFlight.more && !dead.more;
}
