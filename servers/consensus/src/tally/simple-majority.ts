import { yesNoRule } from "./yes-no.ts";

/** More yes than no; abstentions count for the quorum alone. */
export const simpleMajority = yesNoRule({
  name: "simple",
  takes: { tieBreak: true },
  says: () => "Simple majority: a side needs more than the other.",
  needed: (_, { other }) => other + 1,
});
