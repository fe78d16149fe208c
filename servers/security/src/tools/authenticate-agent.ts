import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";

/** Longest credential and scope, in characters. */
const CREDENTIAL_MAX = 4_096;
const SCOPE_MAX = 1_024;
const AUDIENCE_MAX = 512;
const URL_TEXT = /^https?:\/\/[\x21-\x7e]+$/;

export const authenticateAgent = defineTool({
  name: "authenticate_agent",
  title: "Get a session token",
  description:
    "Gives an agent that is proven a bearer token of 15 minutes for one server. Your own process needs no credentials.",
  toolset: "identity",
  operation: "token:issue",
  resource: ({ agentId }) => `agent/${agentId}`,
  effects: WRITES,
  input: () => ({
    agentId: fields.agentId(),
    credentials: z
      .strictObject({
        apiKey: fields.text(CREDENTIAL_MAX).exactOptional(),
        assertion: fields.text(CREDENTIAL_MAX).exactOptional().describe("JWT signed by its key"),
      })
      .exactOptional(),
    audience: z.string().max(AUDIENCE_MAX).regex(URL_TEXT).exactOptional().describe("URL of the server"),
    scope: fields.text(SCOPE_MAX).exactOptional().describe("Operations, e.g. task:* message:read"),
  }),
  output: () => ({
    agentId: z.string(),
    token: z.string(),
    tokenId: z.string(),
    audience: z.string(),
    expiresAt: z.number(),
  }),
  async handle({ secured }, input, { call }) {
    return await secured.sessions.authenticate(call, input);
  },
});
