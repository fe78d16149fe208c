import { SwarmError } from "@mcp-swarm/core";

/** Longest agent id, its child's name included. */
export const AGENT_ID_MAX = 64;

const AGENT_ID = /^[A-Za-z0-9][A-Za-z0-9._@-]*(\/[A-Za-z0-9][A-Za-z0-9._@-]*)?$/;

/** Who makes a call. Set by the transport, never by an argument of the call. */
export interface Caller {
  /** The agent, for example `build-7`; a subagent speaks as `build-7/reviewer`. */
  readonly agentId: string;
  /** Whether a credential proved the name. In an open swarm it never did. */
  readonly verified: boolean;
  /**
   * The server process or HTTP connection that the agent lives in; what it holds is renewed for as long as this lives.
   * Undefined over HTTP, where nothing tells that the caller is still there: such callers renew by themselves.
   */
  readonly processId: string | undefined;
  /** The operations that its credential is good for; absent: all that policy permits. */
  readonly scope?: readonly { matches(operation: string): boolean }[];
}

/** @throws SwarmError invalid_argument */
export function checkAgentId(text: string): string {
  if (text.length <= AGENT_ID_MAX && AGENT_ID.test(text)) return text;
  throw new SwarmError("invalid_argument", "Not an agent id.", {
    hint: `Use up to ${AGENT_ID_MAX} letters, digits and . _ @ - , and at most one "/" before the name of a subagent.`,
  });
}

/** The agent that an id belongs to, which is who is enrolled and holds keys: `build-7` of `build-7/reviewer`. */
export function rootAgent(agentId: string): string {
  const slash = agentId.indexOf("/");
  return slash < 0 ? agentId : agentId.slice(0, slash);
}

/** Whom a call means to speak for, as policies name it. Whether it may, `speakAs` decides. */
export function meantAgent({ agentId }: Pick<Caller, "agentId">, workerId: string | undefined): string {
  if (workerId === undefined || workerId === agentId || workerId.includes("/")) return workerId ?? agentId;
  return `${agentId}/${workerId}`;
}

/**
 * The agent a call speaks for: the caller, or one of its children when `workerId` names one. A bare name means a child:
 * `reviewer` said by `build-7` is `build-7/reviewer`.
 * @throws SwarmError permission_denied when `workerId` is another agent's
 */
export function speakAs(caller: Caller, workerId: string | undefined): string {
  const agent = meantAgent(caller, workerId);
  if (agent === caller.agentId) return agent;
  checkAgentId(agent);
  if (agent.startsWith(`${caller.agentId}/`)) return agent;
  throw new SwarmError("permission_denied", "An agent speaks for itself and its own subagents only.", {
    hint: `You are ${caller.agentId}: leave workerId out, or use ${caller.agentId}/<name>.`,
  });
}
