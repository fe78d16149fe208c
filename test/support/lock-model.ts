/** One lock as it behaves when one call at a time is made and nobody waits: for histories of many, some of whom are killed. */
import type { SequentialModel } from "./linearizability.ts";

export type LockMode = "exclusive" | "shared";

/** `process` is one life of an agent: a process that was killed and started again is another. */
export type LockInput =
  | { call: "acquire"; agent: string; process: string; mode: LockMode }
  | { call: "release"; agent: string; token: number }
  /** A write that carries the token. */
  | { call: "write"; agent: string; token: number }
  /** No call: at some time after its death the leases of a process run out. */
  | { call: "die"; process: string };
export type LockOutput = { ok: true; token: number } | { ok: false; code: string };

interface Holder {
  readonly agent: string;
  readonly process: string;
  readonly mode: LockMode;
  readonly token: number;
  /** Its lease ran out. It shuts nobody out and fences no write; who takes the lock clears it away, and until then it can be released. */
  readonly over: boolean;
}
interface State {
  readonly token: number;
  readonly holders: readonly Holder[];
}

export const lockModel: SequentialModel<State, LockInput, LockOutput> = {
  initial: { token: 0, holders: [] },
  key: ({ token, holders }) => `${token} ${holders.map((one) => `${one.process} ${one.mode} ${one.token} ${one.over}`).sort()}`,
  step(state, { input, output }) {
    const { token, holders } = state;
    const refused = (code: string) => (output === undefined || (!output.ok && output.code === code) ? [state] : []);
    const told = (next: State, given = next.token) =>
      output === undefined || (output.ok && output.token === given) ? [next] : [];
    switch (input.call) {
      case "acquire": {
        const { agent, process, mode } = input;
        const living = holders.filter(({ over }) => !over);
        const own = living.find((one) => one.process === process);
        if (own && (own.mode === mode || own.mode === "exclusive")) return told(state, own.token);
        const others = living.filter((one) => one !== own);
        if (own && others.length > 0) return refused("failed_precondition");
        const free = mode === "exclusive" ? others.length === 0 : others.every((one) => one.mode === "shared");
        if (!free) return refused("conflict");
        return told({ token: token + 1, holders: [...others, { agent, process, mode, token: token + 1, over: false }] });
      }
      case "release": {
        const own = holders.find((one) => one.token === input.token && one.agent === input.agent);
        if (!own) return refused("failed_precondition");
        return told({ token, holders: holders.filter((one) => one !== own) }, own.token);
      }
      case "write": {
        const own = holders.find((one) => one.token === input.token && one.agent === input.agent && !one.over);
        return own ? told(state, own.token) : refused("failed_precondition");
      }
      case "die": {
        const dying = holders.filter((one) => one.process === input.process && !one.over);
        const left = holders.map((one) => (dying.includes(one) ? { ...one, over: true } : one));
        return dying.length > 0 ? [{ token, holders: left }] : [];
      }
    }
  },
};
