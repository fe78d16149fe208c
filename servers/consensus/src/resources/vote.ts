/** `vote://{id}`: a vote and what came of it, for hosts that watch resources. */
import { resourcesFor, shrinkToFit } from "@mcp-swarm/server";
import type { ConsensusServer } from "../open.ts";
import { UNTRUSTED_IN_VOTE, wholeView } from "../tools/views.ts";
import { ballotPrefix, resultKey, stateKey } from "../vote-layer.ts";

const defineResource = resourcesFor<ConsensusServer>();

export const voteResource = defineResource({
  name: "vote",
  title: "Vote",
  description: "A vote: its proposal and settings, where it is, what you did in it, and its outcome.",
  uriTemplate: "vote://{id}",
  toolset: "votes",
  operation: "vote:read",
  resource: ({ id }) => `vote/${id}`,
  untrusted: UNTRUSTED_IN_VOTE,
  async list({ votes }, { call }, { limit, after }) {
    const page = await votes.list(call, { limit, cursor: after });
    return {
      resources: page.votes.map(({ record, own }) => ({
        params: { id: record.id },
        title: `Vote of ${record.initiator} (you: ${own})`,
      })),
      ...(page.nextCursor === undefined ? {} : { next: page.nextCursor }),
    };
  },
  async read({ votes }, { id }, { call }) {
    const view = await votes.get(call, { voteId: id });
    return shrinkToFit((scale) => ({ vote: wholeView(view, Math.min(1, scale)) }));
  },
  watch: ({ votes }, { id }, { call }) => ({
    prefixes: [ballotPrefix(id), stateKey(id), resultKey(id)],
    version: () => votes.version(call.store, id),
  }),
});
