/** Who calls, and what they may. */
import type { Clock, JsonObject } from "@mcp-swarm/core";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, rootAgent } from "@mcp-swarm/identity";
import type { PolicyReason, PolicySet, RateLimit } from "@mcp-swarm/identity/policy";
import type { Principal } from "@mcp-swarm/identity/trust";
import type { Security } from "./secured.ts";
import type { Session, Sessions } from "./sessions.ts";

export interface WhoIs {
  readonly agent: {
    readonly id: string;
    readonly roles?: string[];
    readonly attributes?: Record<string, string>;
    /** May make tokens and API keys for others. */
    readonly issuer?: boolean;
    /** Id of the key that this process signs with for the agent. */
    readonly keyId?: string;
  };
  readonly swarm: {
    readonly secured: boolean;
    readonly rootKey?: string;
    /** Of the signed bundle that is in force here. */
    readonly version?: number;
    /** Whether this process can change members and policies. */
    readonly hasRootKey?: boolean;
  };
  /** The agent's newest tokens that live, at most `SHOWN_SESSIONS_MAX`. */
  readonly sessions?: Session[];
}

export interface Question {
  /** The caller when absent. */
  readonly agentId?: string;
  readonly operation: string;
  readonly resource: string;
  /** Of the call; without them a policy that bounds arguments cannot be judged. */
  readonly arguments?: JsonObject;
  readonly context?: JsonObject;
}

/** `not_enforced`: the swarm is open. `unknown_agent`, `revoked`, `quarantined`: whatever the policies say. */
export type Reason = PolicyReason | "not_enforced" | "unknown_agent" | "revoked" | "quarantined";

export interface Answer {
  readonly authorized: boolean;
  readonly reason: Reason;
  /** One plain sentence. */
  readonly details: string;
  readonly policyIds: string[];
  /** What the operation may be done at most; one of them needs room. */
  readonly rates?: RateLimit[];
}

export interface Identity {
  whoami(call: Call): Promise<WhoIs>;
  /** @throws SwarmError permission_denied when the caller may not ask about that agent */
  authorize(call: Call, question: Question): Promise<Answer>;
}

/** In an open swarm. */
export class OpenIdentity implements Identity {
  async whoami({ caller }: Call): Promise<WhoIs> {
    return { agent: { id: caller.agentId }, swarm: { secured: false } };
  }

  async authorize({ caller }: Call, { agentId = caller.agentId }: Question): Promise<Answer> {
    checkAgentId(agentId);
    const details = "This swarm is open: every agent may do everything, and names are taken on trust.";
    return { authorized: true, reason: "not_enforced", details, policyIds: [] };
  }
}

export interface SecuredIdentityOptions {
  readonly security: Security;
  readonly clock: Clock;
  readonly sessions: Sessions;
  readonly policies: () => PolicySet;
}

/** In a secured swarm. */
export class SecuredIdentity implements Identity {
  readonly #options: SecuredIdentityOptions;

  constructor(options: SecuredIdentityOptions) {
    this.#options = options;
  }

  async whoami(call: Call): Promise<WhoIs> {
    const { security, sessions } = this.#options;
    const { trust, rootKeyFile } = security;
    const { agentId } = call.caller;
    const principal = trust.principal(agentId);
    const ownKey = trust.self?.agentId === rootAgent(agentId) ? { keyId: trust.self.sign.kid } : {};
    return {
      agent: { id: agentId, ...(principal ? described(principal) : {}), ...ownKey },
      swarm: {
        secured: true,
        rootKey: trust.rootKey,
        version: trust.bundle.version,
        hasRootKey: rootKeyFile !== undefined,
      },
      sessions: await sessions.live(call),
    };
  }

  async authorize({ caller }: Call, question: Question): Promise<Answer> {
    const { security, clock, policies } = this.#options;
    const { trust, guard } = security;
    const agentId = checkAgentId(question.agentId ?? caller.agentId);
    const aboutOthers = rootAgent(agentId) !== rootAgent(caller.agentId);
    if (aboutOthers && !guard.stillAdmits(caller, { operation: "policy:read", resource: "policy/*", arguments: {} })) {
      throw new SwarmError("permission_denied", "What another agent may do is told to those who may read the policies.", {
        hint: "Leave agentId out to ask about yourself, or ask for a policy that permits policy:read.",
      });
    }
    const principal = trust.principal(agentId);
    if (!principal) return refused("unknown_agent", `${agentId} is no member of this swarm.`);
    if (principal.revoked) return refused("revoked", `${principal.agentId} was revoked.`);
    if (principal.quarantined) return refused("quarantined", `${principal.agentId} is in quarantine.`);
    const { operation, resource, arguments: given, context } = question;
    const { rates, policyIds, ...decision } = policies().decide({
      agentId: principal.agentId,
      roles: principal.roles,
      attributes: principal.attributes,
      operation,
      resource,
      ...(given === undefined ? {} : { arguments: given }),
      ...(context === undefined ? {} : { context }),
      now: clock.now(),
    });
    return { ...decision, policyIds: [...policyIds], ...(rates.length > 0 ? { rates: [...rates] } : {}) };
  }
}

function described({ roles, attributes, issuer }: Principal) {
  const shown = Object.keys(attributes).length > 0 ? { attributes: { ...attributes } } : {};
  return { roles: [...roles], ...shown, ...(issuer ? { issuer } : {}) };
}

function refused(reason: Reason, details: string): Answer {
  return { authorized: false, reason, details, policyIds: [] };
}
