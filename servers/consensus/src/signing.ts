/** What a voter signs, and how it is checked. Each use has its own type, so that a signature for one is none for another. */
import { createHash } from "node:crypto";
import { type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { Signatures } from "@mcp-swarm/identity";
import type { Choice } from "./ballot-record.ts";
import { canonicalJson } from "./canonical.ts";
import type { VoteRecord } from "./vote-record.ts";

export type SignedType = "ballot" | "commitment" | "delegation" | "vote-result";

/** Which vote, by its hash too: a ballot that is signed for one proposal counts for no other. */
interface Signable {
  readonly record: Pick<VoteRecord, "id" | "hash">;
  readonly voter: string;
}

/** A ballot as its voter signs it: who says what about which proposal. The rationale is there as its SHA-256. */
export function ballotPayload({ record, voter }: Signable, choice: Choice, rationale: string | undefined): JsonObject {
  const { id: voteId, hash: proposalHash } = record;
  const rationaleHash = rationale === undefined ? undefined : createHash("sha256").update(rationale).digest("hex");
  return { voteId, proposalHash, voter, ...choice, ...(rationaleHash === undefined ? {} : { rationaleHash }) };
}

export function commitmentPayload({ record, voter }: Signable, commitment: string): JsonObject {
  return { voteId: record.id, proposalHash: record.hash, voter, commitment };
}

export function delegationPayload({ record, voter }: Signable, to: string): JsonObject {
  return { voteId: record.id, proposalHash: record.hash, voter, to };
}

export function resultPayload(record: Pick<VoteRecord, "id" | "hash">, resultHash: string): JsonObject {
  return { voteId: record.id, proposalHash: record.hash, resultHash };
}

/** What is signed, as a text to compare. A signer may add when it signed (`at`), and what a JWT has (`iat`, `nonce` and the like). */
const asText = (payload: JsonObject, names: readonly string[]): string =>
  canonicalJson(Object.fromEntries(names.map((name) => [name, payload[name]])));

const OF_VOTE = ["voteId", "proposalHash", "voter"];
/** The members that say something; a signature that leaves one out, or says more of them, signs another ballot. */
const MEMBERS = [
  ...[...OF_VOTE, "vote", "ranking", "scores", "confidence", "modelFamily", "rationaleHash"],
  ...["commitment", "to", "resultHash"],
];

/** Longest compact JWS that is taken, in characters. */
export const SIGNATURE_MAX = 16_384;

/** Signs and checks for one process; in an open swarm nobody can. */
export class Signing {
  readonly #signatures: Signatures | undefined;
  readonly #own: () => string | undefined;

  /** `own`: the agent whose key this process holds. */
  constructor(signatures: Signatures | undefined, own: () => string | undefined = () => undefined) {
    this.#signatures = signatures;
    this.#own = own;
  }

  get secured(): boolean {
    return this.#signatures !== undefined;
  }

  /**
   * The voter's own signature when it gives one, checked; else one by this process's key; undefined when neither is there: the swarm is
   * open, or the voter's key is elsewhere.
   * @throws SwarmError unauthenticated of a wrong signature, invalid_argument of one over something else
   */
  async sign(type: SignedType, signer: string, payload: JsonObject, own?: string): Promise<string | undefined> {
    if (own !== undefined) {
      if (!this.#signatures) {
        throw new SwarmError("failed_precondition", "This swarm is open: it knows no keys, so a signature means nothing here.", {
          hint: "Leave signature out.",
        });
      }
      if (await this.says(type, signer, payload, own)) return own;
      throw new SwarmError("unauthenticated", "The signature is over something else than this call says.", {
        hint: "Sign exactly voteId, proposalHash, voter and what you cast, as get_vote shows them.",
      });
    }
    return this.#signatures?.sign(signer, type, payload);
  }

  /** What this process says by its own key; undefined without one. */
  async signOwn(type: SignedType, payload: JsonObject): Promise<{ by: string; signature: string } | undefined> {
    const by = this.#own();
    const signature = by === undefined ? undefined : await this.#signatures?.sign(by, type, payload);
    return by === undefined || signature === undefined ? undefined : { by, signature };
  }

  /** Whether the signature says this. @throws SwarmError unauthenticated of one that is not the signer's */
  async says(type: SignedType, signer: string, payload: JsonObject, jws: string): Promise<boolean> {
    if (!this.#signatures) return false;
    const signed = await this.#signatures.verify(type, jws);
    return signed.agentId === signer && asText(signed.payload, MEMBERS) === asText(payload, MEMBERS);
  }

  /** The same of the past: a key that was in force once will do, and a signature that is wrong proves nothing. @throws SwarmError unavailable */
  async proves(type: SignedType, signer: string, payload: JsonObject, jws: string): Promise<boolean> {
    return (await this.#said(type, signer, jws)) === asText(payload, MEMBERS);
  }

  /** Whether the voter signed two different ballots, or two commitments, in this vote. @throws SwarmError unavailable */
  async provesTwo({ record, voter }: Signable, [first, second]: readonly [string, string]): Promise<boolean> {
    const ofVote = asText({ voteId: record.id, proposalHash: record.hash, voter }, OF_VOTE);
    for (const type of ["ballot", "commitment"] as const) {
      const said = await Promise.all([first, second].map((jws) => this.#said(type, voter, jws)));
      const [one, other] = said;
      if (one === undefined || other === undefined || one === other) continue;
      return said.every((text) => text !== undefined && asText(JSON.parse(text) as JsonObject, OF_VOTE) === ofVote);
    }
    return false;
  }

  /** What the signer said, in the form in which it is compared; undefined when it did not sign this. */
  async #said(type: SignedType, signer: string, jws: string): Promise<string | undefined> {
    try {
      const signed = await this.#signatures?.verify(type, jws, { whenever: true });
      return signed?.agentId === signer ? asText(signed.payload, MEMBERS) : undefined;
    } catch (error) {
      if (error instanceof SwarmError && error.code === "unauthenticated") return undefined;
      throw error;
    }
  }
}
