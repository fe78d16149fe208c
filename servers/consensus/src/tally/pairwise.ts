/** Duels: how many ballots prefer one option to another. An option that is ranked is preferred to one that is not. */
import type { Valued } from "./option-rule.ts";
import type { Step } from "./rule.ts";

/** Row over column, by weight. */
export type Matrix = readonly (readonly number[])[];

export function matrixOf(size: number, cell: (row: number, column: number) => number): number[][] {
  return Array.from({ length: size }, (_, row) => Array.from({ length: size }, (__, column) => cell(row, column)));
}

export function duelsOf(options: number, ballots: readonly Valued[]): Matrix {
  const flat = new Array<number>(options * options).fill(0);
  for (const { weight, worth } of ballots) {
    for (let row = 0; row < options; row++) {
      const own = worth[row] ?? 0;
      for (let column = 0; column < options; column++) {
        if (own > (worth[column] ?? 0)) flat[row * options + column] = (flat[row * options + column] ?? 0) + weight;
      }
    }
  }
  return matrixOf(options, (row, column) => flat[row * options + column] ?? 0);
}

/** Of each duel that is won the winning votes; 0 where it is lost or drawn. */
export function winningVotes(duels: Matrix): Matrix {
  return matrixOf(duels.length, (row, column) => {
    const votes = duels[row]?.[column] ?? 0;
    return votes > (duels[column]?.[row] ?? 0) ? votes : 0;
  });
}

/** The option that wins all its duels, whatever `remaining` weight of ballots still says. */
export function sureWinnerOfDuels(options: number, ballots: readonly Valued[], remaining: number): number | undefined {
  const duels = duelsOf(options, ballots);
  const leads = (row: number, column: number) => (duels[row]?.[column] ?? 0) - (duels[column]?.[row] ?? 0);
  const places = [...duels.keys()];
  return places.find((place) => places.every((other) => other === place || leads(place, other) > remaining));
}

/** `isSure` of the methods that elect whoever wins all duels. */
export function isSureOfAllDuels(options: number, ballots: readonly Valued[], remaining: number): boolean {
  return sureWinnerOfDuels(options, ballots, remaining) !== undefined;
}

/** Duels that each option wins. */
export function winsOf(wins: Matrix): number[] {
  return wins.map((row) => row.filter((votes) => votes > 0).length);
}

/** Layers of a relation without cycles: first those that nothing beats, then those that only these beat, and so on. */
export function layersOf(size: number, beats: (a: number, b: number) => boolean): number[][] {
  const layers: number[][] = [];
  let left = [...Array(size).keys()];
  while (left.length > 0) {
    const layer = left.filter((option) => !left.some((other) => beats(other, option)));
    layers.push(layer);
    left = left.filter((option) => !layer.includes(option));
    if (layer.length === 0) break;
  }
  return layers;
}

export function duelsStep(options: readonly string[], duels: Matrix): Step {
  return { rule: "Duels: how many prefer the option of the row to that of the column.", options, matrix: duels };
}
