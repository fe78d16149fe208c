import { join } from "node:path";
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, rootAgent } from "@mcp-swarm/identity";
import {
  type Administrator,
  type Bundle,
  type Member,
  parseEnrolmentToken,
  rotateOwn,
  type Trust,
  writePrivateFile,
} from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import type { RootKey } from "./root-key.ts";

const SCOPE = { list: "members", prefix: "" };

/** `enrolled`: its token waits to be redeemed. `lapsed`: it never was. */
export type Standing = "active" | "enrolled" | "lapsed" | "quarantined" | "revoked";

export interface ListedMember {
  readonly agentId: string;
  readonly standing: Standing;
  readonly roles: string[];
  readonly attributes?: Record<string, string>;
  readonly issuer?: true;
  readonly generation: number;
  readonly revokedAt?: number;
  readonly quarantinedAt?: number;
  /** Until when its token may be redeemed. */
  readonly enrolledUntil?: number;
}

/** A change that was signed: `version` is that of the bundle which says so. */
export type Changed = { agentId: string; version: number };

export interface MembersOptions {
  readonly store: Store;
  readonly trust: Trust;
  readonly root: RootKey;
  /** Of this process's own agent. */
  readonly keyFile: string | undefined;
}

/** Who takes part in the swarm, and who no more. */
export class Members {
  readonly #options: MembersOptions;

  constructor(options: MembersOptions) {
    this.#options = options;
  }

  /** A page in order of the ids; `cursorAt` gives the cursor behind the first `n` of it. */
  async list({ limit, cursor }: { limit: number; cursor?: string | undefined }) {
    const { store, trust } = this.#options;
    const { bundle } = trust;
    const after = cursor === undefined ? "" : decodeCursor(SCOPE, cursor);
    const rest = Object.keys(bundle.members).filter((agentId) => agentId > after);
    const page = rest.sort().slice(0, limit);
    const now = await store.now();
    const members = await Promise.all(page.map((agentId) => listed(agentId, bundle, trust, now)));
    const cursorAt = (n: number): string | undefined =>
      n < rest.length ? encodeCursor(SCOPE, members[n - 1]?.agentId ?? "") : undefined;
    return { members, cursorAt };
  }

  /** What is absent stays as it is. @throws SwarmError not_found, failed_precondition */
  setRoles(
    call: Call,
    { agentId, ...terms }: { agentId: string; roles?: readonly string[]; attributes?: Record<string, string> },
  ): Promise<Changed> {
    return this.#change(call, agentId, (root, transact) => root.setTerms(agentId, terms, transact));
  }

  /** @throws SwarmError not_found, failed_precondition */
  revoke(call: Call, agentId: string): Promise<Changed> {
    return this.#change(call, agentId, (root, transact) => root.revoke(agentId, transact));
  }

  /** @throws SwarmError not_found, failed_precondition */
  quarantine(call: Call, agentId: string, on: boolean): Promise<Changed> {
    return this.#change(call, agentId, (root, transact) => root.quarantine(agentId, on, transact));
  }

  /**
   * Replaces the keys of this process's own agent. Answers the id of the new key.
   * @throws SwarmError failed_precondition when the caller's keys are not here; limit_exceeded, conflict
   */
  async rotateOwn(call: Call): Promise<{ agentId: string; keyId: string }> {
    const { store, trust, keyFile } = this.#options;
    const { agentId, processId } = call.caller;
    const own = rootAgent(agentId);
    // over HTTP a token proves the caller, and who has only a token must not take the agent over
    if (keyFile === undefined || processId === undefined || trust.self?.agentId !== own) {
      throw new SwarmError("failed_precondition", "This server does not hold your keys.", {
        hint: "Call it where your key file is: in a server that your host started over stdio with SWARM_KEY_FILE.",
      });
    }
    const keyId = await rotateOwn({ store, trust, keyFile }, (plan, options) => call.transact(plan, options));
    return { agentId: own, keyId };
  }

  /**
   * Ends another agent's keys. The one-time token for its next ones goes into a file beside the root key: a secret that a model reads
   * is none any more.
   * @throws SwarmError not_found, failed_precondition
   */
  async replaceKeys(call: Call, agentId: string): Promise<Changed & { tokenFile: string }> {
    const { trust, root } = this.#options;
    const administrator = await root.administrator();
    const { token, version } = await administrator.replaceKeys(agentId, (plan, options) => call.transact(plan, options));
    await trust.refresh();
    const tokenFile = join(root.folder, `${agentId}.token`);
    // when this call was a repetition, the first one wrote the token that is good
    const { key } = parseEnrolmentToken(token);
    if (trust.bundle.members[agentId]?.enrolment?.key === key.publicKey) await writePrivateFile(tokenFile, `${token}\n`);
    return { agentId, version, tokenFile };
  }

  async #change(
    call: Call,
    agentId: string,
    change: (root: Administrator, transact: Call["transact"]) => Promise<number>,
  ): Promise<Changed> {
    const { trust, root } = this.#options;
    const version = await change(await root.administrator(), (plan, options) => call.transact(plan, options));
    await trust.refresh();
    return { agentId, version };
  }
}

/** What is said of a member; whether it has keys in force is looked up. */
export async function listed(agentId: string, bundle: Bundle, trust: Trust, now: number): Promise<ListedMember> {
  const member = bundle.members[agentId] as Member;
  const { roles, attributes, issuer, generation, revokedAt, quarantinedAt, enrolment } = member;
  const standing = await standingOf(agentId, member, trust, now);
  return {
    agentId,
    standing,
    roles: [...roles],
    ...(attributes && Object.keys(attributes).length > 0 ? { attributes: { ...attributes } } : {}),
    ...(issuer ? { issuer } : {}),
    generation,
    ...(revokedAt === undefined ? {} : { revokedAt }),
    ...(quarantinedAt === undefined ? {} : { quarantinedAt }),
    ...(standing === "enrolled" && enrolment ? { enrolledUntil: enrolment.expiresAt } : {}),
  };
}

async function standingOf(agentId: string, member: Member, trust: Trust, now: number): Promise<Standing> {
  if (member.revokedAt !== undefined) return "revoked";
  if (member.quarantinedAt !== undefined) return "quarantined";
  if ((await trust.keysOf(agentId)) !== undefined) return "active";
  return member.enrolment && member.enrolment.expiresAt >= now ? "enrolled" : "lapsed";
}
