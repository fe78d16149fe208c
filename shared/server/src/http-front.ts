/** What a secured process says and asks over HTTP before any server is reached: metadata, tokens, credentials. Loaded by no open one. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { getOAuthProtectedResourceMetadataUrl } from "@modelcontextprotocol/server";
import { HttpAuth, type HttpCaller, type HttpRefusal, insufficientScope, refusalFor } from "./http-auth.ts";
import { baseFor, type HttpSite } from "./http-site.ts";
import type { MountedServer } from "./mount.ts";
import { type TokenAnswer, TokenEndpoint } from "./oauth-token.ts";
import type { Security } from "./security.ts";

const TOKEN_PATH = "/oauth/token";
const SIGN_IN_PATH = "/oauth/authorize";
const ISSUER_METADATA_PATH = "/.well-known/oauth-authorization-server";

export interface HttpFrontOptions {
  readonly site: HttpSite;
  /** Path → what is served there. */
  readonly mounts: ReadonlyMap<string, MountedServer>;
  readonly security: Security;
  readonly store: Store;
  readonly clock: Clock;
  onError(error: unknown): void;
}

/** A document or a token; whatever it is, it is JSON. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** An answer that was asked for with a credential and has not ended. */
interface Pending {
  readonly from: HttpCaller;
  readonly response: ServerResponse;
}

export class HttpFront implements Disposable {
  readonly #options: HttpFrontOptions;
  readonly #auth: HttpAuth;
  readonly #tokens: TokenEndpoint;
  /** Path of a metadata document → path of the resource that it is about. */
  readonly #metadataPaths = new Map<string, string>();
  /** As many as there are connections. */
  readonly #pending = new Set<Pending>();
  readonly #changes: Disposable;
  /** How often what credentials rest on has changed. */
  #changed = 0;

  constructor(options: HttpFrontOptions) {
    this.#options = options;
    const { site, mounts, security, store, clock } = options;
    this.#auth = new HttpAuth({ security, store, clock });
    for (const path of mounts.keys()) {
      for (const base of site.bases) this.#metadataPaths.set(new URL(metadataUrl(base, path)).pathname, path);
    }
    this.#tokens = new TokenEndpoint({
      security,
      store,
      clock,
      auth: this.#auth,
      resources: site.bases.flatMap((base) => [...mounts.keys()].map((path) => base + path)),
      audiences: site.bases.flatMap((base) => [base, `${base}/`, base + TOKEN_PATH]),
    });
    this.#changes = security.trust.onChange(() => {
      this.#changed += 1;
      void this.#endRevoked().catch((error) => options.onError(error));
    });
  }

  /** The answer to a request for metadata or a token; undefined for any other path. */
  async answer(request: IncomingMessage, path: string): Promise<HttpAnswer | undefined> {
    if (path === TOKEN_PATH) return noStore(await this.#tokens.answer(request));
    if (path === SIGN_IN_PATH) return { status: 400, body: NO_SIGN_IN };
    const base = baseFor(this.#options.site, request.headers.host);
    const resource = this.#metadataPaths.get(path);
    const issuerPath = ISSUER_METADATA_PATH + new URL(base).pathname.replace(/\/$/, "");
    const isIssuer = this.#auth.apiKeys !== undefined;
    if (resource === undefined && !(path === issuerPath && isIssuer)) return undefined;
    if (request.method !== "GET" && request.method !== "HEAD") {
      return { status: 405, headers: { allow: "GET, HEAD" }, body: { error: "method_not_allowed" } };
    }
    return {
      status: 200,
      body: resource === undefined ? issuerMetadata(base) : this.#resourceMetadata(base, resource, isIssuer),
    };
  }

  /** Who asks for what is served at `path`, or why that is refused. @throws what nobody foresaw */
  async admit({ headers }: IncomingMessage, path: string): Promise<HttpCaller | HttpRefusal> {
    const { authorization } = headers;
    const agent = headers["swarm-agent"];
    try {
      const named = Array.isArray(agent) ? agent[0] : agent;
      return await this.#auth.authenticate(
        { authorization, agent: named },
        this.#options.site.bases.map((base) => base + path),
      );
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      return refusalFor(error, this.#metadataUrl(headers.host, path), authorization !== undefined);
    }
  }

  /** Why the caller's token is not good enough for a request of the protocol (or several), parsed; undefined when it is. */
  async scopeRefusal(
    from: HttpCaller,
    host: string | undefined,
    path: string,
    message: unknown,
  ): Promise<HttpRefusal | undefined> {
    const mounted = this.#options.mounts.get(path);
    if (!from.scope || !mounted) return undefined;
    const operations = new Set<string>();
    for (const one of Array.isArray(message) ? (message as unknown[]) : [message]) {
      for (const operation of await mounted.operationsOf(one)) operations.add(operation);
    }
    return insufficientScope(from.scope, [...operations], this.#metadataUrl(host, path));
  }

  /**
   * Ends a response when what it was asked for with is revoked before it has ended: its host then asks anew, with what is good. One
   * that streams ends with its credential's time too; a call may still answer. What is returned asks whether the credential still
   * stands, for when the whole request has arrived.
   */
  endWithCredential(
    from: HttpCaller,
    response: ServerResponse,
    { streams }: { readonly streams: boolean },
  ): () => Promise<boolean> {
    const changed = this.#changed;
    const pending = { from, response };
    const { clock } = this.#options;
    const timer = streams ? clock.timer(from.expiresAt - clock.now(), () => response.destroy()) : undefined;
    this.#pending.add(pending);
    response.once("close", () => {
      timer?.[Symbol.dispose]();
      this.#pending.delete(pending);
    });
    return async () => changed === this.#changed || (await from.stillGood());
  }

  [Symbol.dispose](): void {
    this.#changes[Symbol.dispose]();
  }

  async #endRevoked(): Promise<void> {
    for (const { from, response } of [...this.#pending]) if (!(await from.stillGood())) response.destroy();
  }

  #metadataUrl(host: string | undefined, path: string): string {
    return metadataUrl(baseFor(this.#options.site, host), path);
  }

  /** RFC 9728, section 2. */
  #resourceMetadata(base: string, path: string, isIssuer: boolean) {
    const mounted = this.#options.mounts.get(path);
    return {
      resource: base + path,
      ...(isIssuer ? { authorization_servers: [base] } : {}),
      bearer_methods_supported: ["header"],
      scopes_supported: mounted?.scopes ?? [],
      resource_name: mounted?.definition.title,
    };
  }
}

function metadataUrl(base: string, path: string): string {
  return getOAuthProtectedResourceMetadataUrl(new URL(base + path));
}

const NO_SIGN_IN = {
  error: "unsupported_response_type",
  error_description: `Nobody signs in here. An agent proves its own key: client_credentials at ${TOKEN_PATH}.`,
};

/** RFC 8414, section 2. */
function issuerMetadata(base: string) {
  return {
    issuer: base,
    authorization_endpoint: base + SIGN_IN_PATH, // clients look for it, though no grant here uses it
    token_endpoint: base + TOKEN_PATH,
    response_types_supported: [],
    grant_types_supported: ["client_credentials"],
    token_endpoint_auth_methods_supported: ["private_key_jwt", "client_secret_basic", "client_secret_post"],
    token_endpoint_auth_signing_alg_values_supported: ["EdDSA"],
  };
}

function noStore({ status, headers, body }: TokenAnswer): HttpAnswer {
  return { status, headers: { ...headers, pragma: "no-cache" }, body };
}
