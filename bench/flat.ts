/** Whether operations take as long on much as on little: the same turns on stores of several sizes, by turns, in one run. */
import type { Row } from "./row.ts";
import { median } from "./stats.ts";

export const FLAT = 1.3;

/** The median time of each operation in one round, in ms. */
export type Times = Readonly<Record<string, number>>;

/** One size: so many rounds of turns leave it as large as it was. */
export interface Sized {
  size: number;
  turns(count: number): Promise<Times>;
  close(): Promise<void>;
}

export interface Flatness {
  rounds: number;
  turns: number;
  /** What the sizes count: `keys`. */
  of: string;
}

/** The least size is what the others are compared with; each round of a size stands beside the round of the least. */
export async function flatness(sized: readonly Sized[], { rounds, turns, of }: Flatness): Promise<Row[]> {
  const times = sized.map((): Times[] => []);
  for (const one of sized) await one.turns(turns); // unheard: no code is cold
  for (let round = 0; round < rounds; round++) {
    for (const [at, one] of sized.entries()) times[at]?.push(await one.turns(turns));
  }
  const [least = []] = times;
  const operations = Object.keys(least[0] ?? {});
  return sized.slice(1).flatMap(({ size }, before) => {
    const mine = times[before + 1] ?? [];
    return operations.map((operation) => {
      const ratios = mine.map((round, at) => (round[operation] ?? Number.NaN) / (least[at]?.[operation] ?? Number.NaN));
      const shown = (all: readonly Times[]) =>
        `${(median(all.map((round) => round[operation] ?? Number.NaN)) * 1_000).toFixed(0)} µs`;
      return {
        what: `${operation} with ${size.toLocaleString("en-US")} ${of}, over ${sized[0]?.size.toLocaleString("en-US")}`,
        subject: shown(mine),
        control: shown(least),
        ratio: median(ratios),
        goal: { atMost: FLAT },
      };
    });
  });
}

/** Collects what each operation of a round took. */
export class Stopwatch {
  readonly #spent = new Map<string, number[]>();

  async time<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    const result = await work();
    const all = this.#spent.get(operation) ?? [];
    all.push(performance.now() - start);
    this.#spent.set(operation, all);
    return result;
  }

  medians(): Times {
    return Object.fromEntries([...this.#spent].map(([operation, all]) => [operation, median(all)]));
  }
}
