/** An audit log in memory, with keys, and stores that fail as real ones do. */
import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { type ManualClock, manualClock, SwarmError, seededRandom } from "@mcp-swarm/core";
import { type Entry, prefixRange, SCAN_LIMIT_MAX, type Store, type Transaction } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import {
  type AuditEvent,
  AuditLog,
  type AuditLogOptions,
  type AuditReport,
  keyIdOf,
  type NoteSigner,
  verifyAuditLog,
} from "../src/audit/index.ts";

export const ORIGIN = "mcp-swarm/test-root/audit";

export function newSigner(name: string): NoteSigner {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { x } = privateKey.export({ format: "jwk" });
  const key = createPrivateKey(privateKey.export({ format: "pem", type: "pkcs8" }));
  return { name, publicKey: String(x), sign: (bytes) => sign(null, bytes, key) };
}

export const event = (over: Partial<AuditEvent> = {}): AuditEvent => ({
  agentId: "build-7",
  verified: true,
  operation: "task:claim",
  resource: "task/a",
  outcome: "permit",
  reason: "permitted",
  policyIds: ["workers"],
  tool: "claim_task",
  ...over,
});

/** A swarm's log: any number of processes over one store. */
export class TestLog {
  readonly clock: ManualClock;
  readonly store: Store;
  readonly errors: unknown[] = [];
  #keys = new Map<string, string>();
  #processes = 0;

  constructor(store?: Store, clock = manualClock()) {
    this.clock = clock;
    this.store = store ?? new MemoryStore({ clock });
  }

  /** A process of an agent that has a key. */
  process(over: Partial<AuditLogOptions> & { agent?: string } = {}): AuditLog {
    this.#processes += 1;
    const { agent = "build-7", ...options } = over;
    const signer = this.signer(agent);
    return new AuditLog({
      store: this.store,
      clock: this.clock,
      random: seededRandom(this.#processes),
      processId: `process-${this.#processes}`,
      origin: ORIGIN,
      signer: () => signer,
      onError: (error) => this.errors.push(error),
      ...options,
    });
  }

  /** A new key of an agent, which is known from now on. */
  signer(agent: string): NoteSigner {
    const signer = newSigner(agent);
    this.#keys.set(`${agent} ${keyIdOf(agent, signer.publicKey)}`, signer.publicKey);
    return signer;
  }

  /** The same agents over another store. */
  withStore(store: Store): TestLog {
    const other = new TestLog(store, this.clock);
    other.#keys = this.#keys;
    return other;
  }

  async verify(copies?: readonly string[]): Promise<AuditReport> {
    return await verifyAuditLog({
      store: this.store,
      origin: ORIGIN,
      publicKey: (agentId, keyId) => this.#keys.get(`${agentId} ${keyId}`),
      ...(copies ? { copies } : {}),
    });
  }

  async rows(prefix: string): Promise<Entry[]> {
    const all: Entry[] = [];
    for (let after: string | undefined; ; ) {
      const page = await this.store.scan(prefixRange(prefix, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
      all.push(...page);
      after = page.at(-1)?.key;
      if (after === undefined || page.length < SCAN_LIMIT_MAX) return all;
    }
  }
}

/** What becomes of a transaction. `rerun`: its plan runs twice, as after a conflict. `late`: it is committed after its failure was told. */
export type Fate = "well" | "rerun" | "lost before" | "lost after" | "late";

/** A store whose transactions each have a fate. */
export function fateful(store: Store, fateOf: () => Fate): Store {
  return new Proxy(store, {
    get(target, name) {
      if (name !== "transact") {
        const member: unknown = Reflect.get(target, name, target);
        return typeof member === "function" ? member.bind(target) : member;
      }
      return async <T>(plan: (tx: Transaction) => T): Promise<T> => {
        const fate = fateOf();
        const lost = new SwarmError("unavailable", "The connection was lost.");
        const again = new Error("a conflict");
        if (fate === "rerun") {
          await target
            .transact((tx) => {
              plan(tx);
              throw again;
            })
            .catch((error: unknown) => {
              if (error !== again) throw error;
            });
        }
        if (fate === "lost before" || fate === "late") {
          // the plan has run, and what it wrote is on its way
          const sent: [string, Parameters<Transaction["put"]>][] = [];
          await target
            .transact((tx) => {
              plan({ ...tx, put: (...put) => void sent.push([put[0], put]) });
              throw again;
            })
            .catch((error: unknown) => {
              if (error !== again) throw error;
            });
          if (fate === "late") {
            // it arrives in the next turn but one, unless another has taken its place
            setImmediate(() =>
              setImmediate(() => {
                void target.transact((tx) => {
                  if (sent.every(([key]) => tx.get(key) === undefined)) for (const [, put] of sent) tx.put(...put);
                });
              }),
            );
          }
          throw lost;
        }
        const outcome = await target.transact(plan);
        if (fate === "lost after") throw lost;
        return outcome;
      };
    },
  });
}
