/** A store whose process dies at one of its commits. */
import type { Store, Transaction, TransactOptions } from "@mcp-swarm/store";

export class Crashed extends Error {
  override readonly name = "Crashed";
}

/** Commits `commits` transactions; the next one fails, before it writes or when all is written but nobody hears of it. */
export function crashing(store: Store, commits: number, when: "before" | "after"): Store {
  let left = commits;
  let dead = false;
  return new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      if (name !== "transact") return member.bind(target);
      return async <T>(plan: (tx: Transaction) => T, options?: TransactOptions): Promise<T> => {
        if (dead) throw new Crashed();
        if (left === 0) {
          dead = true;
          if (when === "before") throw new Crashed();
        }
        left -= 1;
        const outcome = await target.transact(plan, options);
        if (dead) throw new Crashed();
        return outcome;
      };
    },
  });
}
