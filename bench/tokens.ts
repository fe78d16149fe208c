/** What a request over HTTP pays for proving who makes it, and what sealing a message costs: cryptography in one process. */
import { type JsonObject, seededRandom, systemRandom } from "@mcp-swarm/core";
import type { Signatures } from "@mcp-swarm/identity";
import {
  type AgentKeys,
  type Bundle,
  generateKeyPair,
  issueToken,
  type Membership,
  open,
  publicKeysOf,
  seal,
  signJws,
  verifyToken,
} from "@mcp-swarm/identity/trust";
import type { Options, Row } from "./row.ts";
import { median, percentile } from "./stats.ts";

const AUDIENCE = "https://swarm.example/task-coordination/mcp";
const MEMBERS = 100;
const TOKENS = 500;
const MESSAGES = 40;
const PAYLOAD_BYTES = 1_000;
/** Keeps a token's check below what a call over HTTP takes by far. */
const VERIFY_MS_MAX = 1;

function agent(agentId: string): AgentKeys {
  const [sign, encrypt] = [generateKeyPair("Ed25519"), generateKeyPair("X25519")];
  return { agentId, generation: 1, rootKey: sign.publicKey, sign, encrypt, formerEncrypt: [] };
}

/** A swarm whose members are all known. */
function membership(agents: readonly AgentKeys[]): Membership {
  const members: Bundle["members"] = Object.fromEntries(
    agents.map((keys) => [keys.agentId, { roles: [], generation: 1, keys: publicKeysOf(keys) }]),
  );
  const holders = new Map(
    agents.map(({ agentId, sign }) => [sign.kid, { agentId, sign: sign.publicKey, issuer: true, inForce: true }]),
  );
  return {
    check() {},
    bundle: { version: 1, issuedAt: 0, epoch: 0, members, policies: [], revokedTokens: {} },
    principal: (agentId) => (agentId in members ? { revoked: false, quarantined: false } : undefined),
    signerOf: async (kid) => holders.get(kid),
    keysOf: async (agentId) => members[agentId]?.keys,
  };
}

/** Signs for the first agent; what is opened is not checked again, which `verifyToken` measures. */
function signaturesOf({ sign }: AgentKeys): Signatures {
  return {
    sign: (agentId, type, payload) => signJws(sign, `mcp-swarm-${type}+jws`, { agentId, payload }),
    verify: async (_, jws) => {
      const signed = JSON.parse(Buffer.from(jws.split(".")[1] ?? "", "base64url").toString()) as {
        agentId: string;
        payload: JsonObject;
      };
      return { ...signed, kid: sign.kid };
    },
  };
}

async function times(rounds: number, run: (at: number) => Promise<unknown>): Promise<number[]> {
  const taken: number[] = [];
  for (let at = -Math.ceil(rounds / 10); at < rounds; at++) {
    const from = process.hrtime.bigint();
    await run(Math.abs(at));
    if (at >= 0) taken.push(Number(process.hrtime.bigint() - from) / 1e6);
  }
  return taken;
}

const shown = (taken: readonly number[]) => `p50 ${median(taken).toFixed(2)} ms, p99 ${percentile(taken, 0.99).toFixed(2)} ms`;

export async function tokens({ quick }: Options): Promise<Row[]> {
  const agents = Array.from({ length: MEMBERS }, (_, at) => agent(`agent-${at}`));
  const [first = agent("agent-0")] = agents;
  const swarm = membership(agents);
  const now = Date.now();
  const rounds = quick ? 100 : 2_000;
  const random = seededRandom(13);
  const issued = await Promise.all(
    Array.from({ length: TOKENS }, (_, at) =>
      issueToken(
        agents[at % MEMBERS] ?? first,
        swarm.bundle,
        { agentId: `agent-${random.integer(MEMBERS)}`, audience: AUDIENCE },
        { now, random: systemRandom },
      ),
    ),
  );
  const verified = await times(rounds, (at) =>
    verifyToken(issued[at % TOKENS]?.token ?? "", swarm, { audiences: [AUDIENCE], now }),
  );
  const rows: Row[] = [
    {
      what: "a token is checked",
      subject: shown(verified),
      goal: { atMost: VERIFY_MS_MAX, value: median(verified) },
    },
  ];
  const signatures = signaturesOf(first);
  const payload = "x".repeat(PAYLOAD_BYTES);
  for (const receivers of [1, 10, 100]) {
    const to = agents.slice(0, receivers).map(({ agentId }) => agentId);
    const letter = (at: number) => ({ type: "message", to, jti: `message-${at}`, iat: now, payload });
    const sealer = { signatures, keysOf: swarm.keysOf };
    const messages = quick ? 10 : MESSAGES * (receivers === 100 ? 1 : 10);
    const sealing = await times(messages, (at) => seal(letter(at), first.agentId, sealer));
    const envelope = await seal(letter(0), first.agentId, sealer);
    const last = agents[receivers - 1] ?? first;
    const opener = { agentId: last.agentId, decryptionKeys: [last.encrypt], signatures };
    const opening = await times(messages, () => open(envelope, opener, { type: "message" }));
    const words = `${receivers} receiver${receivers === 1 ? "" : "s"}`;
    rows.push({ what: `1 KB is sealed to ${words}`, subject: shown(sealing), note: `${envelope.length} characters` });
    rows.push({ what: `and opened by one of ${words}`, subject: shown(opening), note: "without the check of the signature" });
  }
  return rows;
}
