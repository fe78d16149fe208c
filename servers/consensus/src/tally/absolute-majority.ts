import { yesNoRule } from "./yes-no.ts";

/** More than half of all who may vote, whether they do or not. */
export const absoluteMajority = yesNoRule({
  name: "absolute",
  takes: {},
  says: () => "Absolute majority: a side needs more than half of all who may vote.",
  needed: (_, { eligible }) => Math.floor(eligible / 2) + 1,
});
