import { fields, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

export const listTopics = defineTool({
  name: "list_topics",
  title: "List topics",
  description: "Lists the topics there are. A topic begins with the first broadcast_message to it.",
  toolset: "topics",
  operation: "topic:read",
  resource: () => "topic/*",
  effects: READS,
  input: () => ({ prefix: fields.label().exactOptional(), limit: fields.limit(), cursor: fields.cursor() }),
  output: () => ({
    topics: z.array(
      z.object({
        name: z.string(),
        messages: z.number(),
        keep: z.boolean(),
        createdAt: z.number(),
        lastAt: z.number(),
      }),
    ),
    nextCursor: fields.nextCursor(),
  }),
  async handle({ topics }, input, { call }) {
    return topics.list(call, input);
  },
});
