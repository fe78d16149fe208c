/**
 * Session tokens: what an agent proves itself with where its key is not.
 *
 * | key | value | why |
 * |---|---|---|
 * | `session/<agent>/<token id>` | {agentId, audience, expiresAt} (expires) | the tokens of an agent that live: their bound, and what `whoami` shows of them |
 */
import { type Clock, newId, type Random, SwarmError } from "@mcp-swarm/core";
import { type Call, checkAgentId, rootAgent } from "@mcp-swarm/identity";
import {
  type AgentKeys,
  ApiKeys,
  checkScope,
  issueToken,
  type ProvenAssertion,
  TOKEN_LIFETIME_MS_MAX,
  useAssertion,
  verifyAssertion,
} from "@mcp-swarm/identity/trust";
import { prefixRange, type Store, segment } from "@mcp-swarm/store";
import type { Security } from "./secured.ts";

/** Most tokens of one agent, its subagents included, that live at the same time. */
export const SESSIONS_MAX = 100;
/** So many of them are shown. */
const SHOWN_SESSIONS_MAX = 10;

export type Session = { id: string; agentId: string; audience: string; expiresAt: number };

export interface Credentials {
  readonly apiKey?: string | undefined;
  /** A JWT that the agent signed (RFC 7523). */
  readonly assertion?: string | undefined;
}

export interface SessionRequest {
  readonly agentId: string;
  readonly credentials?: Credentials | undefined;
  /** URL of the server that the token is for; this process's own public URL when absent. */
  readonly audience?: string | undefined;
  readonly scope?: string | undefined;
}

export interface Authenticated {
  readonly agentId: string;
  readonly token: string;
  readonly tokenId: string;
  readonly audience: string;
  readonly expiresAt: number;
}

export interface SessionsOptions {
  readonly store: Pick<Store, "get">;
  readonly random: Random;
  readonly clock: Clock;
  readonly security: Security;
  /** Under which others reach this process. */
  readonly publicUrl: string | undefined;
}

const prefixOf = (agentId: string): string => `session/${segment(rootAgent(agentId))}/`;

export class Sessions {
  readonly #options: SessionsOptions;

  constructor(options: SessionsOptions) {
    this.#options = options;
  }

  /**
   * A token for the agent that the credentials prove: the caller's own process needs none for its own agent. The store keeps that
   * there is such a token and nothing of it: a repetition of the call signs the same one again.
   * @throws SwarmError unauthenticated when nothing proves the agent; failed_precondition when this process may not sign for it;
   *   limit_exceeded above `SESSIONS_MAX`
   */
  async authenticate(call: Call, { agentId, credentials, audience, scope }: SessionRequest): Promise<Authenticated> {
    const { random, clock, security } = this.#options;
    checkAgentId(agentId);
    checkScope(scope);
    const madeFor = audience ?? this.#ownUrl();
    const signer = this.#signer(agentId);
    const assertion = await this.#prove(call, agentId, credentials, signer);
    const id = newId("token", random);
    const { tokenId, issuedAt } = await call.transact((tx) => {
      if (assertion) useAssertion(tx, assertion);
      if (tx.scan(prefixRange(prefixOf(agentId), SESSIONS_MAX)).length >= SESSIONS_MAX) {
        throw new SwarmError("limit_exceeded", `${rootAgent(agentId)} has ${SESSIONS_MAX} tokens that live.`, {
          hint: `Use one of those; each ends within ${TOKEN_LIFETIME_MS_MAX / 60_000} minutes.`,
        });
      }
      const session: Session = { id, agentId, audience: madeFor, expiresAt: tx.now + TOKEN_LIFETIME_MS_MAX };
      tx.put(`${prefixOf(agentId)}${segment(id)}`, session, { ttlMs: TOKEN_LIFETIME_MS_MAX });
      return { tokenId: id, issuedAt: tx.now };
    });
    const request = { agentId, audience: madeFor, jti: tokenId, ...(scope === undefined ? {} : { scope }) };
    const { token, expiresAt } = await issueToken(signer, security.trust.bundle, request, { now: issuedAt });
    if (expiresAt <= clock.now()) {
      throw new SwarmError("failed_precondition", "The token that this call made has ended.", {
        hint: "Use a fresh idempotencyKey for a new one.",
      });
    }
    return { agentId, token, tokenId, audience: madeFor, expiresAt };
  }

  /** The caller's newest tokens that live. */
  async live({ caller, store }: Call): Promise<Session[]> {
    const rows = await store.scan(prefixRange(prefixOf(caller.agentId), SESSIONS_MAX));
    const sessions = rows.map(({ value }) => value as Session);
    return sessions.sort((a, b) => b.expiresAt - a.expiresAt).slice(0, SHOWN_SESSIONS_MAX);
  }

  #ownUrl(): string {
    const { publicUrl } = this.#options;
    if (publicUrl !== undefined) return `${publicUrl.replace(/\/+$/, "")}/mcp`;
    throw new SwarmError("invalid_argument", "Field audience is missing: a token is for one server.", {
      hint: "Give the URL of that server, for example http://127.0.0.1:3335/agent-comm/mcp.",
    });
  }

  /** The key of this process's agent, when it may sign tokens for that agent. */
  #signer(agentId: string): AgentKeys {
    const { trust } = this.#options.security;
    const { self } = trust;
    const own = self?.agentId === rootAgent(agentId);
    if (self && trust.selfStatus() === "ok" && (own || trust.principal(self.agentId)?.issuer)) return self;
    throw new SwarmError("failed_precondition", "This server may not make tokens for that agent.", {
      hint: "Ask a server whose agent was enrolled with --issuer, or the server that the agent's own host started.",
    });
  }

  async #prove(
    call: Call,
    agentId: string,
    { apiKey, assertion }: Credentials = {},
    signer: AgentKeys,
  ): Promise<ProvenAssertion | undefined> {
    const { store, clock, security, publicUrl } = this.#options;
    const membership = security.trust;
    const now = clock.now();
    if (apiKey !== undefined && assertion === undefined) {
      const proven = await new ApiKeys(signer).verify(apiKey, { store, membership, now });
      checkProven(proven.agentId, agentId);
      return undefined;
    }
    if (assertion !== undefined && apiKey === undefined) {
      const audiences = publicUrl === undefined ? [signer.agentId] : [signer.agentId, publicUrl];
      const proven = await verifyAssertion(assertion, membership, { audiences, now });
      checkProven(proven.agentId, agentId);
      return proven;
    }
    // whoever has only a token must not make another of it, and so on for ever
    const ownProcess = call.caller.processId !== undefined && rootAgent(call.caller.agentId) === rootAgent(agentId);
    if (apiKey === undefined && ownProcess) return undefined;
    throw new SwarmError("unauthenticated", "Nothing proves that this is the agent it says it is.", {
      hint: "Give credentials with either apiKey or assertion, a JWT signed by the agent's key whose aud is this server's agent.",
    });
  }
}

function checkProven(proven: string, agentId: string): void {
  if (proven === agentId || agentId.startsWith(`${proven}/`)) return;
  throw new SwarmError("unauthenticated", "The credentials are another agent's.", {
    hint: "Give agentId as the agent that they were made for.",
  });
}
