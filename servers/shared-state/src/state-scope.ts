/** Whose values a call means, and whether it may write them. */
import { SwarmError } from "@mcp-swarm/core";
import { type Caller, checkAgentId } from "@mcp-swarm/identity";
import { checkKey, checkOwner, type Place, type PlaceInput, type Space, type SpaceInput } from "./state-record.ts";

/** Which spaces callers mean when they name none. */
export class Scopes {
  readonly #hostSession: string | undefined;

  /** @param hostSession the id of the session this process was started in, fit to be shown; absent when the host gave none */
  constructor(hostSession?: string) {
    this.#hostSession = hostSession;
  }

  /**
   * @throws SwarmError invalid_argument when scopeId is missing, is no id, or does not go with the scope
   */
  space(caller: Caller, { scope = "global", scopeId }: SpaceInput): Space {
    switch (scope) {
      case "global":
        if (scopeId === undefined) return { scope };
        throw new SwarmError("invalid_argument", "Field scopeId: the scope global has no owner.", {
          hint: "Leave scopeId out, or name the scope session, agent or workflow.",
        });
      case "session":
        return { scope, scopeId: scopeId === undefined ? this.session(caller) : checkOwner(scope, scopeId) };
      case "agent":
        return { scope, scopeId: checkAgentId(scopeId ?? caller.agentId) };
      case "workflow":
        if (scopeId !== undefined) return { scope, scopeId: checkOwner(scope, scopeId) };
        throw new SwarmError("invalid_argument", "Field scopeId is missing: which workflow?", {
          hint: "Give the workflow's id as scopeId.",
        });
    }
  }

  /** The caller's session: that of the process's host; of a caller over HTTP, which shares the process with others, its own. */
  session(caller: Caller): string {
    const own = caller.agentId.split("/")[0] ?? caller.agentId;
    return caller.processId === undefined ? own : (this.#hostSession ?? own);
  }

  /** A space as its reader names it: a session of its own needs no id. */
  named(caller: Caller, space: Space): SpaceInput {
    return space.scope === "session" && space.scopeId === this.session(caller) ? { scope: "session" } : space;
  }

  /** @throws SwarmError invalid_argument */
  place(caller: Caller, input: PlaceInput, field = "key"): Place {
    return { space: this.space(caller, input), key: checkKey(input.key, field) };
  }

  /** `space`, for a write. @throws SwarmError permission_denied for another agent's values */
  writable(caller: Caller, input: SpaceInput): Space {
    const space = this.space(caller, input);
    const { scope, scopeId } = space;
    if (scope !== "agent" || scopeId === caller.agentId || scopeId?.startsWith(`${caller.agentId}/`)) return space;
    throw new SwarmError("permission_denied", "An agent writes its own values and those of its subagents only.", {
      hint: `You are ${caller.agentId}. Use another scope for values that others write, or send a message.`,
    });
  }

  /** `place`, for a write. @throws SwarmError permission_denied for another agent's values */
  writablePlace(caller: Caller, input: PlaceInput, field = "key"): Place {
    return { space: this.writable(caller, input), key: checkKey(input.key, field) };
  }
}
