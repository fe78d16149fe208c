/** Who is let in over HTTP by what he brings, whatever this process has done meanwhile. */
import { type IssuedToken, issueToken } from "@mcp-swarm/identity/trust";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { GuardedSwarm } from "../../identity/test/support/guarded-swarm.ts";
import { HttpAuth } from "../src/http-auth.ts";

const RESOURCE = "http://127.0.0.1:3335/mcp";

test("a process that was stopped looks who is revoked before it takes a token, whatever its timers do", async () => {
  verifies("SEC-08");
  const swarm = new GuardedSwarm();
  await swarm.publish({ members: swarm.member("ann", []) });
  let stoppedMs = 0;
  const now = swarm.clock.now.bind(swarm.clock);
  swarm.clock.now = () => now() + stoppedMs;
  const { trust, guard, audit } = await swarm.process(undefined);
  const auth = new HttpAuth({ security: { trust, guard, audit, checkpointCopies: "" }, store: swarm.store, clock: swarm.clock });
  const tokenOf = () =>
    issueToken(swarm.keysOf("ann"), swarm.bundle, { agentId: "ann", audience: RESOURCE }, { now: swarm.clock.now() });
  const admitted = ({ token }: IssuedToken) =>
    auth.authenticate({ authorization: `Bearer ${token}`, agent: undefined }, [RESOURCE]);

  const token = await tokenOf();
  const { stillGood, caller } = await admitted(token);
  expect(caller).toEqual({ agentId: "ann", verified: true, processId: undefined });
  swarm.bundle = { ...swarm.bundle, epoch: 2 };
  await swarm.publish({});
  stoppedMs = 30_000; // and none of its timers has fired yet
  await expect(admitted(token)).rejects.toMatchObject({ code: "unauthenticated" });
  expect(await stillGood()).toBe(false);
  expect((await admitted(await tokenOf())).caller.agentId).toBe("ann");
});
