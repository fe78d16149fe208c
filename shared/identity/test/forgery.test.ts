import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { bitFlips, characterSwaps, control, decodedBitFlips, FORGERIES, handmade } from "../../../test/support/forgeries.ts";
import { verifyToken } from "../src/trust/token.ts";
import { forgeryGround } from "./keyring.ts";

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
