import { randomFillSync } from "node:crypto";

/** Where chance comes from; a seeded one makes a simulation replayable. */
export interface Random {
  /** A whole number, 0 <= n < below. `below` is at most 2^32. */
  integer(below: number): number;
}

/** Numbers asked of the operating system at once: an id takes twelve, and each asking costs more than a number. */
const pool = new Uint32Array(256);
let used = pool.length;

/** Unpredictable, from the operating system. */
export const systemRandom: Random = {
  integer(below) {
    if (used === pool.length) {
      randomFillSync(pool);
      used = 0;
    }
    const number = pool[used] ?? 0;
    pool[used] = 0; // what was given out stays nowhere
    used += 1;
    return Math.floor((number / 2 ** 32) * below);
  },
};

/** A small fast generator for tests and simulations (mulberry32): the same seed gives the same numbers. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return {
    integer(below) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
    },
  };
}

/** No vowels and nothing that reads like another letter: ids are spoken by models and typed by people. */
const ALPHABET = "0123456789bcdfghjkmnpqrstvwxyz";
const ID_LENGTH = 12;

/** A fresh id such as `task-4h2k9xq0m3bd`: 58 bits of chance, lower-case, safe in keys, file names and URLs. */
export function newId(kind: string, random: Random = systemRandom): string {
  let id = "";
  for (let i = 0; i < ID_LENGTH; i++) id += ALPHABET[random.integer(ALPHABET.length)];
  return `${kind}-${id}`;
}
