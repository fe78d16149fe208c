import { createHash } from "node:crypto";
import { assert, IDEMPOTENCY_TTL_MS, JSON_DEPTH_MAX, type Json, SwarmError } from "@mcp-swarm/core";
import { segment, type Transaction } from "@mcp-swarm/store";
import { type Call, type CallBase, callOf, noticeWrites } from "./call.ts";
import type { Caller } from "./caller.ts";

/*
 * | key                | value                  | why                                             |
 * |--------------------|------------------------|-------------------------------------------------|
 * | idem/<agent>/<key> | {fingerprint, outcome} | the first outcome of a call, for its repetitions |
 */
function recordKey(caller: Caller, key: string): string {
  return `idem/${segment(caller.agentId)}/${segment(key)}`;
}

/** Longest idempotency key, in characters. */
export const IDEMPOTENCY_KEY_MAX = 128;

export interface Once {
  /** The caller's own name for this call; the same key means the same call. Each agent has its own keys. */
  key: string;
  /** What the call is, from `fingerprintOf`; tells a repetition from another call under the same key. */
  fingerprint: string;
}

interface Recorded {
  fingerprint: string;
  outcome: Json;
}

/** A short hash of a tool's name and its input; members in any order give the same. Leave the idempotency key out of `input`. */
export function fingerprintOf(tool: string, input: Json): string {
  return createHash("sha256")
    .update(`${tool}\0${canonical(input, 0)}`)
    .digest("base64url")
    .slice(0, 22);
}

function canonical(value: Json, depth: number): string {
  if (depth > JSON_DEPTH_MAX) {
    throw new SwarmError("invalid_argument", "The input is nested too deeply.", {
      hint: `Use at most ${JSON_DEPTH_MAX} levels of objects and arrays.`,
    });
  }
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonical(item, depth + 1)).join(",")}]`;
  const members = Object.entries(value)
    .filter((member): member is [string, Json] => member[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonical(member, depth + 1)}`);
  return `{${members.join(",")}}`;
}

/**
 * A call whose deciding transaction happens once per idempotency key: a repetition within `IDEMPOTENCY_TTL_MS` gets the first
 * outcome and its plan does not run. Outcome and writes are one commit, so a crash between commit and answer is harmless,
 * and of two concurrent repetitions one executes. A plan that wrote nothing is not recorded and may be tried again.
 * @throws SwarmError invalid_argument when the key was used for another call or is too long
 */
export function onceCall(base: CallBase, once: Once | undefined): Call {
  const { store, caller } = base;
  const inner = callOf(base);
  if (!once) return inner;
  if (once.key.length === 0 || once.key.length > IDEMPOTENCY_KEY_MAX) {
    throw new SwarmError("invalid_argument", "The idempotencyKey has a wrong length.", {
      hint: `Use 1 to ${IDEMPOTENCY_KEY_MAX} characters.`,
    });
  }
  const record = recordKey(caller, once.key);
  let decided = false;
  return {
    caller,
    store,
    async transact<T extends Json>(plan: (tx: Transaction) => T, options: Parameters<Call["transact"]>[1] = {}): Promise<T> {
      assert(!decided, "an operation has one deciding transaction");
      const { outcome, wrote } = await inner.transact(
        (tx) => {
          const known = tx.get(record)?.value as Recorded | undefined;
          if (known) {
            if (known.fingerprint !== once.fingerprint) throw usedForAnotherCall();
            return { outcome: known.outcome as T, wrote: true };
          }
          const seen = noticeWrites(tx);
          const result = plan(seen.tx);
          if (seen.wrote()) {
            const remembered: Recorded = { fingerprint: once.fingerprint, outcome: result };
            tx.put(record, { ...remembered }, { ttlMs: IDEMPOTENCY_TTL_MS });
          }
          return { outcome: result, wrote: seen.wrote() };
        },
        { ...options, prefetch: { ...options.prefetch, keys: [record, ...(options.prefetch?.keys ?? [])] } },
      );
      decided = wrote;
      return outcome;
    },
  };
}

function usedForAnotherCall(): SwarmError {
  return new SwarmError("invalid_argument", "This idempotencyKey was used for another call.", {
    hint: "Use a fresh idempotencyKey, and repeat it only to retry the very same call.",
  });
}
