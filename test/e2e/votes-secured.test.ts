/** Votes in a secured swarm: ballots that their voters signed, and what becomes of voters that sign two. */
import { systemClock } from "@mcp-swarm/core";
import { issueToken, readKeyFile, Trust } from "@mcp-swarm/identity/trust";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { eventually, Host } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

const server = "consensus";
const VOTERS = ["ann", "bob", "cid", "dan"];

type Vote = { vote: { id: string; hash: string } };

/** What the agent signs with the key in its key file, past every server. */
async function signedBy(swarm: SecuredSwarm, agentId: string, payload: Record<string, string>): Promise<string> {
  const { store, rootKey } = swarm;
  const onError = (error: unknown) => {
    throw error;
  };
  const self = await readKeyFile(swarm.keyFile(agentId));
  const trust = await Trust.open({ store, clock: systemClock, rootKey, self, onError });
  try {
    return (await trust.sign(agentId, "ballot", { voter: agentId, ...payload })) ?? expect.fail("It has the key.");
  } finally {
    await trust.close();
  }
}

describe.each(ENGINES)("votes of a secured swarm on $name", ({ meet }) => {
  test("are decided by signed ballots; two different ones of one voter are proof against it", async () => {
    verifies("VOTE-06", "VOTE-13", "CORE-15");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of VOTERS) await swarm.enroll(agent);
    await using ann = await swarm.host("ann", { server });
    await using bob = await swarm.host("bob", { server, era: "v1" });
    await using dan = await swarm.host("dan", { server });
    const { vote } = await ann.call<Vote>("initiate_vote", { proposal: "p", participants: VOTERS, algorithm: "byzantine" });
    const { id: voteId, hash: proposalHash } = vote;
    expect(await dan.call("cast_vote", { voteId, vote: "yes", rationale: "Fine" })).toMatchObject({
      ballot: { recorded: "cast", signed: true },
      caller: { agentId: "dan", verified: true },
    });
    expect((await dan.try("cast_vote", { voteId, vote: "no" })).text).toMatch(/^already_exists: /);
    // one that is signed for another proposal, or by another
    const cast = (signature: string) => dan.try("cast_vote", { voteId, vote: "no", signature });
    const elsewhere = await signedBy(swarm, "dan", { voteId, proposalHash: "0".repeat(64), vote: "no" });
    expect((await cast(elsewhere)).text).toMatch(/^unauthenticated: /);
    expect((await cast(await signedBy(swarm, "cid", { voteId, proposalHash, vote: "no" }))).text).toMatch(/^unauthenticated: /);
    const second = await signedBy(swarm, "dan", { voteId, proposalHash, vote: "no" });
    expect(await dan.call("cast_vote", { voteId, vote: "no", signature: second })).toMatchObject({
      ballot: { recorded: "equivocation" },
    });
    await ann.call("cast_vote", { voteId, vote: "yes" });
    await bob.call("cast_vote", { voteId, vote: "yes" });
    expect(await ann.call("get_result", { voteId })).toMatchObject({ status: "open", result: null });
    await using cid = await swarm.host("cid", { server });
    await cid.call("cast_vote", { voteId, vote: "yes" });
    expect(await bob.call("get_result", { voteId, waitMs: 20_000 })).toMatchObject({
      status: "closed",
      result: {
        outcome: "accepted",
        equivocated: { count: 1, names: ["dan"] },
        claim: expect.stringMatching(/^Byzantine voters, a trusted tally/),
        countedBy: "cid",
      },
    });
    expect(await bob.call("verify_result", { voteId })).toMatchObject({
      verified: true,
      checks: expect.arrayContaining([{ what: "signature", ok: true }]),
    });
    expect(await bob.call("list_ballots", { voteId })).toMatchObject({
      ballots: expect.arrayContaining([expect.objectContaining({ voter: "dan", equivocation: [expect.any(String), second] })]),
    });
  });

  test("count ballots of voters whose keys are elsewhere, and of those who were revoked since; a changed ballot is found out", async () => {
    verifies("VOTE-13", "VOTE-06");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of VOTERS) await swarm.enroll(agent);
    await swarm.enroll("gate", { roles: ["worker"], issuer: true });
    await using serving = await startServerHttp(server, { SWARM_STORE: meeting.store, SWARM_KEY_FILE: swarm.keyFile("gate") });
    const { bundle } = await swarm.admin.read();
    const asked = { agentId: "dan", audience: `${serving.url}/mcp` };
    const { token } = await issueToken(await readKeyFile(swarm.keyFile("dan")), bundle, asked, { now: Date.now() });
    await using dan = await Host.http(`${serving.url}/mcp`, { token });
    await using ann = await swarm.host("ann", { server });
    await using bob = await swarm.host("bob", { server });
    const begin = async (algorithm: string) =>
      (await ann.call<Vote>("initiate_vote", { proposal: "p", participants: ["ann", "bob", "cid", "dan"], algorithm })).vote;
    const byzantine = await begin("byzantine");
    const of = { voteId: byzantine.id, vote: "yes" };
    expect((await dan.try("cast_vote", of)).text).toMatch(/^failed_precondition: Ballots of a byzantine vote are signed/);
    const signature = await signedBy(swarm, "dan", { ...of, proposalHash: byzantine.hash });
    expect(await dan.call("cast_vote", { ...of, signature })).toMatchObject({ ballot: { signed: true } });
    const plain = await begin("majority");
    expect(await dan.call("cast_vote", { voteId: plain.id, vote: "yes" })).toMatchObject({ ballot: { signed: false } });
    for (const { id: voteId } of [byzantine, plain]) {
      await ann.call("cast_vote", { voteId, vote: "yes" });
      await bob.call("cast_vote", { voteId, vote: "yes" });
      expect(await ann.call("get_result", { voteId, waitMs: 20_000 })).toMatchObject({ result: { outcome: "accepted" } });
    }
    await swarm.admin.revoke("bob");
    await eventually("bob is refused", async () => (await bob.try("get_vote", { voteId: plain.id })).isError);
    for (const { id: voteId } of [byzantine, plain]) {
      expect(await ann.call("verify_result", { voteId })).toMatchObject({ verified: true });
    }
    const key = `ballot/${byzantine.id}/bob`;
    await swarm.store.transact((tx) => {
      const row = tx.get(key)?.value as { ballot: { choice: { vote: string } } };
      tx.put(key, { ...row, ballot: { ...row.ballot, choice: { vote: "no" } } });
    });
    expect(await ann.call("verify_result", { voteId: byzantine.id })).toMatchObject({
      verified: false,
      checks: expect.arrayContaining([{ what: "ballots", ok: false }]),
      difference: expect.any(String),
    });
  });
});
