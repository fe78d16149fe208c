import { meantAgent } from "@mcp-swarm/identity";
import { fields, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { AGENT_DEPENDENCIES_MAX, CURRENT_TASK_CHARS_MAX } from "../agent-record.ts";
import { agentFull, agentFullTexts, full, ownAgentId } from "./agent-schemas.ts";
import { defineTool } from "./define.ts";

export const updateAgentStatus = defineTool({
  name: "update_agent_status",
  title: "Tell what you are doing",
  description: "Tells the swarm what you are doing. Fields left out stay as they were; null clears one.",
  toolset: "agents",
  operation: "agent:update",
  resource: ({ agentId }, caller) => `agent/${meantAgent(caller, agentId)}`,
  effects: { ...WRITES, idempotent: true },
  input: () => ({
    status: fields.label().describe("Such as idle, working, blocked, error"),
    currentTask: fields.text(CURRENT_TASK_CHARS_MAX).nullable().exactOptional(),
    agentRole: fields.label().nullable().exactOptional(),
    load: z.number().min(0).max(1).nullable().exactOptional().describe("1: can take no more"),
    results: fields.json().exactOptional(),
    dependencies: z.array(fields.label()).max(AGENT_DEPENDENCIES_MAX).exactOptional().describe("Tasks or agents you wait for"),
    sessionId: fields.label().exactOptional(),
    agentId: ownAgentId(),
  }),
  output: () => ({ agent: agentFull() }),
  untrusted: agentFullTexts,
  async handle({ agents }, input, { call }) {
    const { agent } = await agents.updateStatus(call, input);
    return { agent: full(agent) };
  },
});
