import type { Base, Settings } from "./rule.ts";
import { baseOf, fraction, refuse, shareOf } from "./settings.ts";
import { type Sides, yesNoRule } from "./yes-no.ts";

export const THRESHOLD_DEFAULT = "2/3";

const OF: Readonly<Record<Base, string>> = {
  cast: "yes and no",
  present: "yes, no and abstentions",
  eligible: "all who may vote",
};

function threshold({ threshold: declared = THRESHOLD_DEFAULT }: Settings) {
  return fraction("threshold", declared);
}

/** At least the threshold's share of the base. */
export const supermajority = yesNoRule({
  name: "supermajority",
  takes: { threshold: true, base: true },
  says: (settings) => {
    const { numerator, denominator } = threshold(settings);
    return `Supermajority: a side needs ${numerator}/${denominator} of ${OF[baseOf(settings)]}.`;
  },
  needed: (settings, sides) => shareOf(threshold(settings), wholeOf(settings, sides)),
  check(settings) {
    const { numerator, denominator } = threshold(settings);
    if (2 * numerator <= denominator) {
      refuse("threshold", "must be more than 1/2 for a supermajority", 'Use method "simple" or "absolute" for a majority.');
    }
  },
});

/** One voice against it is enough. With the base "cast" abstentions do no harm; "eligible" asks every voter. */
export const unanimity = yesNoRule({
  name: "unanimity",
  takes: { base: true },
  says: (settings) => `Unanimity: a side needs all of ${OF[baseOf(settings)]}.`,
  needed: wholeOf,
});

function wholeOf(settings: Settings, sides: Sides): number {
  return sides[baseOf(settings)];
}
