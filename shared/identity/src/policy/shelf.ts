/** Policies arranged so that those about one resource are found without asking each. */
import type { Check } from "./condition.ts";
import type { Pattern } from "./pattern.ts";
import type { RateLimit } from "./policy.ts";

/** A policy taken apart. */
export interface Compiled {
  readonly id: string;
  readonly effect: "permit" | "forbid";
  readonly operations: readonly Pattern[];
  /** Undefined: everybody. */
  readonly who: { readonly agents: readonly Pattern[]; readonly roles: readonly string[] } | undefined;
  /** Undefined: any. */
  readonly resources: readonly Pattern[] | undefined;
  readonly checks: readonly Check[];
  readonly rate: RateLimit | undefined;
}

/** Up to so many policies are asked one by one. */
const ASKED_ONE_BY_ONE_MAX = 8;

/**
 * A policy can only be about a resource that begins as all its patterns do. So policies lie under that beginning, and a resource is
 * looked up once for each length that beginnings have.
 */
export class Shelf {
  readonly all: readonly Compiled[];
  /** Of a resource that stands for many, forbids lie under longer beginnings too: they are asked one by one. */
  readonly #forbids: readonly Compiled[];
  /** Length → beginning → policies. Undefined while there are few. */
  readonly #byBeginning: readonly (readonly [number, ReadonlyMap<string, readonly Compiled[]>])[] | undefined;

  constructor(policies: readonly Compiled[]) {
    this.all = policies;
    this.#forbids = policies.filter(({ effect }) => effect === "forbid");
    this.#byBeginning = policies.length > ASKED_ONE_BY_ONE_MAX ? arranged(policies) : undefined;
  }

  /** The policies about a resource, each once. */
  about(resource: string): Compiled[] {
    const found: Compiled[] = [];
    const many = standsForMany(resource);
    const take = (policies: readonly Compiled[]) => {
      for (const policy of policies) {
        if (!(many && policy.effect === "forbid") && isAbout(policy, resource)) found.push(policy);
      }
    };
    if (this.#byBeginning === undefined) take(this.all);
    else {
      for (const [length, policies] of this.#byBeginning) {
        if (length > resource.length) break;
        const under = policies.get(resource.slice(0, length));
        if (under !== undefined) take(under);
      }
    }
    if (many) for (const policy of this.#forbids) if (isAbout(policy, resource)) found.push(policy);
    return found;
  }
}

const standsForMany = (resource: string): boolean => resource.endsWith("*");

/**
 * Whether a policy is about a resource. One that ends in a star stands for whatever begins so. A permit must cover all of it, which it
 * does when it matches the star as a text, since only a wildcard at its end can. A forbid counts as soon as it reaches any of it.
 */
export function isAbout({ effect, resources }: Compiled, resource: string): boolean {
  if (resources === undefined) return true;
  const reached = effect === "forbid" && standsForMany(resource) ? resource.slice(0, -1) : undefined;
  for (const pattern of resources) {
    if (reached === undefined ? pattern.matches(resource) : pattern.reachesInto(reached)) return true;
  }
  return false;
}

function arranged(policies: readonly Compiled[]): [number, Map<string, Compiled[]>][] {
  const lengths = new Map<number, Map<string, Compiled[]>>();
  for (const policy of policies) {
    const beginning = policy.resources === undefined ? "" : sharedBeginning(policy.resources);
    const sameLength = lengths.get(beginning.length) ?? new Map<string, Compiled[]>();
    lengths.set(beginning.length, sameLength);
    const under = sameLength.get(beginning) ?? [];
    sameLength.set(beginning, under);
    under.push(policy);
  }
  return [...lengths].sort(([a], [b]) => a - b);
}

function sharedBeginning(patterns: readonly Pattern[]): string {
  let shared = patterns[0]?.head ?? "";
  for (const { head } of patterns) while (!head.startsWith(shared)) shared = shared.slice(0, -1);
  return shared;
}
