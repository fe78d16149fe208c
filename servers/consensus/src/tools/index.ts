import type { Tool } from "@mcp-swarm/server";
import type { ConsensusServer } from "../open.ts";
import { cancelVote } from "./cancel-vote.ts";
import { castVote } from "./cast-vote.ts";
import { delegateVote } from "./delegate-vote.ts";
import { getResult } from "./get-result.ts";
import { getVote } from "./get-vote.ts";
import { initiateVote } from "./initiate-vote.ts";
import { listActiveVotes } from "./list-active-votes.ts";
import { listBallots } from "./list-ballots.ts";
import { recuse } from "./recuse.ts";
import { revealVote } from "./reveal-vote.ts";
import { sealBallot } from "./seal-ballot.ts";
import { verifyResult } from "./verify-result.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<ConsensusServer>[] = [
  initiateVote,
  listActiveVotes,
  getVote,
  castVote,
  sealBallot,
  revealVote,
  delegateVote,
  recuse,
  getResult,
  listBallots,
  verifyResult,
  cancelVote,
];
