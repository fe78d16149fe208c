/** The domain of this server at work in one process: what its tools are given. */
import { expiredRowsJob, Maintenance } from "@mcp-swarm/coordination";
import { Postbox } from "@mcp-swarm/coordination/messages";
import type { Domain, Host } from "@mcp-swarm/server";
import { Casting } from "./casting.ts";
import { Closing } from "./closing.ts";
import { dueVotesJob } from "./due-votes.ts";
import { Notices } from "./notices.ts";
import { Results } from "./results.ts";
import { freshNonce } from "./sealing.ts";
import { Signing } from "./signing.ts";
import { VoteBook } from "./vote-book.ts";
import { Votes } from "./votes.ts";

export interface ConsensusServer extends Domain {
  readonly votes: Votes;
  readonly casting: Casting;
  readonly results: Results;
}

export async function openConsensusServer({
  store,
  config,
  clock,
  random,
  log,
  signatures,
  security,
}: Host): Promise<ConsensusServer> {
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  const { retentionDays, messageRate } = config;
  const notices = new Notices({
    postbox: new Postbox({ random, retentionDays, messageRate }),
    onError: (error) =>
      log.warn({ err: error }, "Some participants are told of a vote later, by whichever agent-comm server comes first"),
  });
  const book = new VoteBook();
  const signing = new Signing(signatures, () => security?.trust.self?.agentId);
  const closing = new Closing({ clock, signing, notices });
  const casting = new Casting({
    ...{ book, closing, signing },
    nonces: freshNonce,
    onError: (error) => log.warn({ err: error }, "A ballot is in, but whether it ends the vote is for the next to find out"),
  });
  maintenance.add(dueVotesJob(store, book, closing));
  maintenance.add(expiredRowsJob(store));
  maintenance.start();
  return {
    casting,
    votes: new Votes({ book, closing, signing, notices, random, retentionDays }),
    results: new Results({ book, closing, signing }),
    close: () => maintenance.stop(),
  };
}
