/**
 * The token endpoint of a process whose agent may issue tokens: client credentials (RFC 6749, section 4.4) by an assertion that the agent
 * signs with its own key (RFC 7523), or by an API key that this process made. Tokens are made out to one resource of this site
 * (RFC 8707).
 */
import type { IncomingMessage } from "node:http";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { OwnRates, rootAgent } from "@mcp-swarm/identity";
import type { AuditEvent } from "@mcp-swarm/identity/audit";
import {
  checkScope,
  type IssuedToken,
  issueToken,
  type ProvenAssertion,
  useAssertion,
  verifyAssertion,
} from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import type { HttpAuth } from "./http-auth.ts";
import type { Security } from "./security.ts";

/** Largest request for a token, in bytes. */
const BODY_BYTES_MAX = 16_384;
/** Requests a minute from one address: each costs the check of a signature. */
const REQUEST_RATE = { max: 120, perMs: 60_000 };
/** Addresses whose rate is remembered; one forgotten begins anew. */
const ADDRESSES_MAX = 10_000;
/** What asks, for the audit log. */
const ASKED_BY = "oauth/token";
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FORM = "application/x-www-form-urlencoded";

export interface TokenAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: Readonly<Record<string, string | number>>;
}

export interface TokenEndpointOptions {
  readonly security: Security;
  readonly store: Store;
  readonly clock: Clock;
  readonly auth: HttpAuth;
  /** URLs of what is served here: what tokens may be made out to. */
  readonly resources: readonly string[];
  /** Names of this issuer and of this endpoint, for the audience of assertions. */
  readonly audiences: readonly string[];
}

/** Who asked, by which proof. */
interface Client {
  readonly agentId: string;
  /** What has to be used up with the issuing. */
  readonly assertion?: ProvenAssertion;
}

/** An error as RFC 6749, section 5.2 words it. */
class OAuthRefusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(code: string, description: string, status = 400) {
    super(description);
    this.code = code;
    this.status = status;
  }
}

export class TokenEndpoint {
  readonly #options: TokenEndpointOptions;
  /** From each address. */
  readonly #requests = new OwnRates(REQUEST_RATE, ADDRESSES_MAX);

  constructor(options: TokenEndpointOptions) {
    this.#options = options;
  }

  /** Answers a request for a token; rejects only for what nobody foresaw. */
  async answer(request: IncomingMessage): Promise<TokenAnswer> {
    try {
      this.#countRequest(request.socket.remoteAddress ?? "unknown");
      const { issued, scope } = await this.#issue(request);
      const expiresInS = Math.max(0, Math.floor((issued.expiresAt - this.#options.clock.now()) / 1000));
      const token = { access_token: issued.token, token_type: "Bearer", expires_in: expiresInS };
      return { status: 200, body: scope === undefined ? token : { ...token, scope } };
    } catch (error) {
      if (error instanceof OAuthRefusal) return refused(error.status, error.code, error.message);
      if (error instanceof SwarmError) return foreseen(error);
      throw error;
    }
  }

  async #issue(request: IncomingMessage): Promise<{ issued: IssuedToken; scope: string | undefined }> {
    const { security, clock } = this.#options;
    const form = await readForm(request);
    if (form.get("grant_type") !== "client_credentials") {
      throw new OAuthRefusal("unsupported_grant_type", "Only client_credentials are taken here.");
    }
    const audience = this.#resource(form.get("resource"));
    const scope = scopeOf(form.get("scope"));
    const { trust, guard } = security;
    guard.checkProcess();
    const signer = trust.self;
    if (!signer || !this.#options.auth.apiKeys) {
      throw new OAuthRefusal("temporarily_unavailable", "No tokens are issued here now.", 503);
    }
    const agentId = await this.#authenticate(form, request.headers.authorization);
    const wanted = { agentId, audience, ...(scope === undefined ? {} : { scope }) };
    return { issued: await issueToken(signer, trust.bundle, wanted, { now: clock.now() }), scope };
  }

  /** Who asks. That it was so, or that it was refused, is written down when this returns. */
  async #authenticate(form: ReadonlyMap<string, string>, authorization: string | undefined): Promise<string> {
    try {
      const client = authorization === undefined ? await this.#byForm(form) : await this.#byKey(basicOf(authorization));
      const named = form.get("client_id");
      if (named !== undefined && named !== client.agentId)
        throw new OAuthRefusal("invalid_client", "client_id names another agent.", 401);
      await this.#writeDown(client);
      return client.agentId;
    } catch (error) {
      const isRefusal = error instanceof OAuthRefusal || (error instanceof SwarmError && error.code === "unauthenticated");
      if (isRefusal) {
        const event = { agentId: "nobody", verified: false, operation: "token:issue", resource: "*", tool: ASKED_BY } as const;
        await this.#options.security.audit.note({ ...event, outcome: "refused", reason: "unauthenticated" });
      }
      throw error;
    }
  }

  /**
   * That somebody was authenticated, in the commit that uses the assertion up. No policy is asked: each call that is made with the
   * token is decided by itself.
   */
  async #writeDown({ agentId, assertion }: Client): Promise<void> {
    const { security, store } = this.#options;
    const event: AuditEvent = {
      agentId,
      verified: true,
      operation: "token:issue",
      resource: `agent/${rootAgent(agentId)}`,
      outcome: "authenticated",
      reason: assertion ? "assertion" : "api_key",
      tool: ASKED_BY,
    };
    if (!assertion) return await security.audit.note(event);
    await security.audit.transact<null>(
      (plan) => store.transact(plan, { prefetch: { keys: [assertion.key] } }),
      (tx, append) => {
        useAssertion(tx, assertion);
        append(event);
        return null;
      },
    );
  }

  async #byForm(form: ReadonlyMap<string, string>): Promise<Client> {
    const { security, clock, audiences } = this.#options;
    const secret = form.get("client_secret");
    if (secret !== undefined) return await this.#byKey({ id: form.get("client_id") ?? "", secret });
    const text = form.get("client_assertion");
    if (text === undefined || form.get("client_assertion_type") !== ASSERTION_TYPE) {
      throw new OAuthRefusal("invalid_client", `Prove who you are: client_assertion with the type ${ASSERTION_TYPE}.`, 401);
    }
    const assertion = await verifyAssertion(text, security.trust, { audiences, now: clock.now() });
    return { agentId: assertion.agentId, assertion };
  }

  async #byKey({ id, secret }: { id: string; secret: string }): Promise<Client> {
    const { auth, store, security, clock } = this.#options;
    if (!auth.apiKeys) throw new OAuthRefusal("invalid_client", "No API keys are taken here.", 401);
    const { agentId } = await auth.apiKeys.verify(secret, { store, membership: security.trust, now: clock.now() });
    if (agentId !== id) throw new OAuthRefusal("invalid_client", "The API key is another agent's.", 401);
    return { agentId };
  }

  #resource(wanted: string | undefined): string {
    const { resources } = this.#options;
    if (wanted !== undefined && resources.includes(wanted)) return wanted;
    const served = resources.join(" ");
    if (wanted === undefined) throw new OAuthRefusal("invalid_target", `Say which resource the token is for: ${served}`);
    throw new OAuthRefusal("invalid_target", `That resource is not served here. Served: ${served}`);
  }

  #countRequest(address: string): void {
    const taken = this.#requests.take(address, this.#options.clock.now());
    if (taken.taken) return;
    throw new SwarmError("limit_exceeded", "Too many requests for tokens from this address.", {
      hint: `Try again in ${Math.ceil(taken.waitMs / 1000)} s.`,
    });
  }
}

/** The parameters of a form, none of them twice (RFC 6749, section 3.2). An empty one counts as not sent. */
async function readForm(request: IncomingMessage): Promise<ReadonlyMap<string, string>> {
  if (request.method !== "POST") throw new OAuthRefusal("invalid_request", "Tokens are asked for with POST.", 405);
  const type = request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  if (type !== FORM) throw new OAuthRefusal("invalid_request", `The body is a form: ${FORM}.`);
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw new OAuthRefusal("invalid_request", `The body has more than ${BODY_BYTES_MAX} bytes.`, 413);
    chunks.push(chunk);
  }
  const form = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(Buffer.concat(chunks).toString("utf8"))) {
    if (form.has(name)) throw new OAuthRefusal("invalid_request", "A parameter is there twice.");
    if (value !== "") form.set(name, value);
  }
  return form;
}

function scopeOf(scope: string | undefined): string | undefined {
  try {
    checkScope(scope);
    return scope;
  } catch (error) {
    throw new OAuthRefusal("invalid_scope", error instanceof Error ? error.message : "Not a scope.");
  }
}

/** Id and secret of HTTP Basic authentication, form-encoded before they were put together (RFC 6749, section 2.3.1). */
function basicOf(authorization: string): { id: string; secret: string } {
  const encoded = /^Basic +([A-Za-z0-9+/]+=*)$/i.exec(authorization)?.[1];
  const text = Buffer.from(encoded ?? "", "base64").toString("utf8");
  const colon = text.indexOf(":");
  if (encoded === undefined || colon < 0)
    throw new OAuthRefusal("invalid_client", "The Authorization header is not one of HTTP Basic.", 401);
  const [id, secret] = [text.slice(0, colon), text.slice(colon + 1)].map(formDecoded);
  return { id: id ?? "", secret: secret ?? "" };
}

function formDecoded(text: string): string {
  return new URLSearchParams(`v=${text.replaceAll("&", "%26")}`).get("v") ?? "";
}

function foreseen(error: SwarmError): TokenAnswer {
  const { code, message, hint } = error;
  const words = hint === undefined ? message : `${message} ${hint}`;
  if (code === "unauthenticated") return refused(401, "invalid_client", words);
  if (code === "permission_denied") return refused(400, "unauthorized_client", words);
  if (code === "invalid_argument") return refused(400, "invalid_request", words);
  if (code === "limit_exceeded") return { ...refused(429, "slow_down", words), headers: { "retry-after": "60" } };
  return refused(503, "temporarily_unavailable", words);
}

function refused(status: number, error: string, words: string): TokenAnswer {
  const answer = { status, body: { error, error_description: words } };
  return status === 401 ? { ...answer, headers: { "www-authenticate": 'Basic realm="mcp-swarm"' } } : answer;
}
