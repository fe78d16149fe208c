/**
 * Secrets, sealed to those whom a policy permits to read them: whoever has only the store reads none.
 *
 * | key | value | why |
 * |---|---|---|
 * | `secret/<name>` | {name, version, putBy, putAt, readers, sealed} | `sealed` is signed by who put it and bound to name and version; the rest is for lists and errors, and nothing relies on it |
 */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { type Clock, SwarmError } from "@mcp-swarm/core";
import { type Call, rootAgent } from "@mcp-swarm/identity";
import { openSecret, RECIPIENTS_MAX, sealSecret } from "@mcp-swarm/identity/trust";
import { type Entry, prefixRange, segment } from "@mcp-swarm/store";
import { openerOf, withOwnKeys } from "./envelopes.ts";
import type { Security } from "./secured.ts";

/** Longest secret, in bytes of JSON: it fits an answer. */
export const SECRET_BYTES_MAX = 12_000;
const PREFIX = "secret/";
const SCOPE = { list: "secrets", prefix: PREFIX };
/** Tries against others who put the same secret. */
const TRIES_MAX = 10;

const keyOf = (name: string): string => `${PREFIX}${segment(name)}`;
const resourceOf = (name: string): string => `${PREFIX}${name}`;

type SecretRow = { name: string; version: number; putBy: string; putAt: number; readers: string[]; sealed: string };

/** A secret without what is secret. */
export interface ListedSecret {
  readonly name: string;
  readonly version: number;
  readonly putBy: string;
  readonly putAt: number;
  readonly readers: number;
  /** Whether it was sealed to the caller. */
  readonly readable: boolean;
}

export interface PutSecret {
  readonly name: string;
  /** Absent: the present one is shared with whoever may read it now. */
  readonly value?: string | undefined;
  /** Of those who may read it; all of them when absent. */
  readonly readers?: readonly string[] | undefined;
}

export class Secrets {
  readonly #security: Security;
  readonly #clock: Clock;

  constructor({ security, clock }: { security: Security; clock: Clock }) {
    this.#security = security;
    this.#clock = clock;
  }

  /**
   * @throws SwarmError failed_precondition when nobody may read it, or the caller's key is elsewhere; permission_denied when a reader
   *   is named who may not read it; limit_exceeded; conflict when others were always faster
   */
  async put(call: Call, { name, value, readers }: PutSecret): Promise<{ name: string; version: number }> {
    if (value !== undefined && Buffer.byteLength(JSON.stringify(value)) > SECRET_BYTES_MAX) {
      throw new SwarmError("limit_exceeded", `A secret has at most ${SECRET_BYTES_MAX} bytes.`, {
        hint: "Keep the large part elsewhere, encrypted, and its key here.",
      });
    }
    const { trust } = this.#security;
    const self = openerOf(trust, call.caller.agentId).agentId;
    for (let n = 0; n < TRIES_MAX; n++) {
      const to = await this.#readers(name, readers);
      const before = await call.store.get(keyOf(name));
      const shared = value ?? (await this.#open(call, name, before)).value;
      const version = (before ? rowOf(before).version : 0) + 1;
      const putAt = this.#clock.now();
      const sealed = await sealSecret({ name, version, value: shared, readers: to, iat: putAt }, self, {
        signatures: trust,
        keysOf: (agentId) => trust.keysOf(agentId),
      });
      const put = await call.transact(
        (tx) => {
          if (tx.get(keyOf(name))?.rev !== before?.rev) return 0;
          const row: SecretRow = { name, version, putBy: self, putAt, readers: to, sealed };
          tx.put(keyOf(name), row);
          return version;
        },
        { prefetch: { keys: [keyOf(name)] } },
      );
      if (put !== 0) return { name, version: put };
    }
    throw new SwarmError("conflict", "Others put this secret each time it was tried.", { hint: "Read it, then try again." });
  }

  /**
   * @throws SwarmError not_found; failed_precondition when it was not sealed to the caller, or was put by an agent that may not put
   *   it; unauthenticated when it is not what was put
   */
  async get(call: Call, name: string) {
    const entry = await call.store.get(keyOf(name));
    const { value, row } = await this.#open(call, name, entry);
    return { ...listedOf(row, call), value };
  }

  /** A page in order of the names, without any value; `cursorAt` gives the cursor behind the first `n` of it. */
  async list(call: Call, { limit, cursor }: { limit: number; cursor?: string | undefined }) {
    const after = cursor === undefined ? {} : { after: decodeCursor(SCOPE, cursor) };
    const rows = await call.store.scan(prefixRange(PREFIX, limit + 1, after));
    const page = rows.slice(0, limit);
    const cursorAt = (n: number): string | undefined =>
      n < rows.length ? encodeCursor(SCOPE, page[n - 1]?.key ?? PREFIX) : undefined;
    const secrets = page.map((entry) => {
      const row = readRow(entry);
      return row ? listedOf(row, call) : { name: entry.key.slice(PREFIX.length), damaged: true as const };
    });
    return { secrets, cursorAt };
  }

  /** @throws SwarmError not_found */
  async delete(call: Call, name: string): Promise<{ name: string }> {
    const key = keyOf(name);
    return await call.transact(
      (tx) => {
        if (!tx.get(key)) throw noSecret();
        tx.delete(key);
        return { name };
      },
      { prefetch: { keys: [key] } },
    );
  }

  /** Opens one and makes sure that who put it may. */
  async #open(call: Call, name: string, entry: Entry | undefined): Promise<{ value: string; row: SecretRow }> {
    if (!entry) throw noSecret();
    const { trust } = this.#security;
    const row = rowOf(entry);
    if (!row.readers.includes(rootAgent(call.caller.agentId))) {
      throw new SwarmError("failed_precondition", "This secret was put before you were permitted to read it.", {
        hint: "Ask an agent that can read it to share it again: put_secret with its name and without a value.",
      });
    }
    const { value, from } = await withOwnKeys(trust, call.caller.agentId, (opener) =>
      openSecret(row.sealed, { name, version: row.version }, opener),
    );
    if (!this.#admits(from, "secret:write", name)) {
      throw new SwarmError("failed_precondition", `This secret was put by ${from}, who may not put it, or not any more.`, {
        hint: "Do not use it: who put it knows it. Ask for a new value to be put.",
      });
    }
    if (typeof value !== "string") throw new SwarmError("unauthenticated", "This secret is not one that put_secret made.");
    return { value, row: { ...row, putBy: from } };
  }

  /** Root agents with keys who may read the secret now, of those that were named. */
  async #readers(name: string, named: readonly string[] | undefined): Promise<string[]> {
    const { trust } = this.#security;
    const wanted = named ? [...new Set(named.map(rootAgent))] : Object.keys(trust.bundle.members);
    const readers: string[] = [];
    for (const agentId of wanted) {
      const may = this.#admits(agentId, "secret:read", name);
      if (!may && named) {
        throw new SwarmError("permission_denied", `${agentId} may not read this secret.`, {
          hint: "Leave it out, or ask for a policy that permits secret:read on this secret to it. list_members names the members.",
        });
      }
      if (may && (named || (await trust.keysOf(agentId)))) readers.push(agentId);
    }
    if (readers.length === 0) {
      throw new SwarmError("failed_precondition", "No policy permits anybody to read this secret.", {
        hint: "Ask for a policy that permits secret:read on it first.",
      });
    }
    if (readers.length > RECIPIENTS_MAX) {
      throw new SwarmError(
        "limit_exceeded",
        `${readers.length} agents may read this secret, and it can be sealed to ${RECIPIENTS_MAX}.`,
        {
          hint: "Name the readers, or ask for a policy that permits it to fewer.",
        },
      );
    }
    return readers.sort();
  }

  #admits(agentId: string, operation: string, name: string): boolean {
    // as whoever comes with a token of its own: this process's key says nothing of others
    const caller = { agentId, verified: true, processId: undefined };
    return this.#security.guard.stillAdmits(caller, { operation, resource: resourceOf(name), arguments: { name } });
  }
}

function listedOf({ name, version, putBy, putAt, readers }: SecretRow, { caller }: Call): ListedSecret {
  return { name, version, putBy, putAt, readers: readers.length, readable: readers.includes(rootAgent(caller.agentId)) };
}

/** Whoever writes the store may have written anything. */
function readRow({ key, value }: Entry): SecretRow | undefined {
  const { name, version, putBy, putAt, readers, sealed } = (value ?? {}) as Record<string, unknown>;
  const texts = [name, putBy, sealed].every((text) => typeof text === "string");
  const listed = Array.isArray(readers) && readers.every((reader) => typeof reader === "string");
  const numbered = [version, putAt].every((number) => Number.isSafeInteger(number));
  return texts && listed && numbered && keyOf(String(name)) === key ? (value as SecretRow) : undefined;
}

/** @throws SwarmError unauthenticated */
function rowOf(entry: Entry): SecretRow {
  const row = readRow(entry);
  if (!row) {
    throw new SwarmError("unauthenticated", "The record of this secret is not one that put_secret made.", {
      hint: "Do not use it. Delete it, put the secret anew, and find out who wrote to the store.",
    });
  }
  return row;
}

function noSecret(): SwarmError {
  return new SwarmError("not_found", "There is no secret of this name.", { hint: "list_secrets names those there are." });
}
