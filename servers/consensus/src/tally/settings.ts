/** Reading of what was declared: fractions, who breaks a tie, which options; and what each method takes of it. */
import { SwarmError } from "@mcp-swarm/core";
import { type Base, type Electorate, FRACTION_MAX, OPTION_MAX, type Settings, VOTERS_MAX, WEIGHT_MAX } from "./rule.ts";

export const YES_NO: readonly string[] = ["yes", "no"];
/** Says that its voter was there and leaves the choice to others; so it is no option's name. */
export const ABSTAIN = "abstain";

export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
}

export type TieBreak = { readonly kind: "co_winners" | "status_quo" } | { readonly kind: "chair"; readonly voter: string };

/** The settings that only some methods take. */
export interface Takes {
  readonly options?: { readonly max: number };
  readonly threshold?: boolean;
  readonly base?: boolean;
  readonly quorum?: boolean;
  readonly tieBreak?: boolean;
  readonly vetoHolders?: boolean;
}

export function refuse(field: string, what: string, hint: string): never {
  throw new SwarmError("invalid_argument", `Field "${field}" ${what}.`, { hint });
}

export function fraction(field: string, text: string): Fraction {
  const [, numerator, denominator] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? [];
  const read = { numerator: Number(numerator), denominator: Number(denominator) };
  if (read.numerator >= 1 && read.numerator <= read.denominator && read.denominator <= FRACTION_MAX) return read;
  return refuse(field, "is no fraction above 0 and up to 1", `Write it as "2/3", with numbers up to ${FRACTION_MAX}.`);
}

/** The least whole number that is at least this share of `whole`. */
export function shareOf({ numerator, denominator }: Fraction, whole: number): number {
  return Math.ceil((numerator * whole) / denominator);
}

/** What must vote, in weight. */
export function quorumOf({ quorum = 0 }: Settings, eligible: number): number {
  return typeof quorum === "number" ? quorum : shareOf(fraction("quorum", quorum), eligible);
}

export function baseOf({ base = "cast" }: Settings): Base {
  return base;
}

export function optionsOf({ options = YES_NO }: Settings): readonly string[] {
  return options;
}

const CHAIR = "chair:";

export function tieBreakOf({ tieBreak = "co_winners" }: Settings): TieBreak {
  if (tieBreak === "co_winners" || tieBreak === "status_quo") return { kind: tieBreak };
  if (tieBreak.startsWith(CHAIR)) return { kind: "chair", voter: tieBreak.slice(CHAIR.length) };
  return refuse("tieBreak", "is none of the ways to break a tie", 'Use "co_winners", "status_quo" or "chair:<voter>".');
}

/** Throws `invalid_argument` naming the first field that the method `name` does not take, or that does not fit the electorate. */
export function checkSettings(name: string, takes: Takes, settings: Settings, electorate: Electorate): void {
  for (const field of ["threshold", "base", "quorum", "tieBreak", "vetoHolders"] as const) {
    if (settings[field] !== undefined && !takes[field]) {
      refuse(field, `does not go with method ${name}`, "Leave it out, or choose another method.");
    }
  }
  checkElectorate(settings, electorate);
  checkOptions(name, takes, settings);
  if (settings.threshold !== undefined) fraction("threshold", settings.threshold);
  checkQuorum(settings, electorate);
  const tieBreak = tieBreakOf(settings);
  if (tieBreak.kind === "chair" && !electorate.eligible.has(tieBreak.voter)) {
    refuse("tieBreak", "names a chair who may not vote", "Name one of the participants.");
  }
  const holders = settings.vetoHolders ?? [];
  if (holders.some((holder) => !electorate.eligible.has(holder)) || new Set(holders).size < holders.length) {
    refuse("vetoHolders", "names someone twice, or someone who may not vote", "Name participants, each once.");
  }
}

function checkElectorate({ algorithm }: Settings, { eligible }: Electorate): void {
  if (eligible.size < 1 || eligible.size > VOTERS_MAX) {
    refuse("participants", `must name 1 to ${VOTERS_MAX} voters`, "Name who may vote.");
  }
  for (const weight of eligible.values()) {
    if (!Number.isInteger(weight) || weight < 1 || weight > WEIGHT_MAX) {
      refuse("weights", `must hold whole numbers from 1 to ${WEIGHT_MAX}`, "Scale the weights up to whole numbers.");
    }
    if (weight !== 1 && algorithm !== "weighted") {
      refuse("weights", `does not go with algorithm ${algorithm}`, 'Use algorithm "weighted", or leave the weights out.');
    }
  }
}

function checkOptions(name: string, { options: taken }: Takes, { options }: Settings): void {
  if (options === undefined) return;
  if (!taken) refuse("options", `does not go with method ${name}: it is over yes and no`, "Leave options out, or use plurality.");
  if (options.length < 2 || options.length > taken.max) {
    refuse("options", `must name 2 to ${taken.max} options with method ${name}`, "Name fewer options, or vote in two rounds.");
  }
  if (new Set(options).size < options.length) refuse("options", "names one option twice", "Name each option once.");
  for (const option of options) {
    if (option.trim() === "" || option.length > OPTION_MAX) {
      refuse("options", `holds a name that is empty or longer than ${OPTION_MAX} characters`, "Give each option a short name.");
    }
    if (option === ABSTAIN || option === "__proto__") {
      refuse("options", "holds a name that means something else here", "Call the option otherwise; whoever abstains needs none.");
    }
  }
}

function checkQuorum(settings: Settings, { eligible }: Electorate): void {
  const { quorum } = settings;
  if (quorum === undefined) return;
  const all = total(eligible.values());
  if (typeof quorum === "string") fraction("quorum", quorum);
  else if (!Number.isInteger(quorum) || quorum < 1 || quorum > all) {
    refuse("quorum", `must be a whole number from 1 to ${all}, which is all that may vote`, 'Or give a fraction, as "1/2".');
  }
}

export function total(numbers: Iterable<number>): number {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}
