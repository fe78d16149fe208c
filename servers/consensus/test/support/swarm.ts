/** Server processes over one store in memory, with time that moves only when told. */
import { generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { Postbox } from "@mcp-swarm/coordination/messages";
import { type JsonObject, manualClock, SwarmError, seededRandom } from "@mcp-swarm/core";
import { type Call, onceCall, plainCall, type Signatures } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { Casting } from "../../src/casting.ts";
import { Closing } from "../../src/closing.ts";
import { dueVotesJob } from "../../src/due-votes.ts";
import { Notices } from "../../src/notices.ts";
import { Results } from "../../src/results.ts";
import { freshNonce } from "../../src/sealing.ts";
import { Signing } from "../../src/signing.ts";
import { VoteBook } from "../../src/vote-book.ts";
import { Votes } from "../../src/votes.ts";

const RETENTION_DAYS = 7;

/** The keys of a secured swarm: each agent's private one lies in the processes of that agent alone. */
export class Keys {
  readonly #keys = new Map<string, { publicKey: KeyObject; privateKey: KeyObject }>();

  #of(agentId: string) {
    const known = this.#keys.get(agentId) ?? generateKeyPairSync("ed25519");
    this.#keys.set(agentId, known);
    return known;
  }

  /** What the agent signs wherever its key is. */
  signed(agentId: string, type: string, payload: JsonObject): string {
    const head = Buffer.from(JSON.stringify({ agentId, type, payload })).toString("base64url");
    return `${head}.${sign(null, Buffer.from(head), this.#of(agentId).privateKey).toString("base64url")}`;
  }

  /** As a process sees it that holds the keys of these agents. */
  in(holding: readonly string[]): Signatures {
    return {
      sign: async (agentId, type, payload) => (holding.includes(agentId) ? this.signed(agentId, type, payload) : undefined),
      verify: async (type, jws) => {
        const [head = "", signature = ""] = jws.split(".");
        const wrong = new SwarmError("unauthenticated", "The signature is wrong.");
        let said: { agentId: string; type: string; payload: JsonObject };
        try {
          said = JSON.parse(Buffer.from(head, "base64url").toString()) as typeof said;
        } catch {
          throw wrong;
        }
        const good = verify(null, Buffer.from(head), this.#of(said.agentId).publicKey, Buffer.from(signature, "base64url"));
        if (!good || said.type !== type) throw wrong;
        return { agentId: said.agentId, kid: said.agentId, payload: said.payload };
      },
    };
  }
}

export interface Process {
  readonly call: Call;
  readonly votes: Votes;
  readonly casting: Casting;
  readonly results: Results;
  readonly closing: Closing;
  readonly book: VoteBook;
  /** Errors that were no caller's. */
  readonly errors: unknown[];
  /** Another call of the same agent, under an idempotency key. */
  once(key: string): Call;
  /** Its background work, one round. */
  work(): Promise<number>;
}

export interface Swarm {
  readonly clock: ReturnType<typeof manualClock>;
  readonly store: MemoryStore;
  readonly keys: Keys;
  process(agentId: string, options?: { holding?: readonly string[]; store?: Store }): Process;
}

let started = 0;

export function swarm({ secured = false }: { secured?: boolean } = {}): Swarm {
  const clock = manualClock();
  const store = new MemoryStore({ clock });
  const keys = new Keys();
  return {
    ...{ clock, store, keys },
    process(agentId, { holding = [agentId], store: through = store } = {}) {
      started += 1;
      const errors: unknown[] = [];
      const onError = (error: unknown) => void errors.push(error);
      const random = seededRandom(started);
      const signing = new Signing(secured ? keys.in(holding) : undefined, () => agentId);
      const notices = new Notices({ postbox: new Postbox({ random, retentionDays: RETENTION_DAYS }), onError });
      const book = new VoteBook();
      const closing = new Closing({ clock, signing, notices });
      const caller = { agentId, verified: secured, processId: `process-${started}` };
      const job = dueVotesJob(through, book, closing);
      return {
        ...{ closing, book, errors },
        call: plainCall(through, caller),
        once: (key) => onceCall({ store: through, caller }, { key, fingerprint: key }),
        votes: new Votes({ book, closing, signing, notices, random, retentionDays: RETENTION_DAYS }),
        casting: new Casting({ book, closing, signing, nonces: freshNonce, onError }),
        results: new Results({ book, closing, signing }),
        work: () => job.run(),
      };
    },
  };
}

export async function code(failing: Promise<unknown>): Promise<string> {
  try {
    await failing;
  } catch (error) {
    if (error instanceof SwarmError) return error.code;
    throw error;
  }
  return "ok";
}

export const names = (count: number, prefix = "agent"): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}-${String(index).padStart(5, "0")}`);

/** Every row of the store, as text. */
export async function everything(store: Store): Promise<string> {
  return store.snapshot(async (view) => {
    const rows: string[] = [];
    for (const namespace of await view.namespaces()) {
      let after: string | undefined;
      for (;;) {
        const from = after === undefined ? `${namespace}/` : `${after}\0`;
        const page = await view.scan({ from, before: `${namespace}0`, limit: 1_000 });
        rows.push(...page.map(({ key, value }) => `${key} ${JSON.stringify(value)}`));
        after = page.at(-1)?.key;
        if (page.length < 1_000) break;
      }
    }
    return rows.join("\n");
  });
}
