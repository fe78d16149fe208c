import { manualClock } from "@mcp-swarm/core";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import {
  bitFlips,
  characterSwaps,
  control,
  decodedBitFlips,
  FORGERIES,
  handmade,
  JWS_FORGERIES,
  type JwsGround,
  signJwsOf,
} from "../../../test/support/forgeries.ts";
import { type Bundle, signBundle, verifyBundle } from "../src/trust/bundle.ts";
import { generateKeyPair, publicKeysOf } from "../src/trust/keys.ts";
import { verifyToken } from "../src/trust/token.ts";
import { Trust } from "../src/trust/trust.ts";
import { agentKeys, forgeryGround } from "./keyring.ts";

const NOW = 1_790_000_000_500;
const { ground, keyring } = forgeryGround(NOW);
const { audience, now } = ground;
const check = (text: string) => verifyToken(text, keyring, { audiences: [audience], now });

describe("A forged token", () => {
  verifies("SEC-07");

  test("there are more than forty kinds, each with a text of its own", async () => {
    const texts = await Promise.all(FORGERIES.map(({ make }) => make(ground)));
    expect(new Set(texts).size).toBe(FORGERIES.length);
    expect(FORGERIES.length).toBeGreaterThanOrEqual(40);
  });

  test.each(handmade.map((make, i) => [i, make] as const))(
    "is refused for what is changed in it: unchanged, %i passes",
    async (_, make) => {
      await expect(check(make(ground))).resolves.toMatchObject({ jti: "token-forged" });
    },
  );

  test.each(FORGERIES.map((forgery) => [forgery.name, forgery] as const))(
    "%s: is refused, while a good one passes",
    async (_, forgery) => {
      await expect(check(await control(ground))).resolves.toMatchObject({ agentId: ground.agent.agentId });
      await expect(check(await forgery.make(ground))).rejects.toMatchObject({ name: "SwarmError", code: "unauthenticated" });
    },
  );

  test.each([
    ["bit of its text", bitFlips],
    ["bit of its bytes", decodedBitFlips],
  ] as const)("is what comes of every flipped %s", async (_, flips) => {
    const token = await control(ground);
    let tried = 0;
    for (const { at, text } of flips(token)) {
      tried += 1;
      await expect(check(text), at).rejects.toMatchObject({ name: "SwarmError", code: "unauthenticated" });
    }
    expect(tried).toBeGreaterThan(2_000);
    await expect(check(token)).resolves.toMatchObject({ agentId: ground.agent.agentId });
  });

  test("is what comes of every other character in every place", async () => {
    const token = await control(ground);
    let passed: string | undefined;
    for (const { at, text } of characterSwaps(token)) {
      const accepted = await check(text).then(
        () => true,
        (error: { code?: string }) => error.code !== "unauthenticated",
      );
      if (accepted) passed ??= at;
    }
    expect(passed).toBeUndefined();
  });
});

describe("A forged bundle", () => {
  verifies("SEC-07", "SEC-05");
  const root = generateKeyPair("Ed25519");
  const agent = agentKeys("build-7");
  const member = (roles: readonly string[]) => ({ roles, generation: 1, keys: publicKeysOf(agent) });
  const bundle = (version: number, roles: readonly string[]): Bundle => ({
    version,
    issuedAt: NOW,
    epoch: 0,
    members: { "build-7": member(roles) },
    policies: [],
    revokedTokens: {},
  });
  /** The next version, in which the agent has a role that nobody gave it. */
  const ground: JwsGround = {
    type: "mcp-swarm-bundle+jws",
    otherType: "at+jwt",
    key: root,
    otherKey: agent.sign,
    payload: { ...bundle(2, ["admin"]) },
  };

  test("is refused for what is changed in it: unchanged it is taken", async () => {
    await expect(verifyBundle(signJwsOf(ground), root.publicKey)).resolves.toMatchObject({ version: 2 });
  });

  test.each(JWS_FORGERIES.map((forgery) => [forgery.name, forgery] as const))(
    "%s: is refused, and neither a process that runs nor a fresh one goes by it",
    async (_, forgery) => {
      const jws = forgery.make(ground);
      await expect(verifyBundle(jws, root.publicKey)).rejects.toMatchObject({ name: "SwarmError", code: "unauthenticated" });
      const clock = manualClock(NOW);
      const store = new MemoryStore({ clock });
      const open = () => Trust.open({ store, clock, rootKey: root.publicKey, onError() {} });
      const good = await signBundle(bundle(1, ["worker"]), root);
      await store.transact((tx) => tx.put("trust/bundle", { jws: good }));
      const running = await open();
      await store.transact((tx) => tx.put("trust/bundle", { jws }));
      await running.refresh();
      expect(running.principal("build-7")?.roles).toEqual(["worker"]);
      const fresh = await open();
      expect(() => fresh.check()).toThrow(expect.objectContaining({ code: "unavailable" }));
      await Promise.all([running.close(), fresh.close()]);
      await store.close();
    },
  );
});
