/**
 * Who calls over HTTP in a secured swarm: this process as an OAuth 2.1 resource server (RFC 6750, RFC 9728). Each request brings a
 * token made out to the very URL that it calls, or an API key that this process made.
 */
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { type Caller, checkAgentId } from "@mcp-swarm/identity";
import { Pattern } from "@mcp-swarm/identity/policy";
import { ApiKeys, LOOK_AGE_MS_MAX, SCOPE_LENGTH_MAX, verifyToken } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import type { Security } from "./security.ts";

/** Who a request comes from. */
export interface HttpCaller {
  readonly caller: Caller;
  /** Patterns of the operations that the credential is good for; undefined: all that policy permits. */
  readonly scope: readonly Pattern[] | undefined;
  /** Ms since the epoch. */
  readonly expiresAt: number;
  /** Whether the credential is still good; what was opened with it ends when it is not. */
  stillGood(): Promise<boolean>;
}

/** An answer instead of what was asked for. */
export interface HttpRefusal {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: { readonly error: string; readonly error_description: string };
}

export interface HttpAuthOptions {
  readonly security: Security;
  readonly store: Store;
  readonly clock: Clock;
}

/** How long an answer stands for an API key that was given as a credential itself: it is looked up anew for each request. */
const API_KEY_STANDS_MS = 15 * 60_000;

export class HttpAuth {
  readonly #options: HttpAuthOptions;
  #apiKeys: { readonly kid: string; readonly keys: ApiKeys } | undefined;

  constructor(options: HttpAuthOptions) {
    this.#options = options;
  }

  /** The API keys that this process makes and takes; undefined while it is no issuer. */
  get apiKeys(): ApiKeys | undefined {
    const { trust } = this.#options.security;
    const { self } = trust;
    if (!self || trust.selfStatus() !== "ok" || !trust.principal(self.agentId)?.issuer) return undefined;
    if (this.#apiKeys?.kid !== self.sign.kid) this.#apiKeys = { kid: self.sign.kid, keys: new ApiKeys(self) };
    return this.#apiKeys.keys;
  }

  /**
   * Whom a request comes from. `resources`: the names of what it asks; `agent`: whom its Swarm-Agent header names, which may be the
   * credential's agent or a subagent of it. What is refused is written down.
   * @throws SwarmError unauthenticated, permission_denied, unavailable
   */
  async authenticate(
    { authorization, agent }: { authorization: string | undefined; agent: string | undefined },
    resources: readonly string[],
  ): Promise<HttpCaller> {
    try {
      const credential = bearerOf(authorization);
      const proven = await this.#prove(credential, resources);
      const scope = proven.scope?.split(" ").map((pattern) => new Pattern(pattern));
      const caller: Caller = { agentId: spokenFor(proven.agentId, agent), verified: true, processId: undefined };
      return {
        caller: scope ? { ...caller, scope } : caller,
        scope,
        expiresAt: proven.expiresAt,
        stillGood: () => this.#prove(credential, resources).then(() => true, couldNotBeJudged),
      };
    } catch (error) {
      if (error instanceof SwarmError && authorization !== undefined && !couldNotBeJudged(error))
        await this.#note(error, resources);
      throw error;
    }
  }

  async #prove(
    credential: string,
    resources: readonly string[],
  ): Promise<{ agentId: string; scope: string | undefined; expiresAt: number }> {
    const { security, store, clock } = this.#options;
    const { trust } = security;
    // of a process that was stopped: what it believes may be older than the end of a credential
    if (Math.abs(clock.now() - trust.lookedAt) > LOOK_AGE_MS_MAX) await trust.refresh();
    const now = clock.now();
    if (!credential.startsWith("swarm_")) return await verifyToken(credential, trust, { audiences: resources, now });
    const keys = this.apiKeys;
    if (!keys) {
      throw new SwarmError("unauthenticated", "This server issues no credentials, so it takes no API keys.", {
        hint: "Use the server that the API key was made by, or a token.",
      });
    }
    const { agentId } = await keys.verify(credential, { store, membership: trust, now });
    return { agentId, scope: undefined, expiresAt: now + API_KEY_STANDS_MS };
  }

  /** Like with like: a flood of bad credentials is written down once in a while, with its number. */
  async #note({ code }: SwarmError, [resource = "*"]: readonly string[]): Promise<void> {
    const event = { agentId: "nobody", verified: false, operation: "authenticate", resource } as const;
    await this.#options.security.audit.note({ ...event, outcome: "refused", reason: code });
  }
}

/** Whether an error says nothing about the credential, only that it could not be judged. */
function couldNotBeJudged(error: unknown): boolean {
  return !(error instanceof SwarmError) || (error.code !== "unauthenticated" && error.code !== "permission_denied");
}

function bearerOf(authorization: string | undefined): string {
  const credential = /^Bearer +([^\s,]+)$/i.exec(authorization ?? "")?.[1];
  if (credential !== undefined) return credential;
  throw new SwarmError("unauthenticated", "This swarm is secured: every request needs a bearer token for this server.", {
    hint: "Send Authorization: Bearer <token>; the resource metadata says who issues tokens.",
  });
}

/** @throws SwarmError permission_denied */
function spokenFor(proven: string, named: string | undefined): string {
  if (named === undefined || named === proven) return proven;
  if (named.startsWith(`${proven}/`)) return checkAgentId(named);
  throw new SwarmError("permission_denied", "The Swarm-Agent header names another agent than the credential proves.", {
    hint: `Leave the header out, or name ${proven} or a subagent of it.`,
  });
}

/**
 * The answer to a request that was refused. `metadataUrl`: where the resource's metadata is; `given`: whether it brought a credential.
 */
export function refusalFor(error: SwarmError, metadataUrl: string, given: boolean): HttpRefusal {
  const described = error.hint === undefined ? error.message : `${error.message} ${error.hint}`;
  if (error.code !== "unauthenticated") {
    const status = STATUS[error.code] ?? 500;
    return { status, headers: {}, body: { error: error.code, error_description: described } };
  }
  const metadata = `resource_metadata="${metadataUrl}"`;
  // a request without credentials is told where to get some, and not that they are wrong (RFC 6750, section 3.1)
  const challenge = given
    ? `Bearer error="invalid_token", error_description="${quotable(error.message)}", ${metadata}`
    : `Bearer ${metadata}`;
  return {
    status: 401,
    headers: { "www-authenticate": challenge },
    body: { error: given ? "invalid_token" : "unauthorized", error_description: described },
  };
}

const STATUS: Readonly<Record<string, number>> = {
  invalid_argument: 400,
  permission_denied: 403,
  failed_precondition: 403,
  limit_exceeded: 429,
  unavailable: 503,
};

/**
 * The answer to a request whose token is not good for all that it asks: the challenge names all operations of the call, so that one
 * further token is enough. Undefined when it is good.
 */
export function insufficientScope(
  scope: readonly Pattern[] | undefined,
  operations: readonly string[],
  metadataUrl: string,
): HttpRefusal | undefined {
  if (!scope || operations.every((operation) => scope.some((pattern) => pattern.matches(operation)))) return undefined;
  const needed = operations.join(" ").slice(0, SCOPE_LENGTH_MAX);
  const words = "The token's scope does not cover what this call does.";
  const challenge = `Bearer error="insufficient_scope", error_description="${words}", scope="${needed}", resource_metadata="${metadataUrl}"`;
  return {
    status: 403,
    headers: { "www-authenticate": challenge },
    body: { error: "insufficient_scope", error_description: `${words} It needs: ${needed}` },
  };
}

/** Text as an HTTP quoted string can hold it. */
function quotable(text: string): string {
  return text.replaceAll(/["\\]/g, "'").replaceAll(/[^\x20-\x7e]/g, " ");
}
