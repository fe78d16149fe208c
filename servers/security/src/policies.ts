import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import type { Call } from "@mcp-swarm/identity";
import { type Policy, parsePolicy, unknownOperations } from "@mcp-swarm/identity/policy";
import type { Trust } from "@mcp-swarm/identity/trust";
import type { RootKey } from "./root-key.ts";

const SCOPE = { list: "policies", prefix: "" };

/** The policies in force, in the order in which they were added. */
export class Policies {
  readonly #trust: Trust;
  readonly #root: RootKey;

  constructor({ trust, root }: { trust: Trust; root: RootKey }) {
    this.#trust = trust;
    this.#root = root;
  }

  /** A page; `cursorAt` gives the cursor behind the first `n` of it. */
  list({ limit, cursor }: { limit: number; cursor?: string | undefined }) {
    const all = this.#trust.bundle.policies;
    const behind = cursor === undefined ? -1 : all.findIndex(({ id }) => id === decodeCursor(SCOPE, cursor));
    const from = behind + 1; // one that was deleted meanwhile begins the list anew
    const policies = all.slice(from, from + limit);
    const cursorAt = (n: number): string | undefined =>
      from + n < all.length ? encodeCursor(SCOPE, policies[n - 1]?.id ?? "") : undefined;
    return { policies, cursorAt };
  }

  /**
   * Adds a policy, or replaces the one with its id. `unknownOperations`: those that no tool has, when there are some.
   * @throws SwarmError invalid_argument, limit_exceeded, failed_precondition
   */
  async set(call: Call, json: unknown): Promise<{ policyId: string; version: number; unknownOperations?: string[] }> {
    const policy: Policy = parsePolicy(json);
    const root = await this.#root.administrator();
    const version = await root.setPolicy(policy, (plan, options) => call.transact(plan, options));
    await this.#trust.refresh();
    const unknown = unknownOperations(policy);
    return { policyId: policy.id, version, ...(unknown.length > 0 ? { unknownOperations: unknown } : {}) };
  }

  /** @throws SwarmError not_found, failed_precondition */
  async delete(call: Call, policyId: string): Promise<{ policyId: string; version: number }> {
    const root = await this.#root.administrator();
    const version = await root.deletePolicy(policyId, (plan, options) => call.transact(plan, options));
    await this.#trust.refresh();
    return { policyId, version };
  }
}
