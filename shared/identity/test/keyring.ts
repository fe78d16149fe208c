/** A swarm's members and their keys in memory, for tests of what is checked against them. */
import { SwarmError } from "@mcp-swarm/core";
import type { ForgeryGround } from "../../../test/support/forgeries.ts";
import { rootAgent } from "../src/caller.ts";
import type { Signatures } from "../src/signatures.ts";
import type { Bundle, Member } from "../src/trust/bundle.ts";
import { proveJws, readJws } from "../src/trust/jws-strict.ts";
import { type AgentKeys, generateKeyPair, publicKeysOf, signJws } from "../src/trust/keys.ts";
import type { Membership } from "../src/trust/token.ts";

export function agentKeys(agentId: string): AgentKeys {
  return {
    agentId,
    generation: 1,
    rootKey: "A".repeat(43),
    sign: generateKeyPair("Ed25519"),
    encrypt: generateKeyPair("X25519"),
    formerEncrypt: [],
  };
}

export class Keyring implements Membership {
  readonly #keys = new Map<string, AgentKeys>();
  bundle: Bundle;
  closed = false;

  constructor(members: readonly [AgentKeys, Partial<Member>?][], change: Partial<Bundle> = {}) {
    for (const [keys] of members) this.#keys.set(keys.agentId, keys);
    this.bundle = {
      version: 1,
      issuedAt: 0,
      epoch: 7,
      policies: [],
      revokedTokens: {},
      members: Object.fromEntries(
        members.map(([keys, member]) => [keys.agentId, { roles: [], generation: 1, keys: publicKeysOf(keys), ...member }]),
      ),
      ...change,
    };
  }

  check(): void {
    if (this.closed) throw new SwarmError("unavailable", "No bundle.");
  }

  principal(agentId: string) {
    const member = Object.hasOwn(this.bundle.members, agentId) ? this.bundle.members[agentId] : undefined;
    return member && { revoked: member.revokedAt !== undefined, quarantined: member.quarantinedAt !== undefined };
  }

  async signerOf(kid: string) {
    for (const { agentId, sign } of this.#keys.values()) {
      if (sign.kid !== kid) continue;
      const member = this.bundle.members[agentId];
      return { agentId, sign: sign.publicKey, issuer: member?.issuer === true, inForce: member?.revokedAt === undefined };
    }
    return undefined;
  }

  async keysOf(agentId: string) {
    const keys = this.#keys.get(agentId);
    return keys && publicKeysOf(keys);
  }

  /** What a process can sign that holds these keys, and check. */
  signaturesOf(self: AgentKeys | undefined): Signatures {
    return {
      sign: async (agentId, type, payload) =>
        self && rootAgent(agentId) === self.agentId
          ? await signJws(self.sign, `mcp-swarm-${type}+jws`, { agentId, payload })
          : undefined,
      verify: async (type, jws) => {
        const unproven = readJws(jws, { types: [`mcp-swarm-${type}+jws`], lengthMax: 1_000_000 });
        const signer = unproven.kid === undefined ? undefined : await this.signerOf(unproven.kid);
        const { agentId, payload } = unproven.payload;
        if (!signer?.inForce || typeof agentId !== "string" || rootAgent(agentId) !== signer.agentId) {
          throw new SwarmError("unauthenticated", "Signed by nobody in force.");
        }
        await proveJws(unproven, signer.sign);
        return { agentId, kid: unproven.kid ?? "", payload: payload as Record<string, never> };
      },
    };
  }
}

/** Members of every kind, and what a forger of tokens may have. */
export function forgeryGround(now: number): { ground: ForgeryGround; keyring: Keyring } {
  const [issuer, agent, other, revoked, quarantined] = ["gateway", "build-7", "build-8", "gone", "held"].map(agentKeys) as [
    AgentKeys,
    AgentKeys,
    AgentKeys,
    AgentKeys,
    AgentKeys,
  ];
  const former = generateKeyPair("Ed25519");
  const revokedJti = "token-taken-back";
  const keyring = new Keyring(
    [
      [issuer, { issuer: true }],
      [agent, { retired: [former.publicKey] }],
      [other],
      [revoked, { revokedAt: 1 }],
      [quarantined, { quarantinedAt: 1 }],
    ],
    { revokedTokens: { [revokedJti]: now + 900_000 } },
  );
  const audience = "https://swarm.example/task-coordination/mcp";
  const { epoch } = keyring.bundle;
  return { keyring, ground: { audience, now, epoch, issuer, agent, other, revoked, quarantined, former, revokedJti } };
}
