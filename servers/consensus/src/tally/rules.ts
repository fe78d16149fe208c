/** Which rule settings ask for. */
import { absoluteMajority } from "./absolute-majority.ts";
import { approval } from "./approval.ts";
import { borda } from "./borda.ts";
import { byzantine } from "./byzantine.ts";
import { condorcet } from "./condorcet.ts";
import { instantRunoff } from "./instant-runoff.ts";
import { linearPool } from "./linear-pool.ts";
import { logarithmicPool } from "./logarithmic-pool.ts";
import { minimax } from "./minimax.ts";
import { plurality } from "./plurality.ts";
import { rankedPairs } from "./ranked-pairs.ts";
import type { Method, Rule, Settings } from "./rule.ts";
import { schulze } from "./schulze.ts";
import { score } from "./score.ts";
import { simpleMajority } from "./simple-majority.ts";
import { star } from "./star.ts";
import { supermajority, unanimity } from "./supermajority.ts";

const RULES: Readonly<Record<Method, Rule>> = {
  simple: simpleMajority,
  absolute: absoluteMajority,
  supermajority,
  unanimity,
  plurality,
  approval,
  score,
  star,
  borda,
  instant_runoff: instantRunoff,
  condorcet,
  schulze,
  ranked_pairs: rankedPairs,
  minimax,
  linear_pool: linearPool,
  logarithmic_pool: logarithmicPool,
};

/** Without a method: "simple" over yes and no, "plurality" over options. Byzantine votes have one rule. */
export function ruleOf({ algorithm, method, options }: Pick<Settings, "algorithm" | "method" | "options">): Rule {
  if (algorithm === "byzantine") return byzantine;
  return RULES[method ?? (options === undefined ? "simple" : "plurality")];
}
