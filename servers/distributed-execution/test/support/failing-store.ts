/** A store that one process has, and that fails it at one of its operations. */
import { SwarmError } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";

export const FAULTS = [
  /** The operation is not done, and says so. */
  "refused",
  /** It is done, but the answer is lost. */
  "unheard",
  /** It and those that follow are refused, until `back`. */
  "away",
  /** The process dies before it. */
  "dead before",
  /** The process dies when it is done, before it hears so. */
  "dead after",
] as const;
export type Fault = (typeof FAULTS)[number];

const OPERATIONS: ReadonlySet<unknown> = new Set(["transact", "get", "getMany", "scan"]);

export interface FailingStore {
  readonly store: Store;
  /** Operations that were begun. */
  count(): number;
  /** The fault has come about. */
  failed(): boolean;
  /** Ends an absence. */
  back(): void;
}

/**
 * @param at which of its operations fails; none when absent
 * @param died is told when the process is dead: nothing of it may happen any more
 */
export function failingStore(
  inner: Store,
  fault: Fault,
  at = Number.POSITIVE_INFINITY,
  died: () => void = () => {},
): FailingStore {
  let count = 0;
  let failed = false;
  let away = false;
  let dead = false;
  const never = new Promise<never>(() => {});
  const refusal = () => new SwarmError("unavailable", "The store does not answer.");
  const die = (): Promise<never> => {
    dead = true;
    died();
    return never;
  };
  const store = new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (!OPERATIONS.has(name)) return value.bind(target);
      return async (...args: unknown[]): Promise<unknown> => {
        if (dead) return await never;
        if (away) throw refusal();
        const run = () => Reflect.apply(value, target, args) as Promise<unknown>;
        count += 1;
        if (count !== at) {
          const answer = await run();
          return dead ? await never : answer;
        }
        failed = true;
        if (fault === "dead before") return await die();
        if (fault === "away") away = true;
        if (fault === "refused" || fault === "away") throw refusal();
        await run();
        if (fault === "dead after") return await die();
        throw refusal();
      };
    },
  });
  return {
    store,
    count: () => count,
    failed: () => failed,
    back: () => {
      away = false;
    },
  };
}
