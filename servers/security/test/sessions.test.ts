import { onceCall } from "@mcp-swarm/identity";
import { TOKEN_LIFETIME_MS_MAX, verifyToken } from "@mcp-swarm/identity/trust";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { SESSIONS_MAX } from "../src/sessions.ts";
import { processOf, swarmOf } from "./support/process.ts";

const audience = "http://127.0.0.1:3335/agent-comm/mcp";

describe("A session token", () => {
  test("is good for its server alone, and for as long as it says", async () => {
    verifies("SEC-02");
    const swarm = await swarmOf({ wes: ["worker"], ada: ["admin"] });
    const wes = await processOf(swarm, "wes");
    const made = await wes.secured.sessions.authenticate(wes.call, { agentId: "wes", audience, scope: "task:*" });
    const { trust } = await swarm.process("ada");
    const now = swarm.clock.now();
    const proven = await verifyToken(made.token, trust, { audiences: [audience], now });
    expect(proven).toMatchObject({ agentId: "wes", jti: made.tokenId, scope: "task:*", expiresAt: made.expiresAt });
    expect(made.expiresAt - now).toBeLessThanOrEqual(TOKEN_LIFETIME_MS_MAX);
    const elsewhere = verifyToken(made.token, trust, { audiences: ["http://127.0.0.1:3335/mcp"], now });
    await expect(elsewhere).rejects.toMatchObject({ code: "unauthenticated" });
  });

  test("goes to the server's own public URL when no other is named", async () => {
    verifies("SEC-02");
    const swarm = await swarmOf({ wes: ["worker"] });
    const wes = await processOf(swarm, "wes", "https://swarm.example/");
    const made = await wes.secured.sessions.authenticate(wes.call, { agentId: "wes" });
    expect(made.audience).toBe("https://swarm.example/mcp");
  });

  test("is one of so many of an agent and its subagents, and makes place when it has ended", async () => {
    verifies("SEC-02", "SEC-12");
    const swarm = await swarmOf({ wes: ["worker"], ada: ["admin"] });
    const [wes, ada] = [await processOf(swarm, "wes"), await processOf(swarm, "ada")];
    const ask = (agentId: string) => wes.secured.sessions.authenticate(wes.call, { agentId, audience });
    for (let n = 0; n < SESSIONS_MAX; n++) await ask(n % 2 === 0 ? "wes" : "wes/child");
    await expect(ask("wes")).rejects.toMatchObject({ code: "limit_exceeded" });
    await expect(ask("wes/another")).rejects.toMatchObject({ code: "limit_exceeded" });
    await ada.secured.sessions.authenticate(ada.call, { agentId: "ada", audience });
    expect(await wes.secured.sessions.live(wes.call)).toHaveLength(10);
    await swarm.clock.advance(TOKEN_LIFETIME_MS_MAX);
    expect(await wes.secured.sessions.live(wes.call)).toEqual([]);
    await ask("wes");
  });

  test("of a call that is repeated is the same one, until it has ended", async () => {
    verifies("SEC-02", "CORE-12");
    const swarm = await swarmOf({ wes: ["worker"] });
    const wes = await processOf(swarm, "wes");
    const once = { key: "one", fingerprint: "same" };
    const ask = () =>
      wes.secured.sessions.authenticate(onceCall({ store: swarm.store, caller: wes.call.caller }, once), {
        agentId: "wes",
        audience,
      });
    const first = await ask();
    expect(await ask()).toEqual(first);
    expect(await wes.secured.sessions.live(wes.call)).toHaveLength(1);
    await swarm.clock.advance(TOKEN_LIFETIME_MS_MAX);
    await expect(ask()).rejects.toMatchObject({ code: "failed_precondition", hint: expect.stringContaining("idempotencyKey") });
  });
});
