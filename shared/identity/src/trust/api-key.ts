/**
 * API keys, for hosts that can keep a text but sign nothing. A key is good at the issuer that made it and nowhere else: the store holds
 * only its HMAC under a secret that follows from the issuer's own private key, so whoever reads or writes the store can neither
 * find a key nor make one. When the issuer's key is rotated, the API keys that it made end.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { newId, type Random, SwarmError, systemRandom } from "@mcp-swarm/core";
import { type KeyRange, prefixRange, type Store, segment, type Transaction } from "@mcp-swarm/store";
import { checkAgentId, rootAgent } from "../caller.ts";
import { decodeCanonical } from "./jws-strict.ts";
import { secretOf } from "./keys.ts";
import type { Membership, Signer } from "./token.ts";

/*
 * | key                   | value                                              | why                                    |
 * |-----------------------|----------------------------------------------------|----------------------------------------|
 * | api-key/<issuer>/<id> | {id, agentId, createdAt, expiresAt, mac} (expires) | what a key that is shown is compared to |
 */
function recordKey(issuer: string, id: string): string {
  return `api-key/${segment(issuer)}/${segment(id)}`;
}

/** Longest life of an API key, and its life when nothing is said. */
export const API_KEY_TTL_MS_MAX = 366 * 24 * 60 * 60_000;
export const API_KEY_TTL_MS_DEFAULT = 90 * 24 * 60 * 60_000;
const SECRET_BYTES = 32;
const API_KEY = /^swarm_(?<id>key-[0-9a-z]{12})_(?<secret>[A-Za-z0-9_-]{43})$/;

/** A key as it may be shown: who it is for and how long it lives, nothing of its secret. */
export type ListedApiKey = { id: string; agentId: string; createdAt: number; expiresAt: number };

type ApiKeyRecord = ListedApiKey & { mac: string };

/** A fresh key. Its text exists nowhere else and is shown once. */
export interface NewApiKey {
  readonly id: string;
  readonly text: string;
  /** Writes its record, inside the transaction that decides that there is such a key. */
  put(tx: Pick<Transaction, "now" | "put">): ListedApiKey;
}

/** The API keys of one issuer. */
export class ApiKeys {
  readonly #issuer: string;
  readonly #secret: Buffer;

  constructor({ agentId, sign }: Signer) {
    this.#issuer = agentId;
    this.#secret = Buffer.from(hkdfSync("sha256", secretOf(sign), "", `mcp-swarm api keys of ${agentId}`, SECRET_BYTES));
  }

  /** @throws SwarmError invalid_argument */
  create(
    { agentId, ttlMs = API_KEY_TTL_MS_DEFAULT }: { agentId: string; ttlMs?: number },
    random: Random = systemRandom,
  ): NewApiKey {
    checkAgentId(agentId);
    if (!Number.isInteger(ttlMs) || ttlMs < 1 || ttlMs > API_KEY_TTL_MS_MAX) {
      throw new SwarmError("invalid_argument", "An API key does not live so long.", {
        hint: `Use 1 to ${API_KEY_TTL_MS_MAX} ms (366 days).`,
      });
    }
    const id = newId("key", random);
    const secret = randomBytes(SECRET_BYTES).toString("base64url");
    return {
      id,
      text: `swarm_${id}_${secret}`,
      put: (tx) => {
        const made: ListedApiKey = { id, agentId, createdAt: tx.now, expiresAt: tx.now + ttlMs };
        const record: ApiKeyRecord = { ...made, mac: this.#mac(made, secret).toString("base64url") };
        tx.put(recordKey(this.#issuer, id), record, { ttlMs });
        return made;
      },
    };
  }

  /**
   * Whom a key speaks for. Unknown, ended and foreign keys read alike, and take alike long. `now` is in ms since the epoch.
   * @throws SwarmError unauthenticated, unavailable
   */
  async verify(
    text: string,
    { store, membership, now }: { store: Pick<Store, "get">; membership: Membership; now: number },
  ): Promise<{ agentId: string; id: string }> {
    membership.check();
    const { id, secret } = API_KEY.exec(text)?.groups ?? {};
    if (id === undefined || secret === undefined || !decodeCanonical(secret)) throw refused();
    const record = (await store.get(recordKey(this.#issuer, id)))?.value as ApiKeyRecord | undefined;
    const expected = this.#mac(record ?? { id, agentId: "", createdAt: 0, expiresAt: 0 }, secret);
    const kept = Buffer.from(record?.mac ?? "", "base64url");
    const same = timingSafeEqual(expected, kept.length === expected.length ? kept : Buffer.alloc(expected.length));
    if (!record || !same || record.id !== id || record.expiresAt <= now) throw refused();
    const member = membership.principal(rootAgent(record.agentId));
    if (!member || member.revoked || member.quarantined) throw refused();
    return { agentId: record.agentId, id };
  }

  /** Ends a key. Whether there was one. */
  revoke(tx: Pick<Transaction, "get" | "delete">, id: string): boolean {
    const key = recordKey(this.#issuer, id);
    if (!tx.get(key)) return false;
    tx.delete(key);
    return true;
  }

  /** The keys that live, in order of their ids; `after` is the last id of the page before. */
  async list(store: Pick<Store, "scan">, { limit, after }: { limit: number; after?: string }): Promise<ListedApiKey[]> {
    const prefix = `api-key/${segment(this.#issuer)}/`;
    const range: KeyRange = prefixRange(prefix, limit, after === undefined ? {} : { after: recordKey(this.#issuer, after) });
    return (await store.scan(range)).map(({ value }) => {
      const { id, agentId, createdAt, expiresAt } = value as ApiKeyRecord;
      return { id, agentId, createdAt, expiresAt };
    });
  }

  /** Over all of the record: one that is changed to name another agent, or to last longer, fits no key. */
  #mac({ id, agentId, createdAt, expiresAt }: ListedApiKey, secret: string): Buffer {
    return createHmac("sha256", this.#secret)
      .update(JSON.stringify([id, agentId, createdAt, expiresAt, secret]))
      .digest();
  }
}

function refused(): SwarmError {
  return new SwarmError("unauthenticated", "This API key is not one of this server's, or it has ended.", {
    hint: "Use a key that was made for an agent in good standing by this very server.",
  });
}
