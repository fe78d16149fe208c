/** The fields that tools about agents share. */
import { CAPABILITIES_MAX } from "@mcp-swarm/identity";
import { cut, fields, fit } from "@mcp-swarm/server";
import * as z from "zod";
import type { AgentView } from "../agent-record.ts";

const { label, shared, json } = fields;

/** Whom a call speaks for. */
export const ownAgentId = shared(() => fields.agentId().exactOptional().describe("Your subagent"));
export const capabilities = shared(() => z.array(label()).max(CAPABILITIES_MAX));

/** An agent in a list: enough to choose by. */
export const agentBrief = shared(() =>
  z.object({
    id: z.string(),
    agentType: z.string().exactOptional(),
    capabilities: z.array(z.string()),
    description: z.string().exactOptional(),
    online: z.boolean(),
    status: z.string(),
    lastStatus: z.string().exactOptional(),
    agentRole: z.string().exactOptional(),
    currentTask: z.string().exactOptional(),
    load: z.number().exactOptional(),
    lastSeenAt: z.number().exactOptional(),
  }),
);

/** All that an agent says of itself. */
export const agentFull = shared(() =>
  agentBrief().extend({
    metadata: json().exactOptional(),
    registeredAt: z.number().exactOptional(),
    updatedAt: z.number().exactOptional(),
    sessionId: z.string().exactOptional(),
    results: json().exactOptional(),
    dependencies: z.array(z.string()).exactOptional(),
  }),
);

/** Where an agent's own words are. */
export const agentTexts = (path: string): string[] => ["description", "currentTask"].map((field) => `${path}.${field}`);
export const agentFullTexts = [...agentTexts("agent"), "agent.metadata", "agent.results"];

export function full({ capabilities, dependencies, ...rest }: AgentView): z.input<ReturnType<typeof agentFull>> {
  return {
    ...rest,
    capabilities: [...capabilities],
    ...(dependencies === undefined ? {} : { dependencies: [...dependencies] }),
  };
}

/** Characters and names shown of each in a list. */
const SHOWN = { description: 160, currentTask: 80, capabilities: 20 } as const;

export function brief(agent: AgentView): z.input<ReturnType<typeof agentBrief>> {
  const { metadata, registeredAt, updatedAt, sessionId, results, dependencies, capabilities, description, currentTask, ...rest } =
    agent;
  return {
    ...rest,
    capabilities: capabilities.slice(0, SHOWN.capabilities),
    ...(description === undefined ? {} : { description: cut(description, SHOWN.description).text }),
    ...(currentTask === undefined ? {} : { currentTask: cut(currentTask, SHOWN.currentTask).text }),
  };
}

/** A page of briefs that fits one answer; a shorter one is read anew, so that its cursor is where the next one begins. */
export async function page<T extends { agents: AgentView[]; nextCursor?: string }>(
  read: (limit: number | undefined) => Promise<T>,
  limit: number | undefined,
) {
  const whole = await read(limit);
  const kept = fit(whole.agents.map(brief));
  if (kept.length === whole.agents.length) return { ...whole, agents: kept };
  const shorter = await read(kept.length);
  return { ...shorter, agents: fit(shorter.agents.map(brief)) };
}
