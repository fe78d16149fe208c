/** Images, links and bytes: what an answer carries beside its structured part, and resources that are no JSON. */
import { join } from "node:path";
import { IMAGE_BYTES_MAX, IMAGES_MAX, LINKS_MAX, RESOURCE_BYTES_MAX } from "@mcp-swarm/server";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startHttp } from "../support/bin.ts";
import { ERAS, type Era, Host, temporaryFolder } from "../support/host.ts";

const PICTURES = join(import.meta.dirname, "..", "support", "pictures-server.ts");
const PNG_HEAD = "89504e470d0a1a0a";
const SETTINGS = (["stdio", "http"] as const).flatMap((transport) => ERAS.map((era) => ({ transport, era })));

/** A host of the server of pictures. */
async function withHost(transport: "stdio" | "http", era: Era, look: (host: Host) => Promise<void>): Promise<void> {
  using folder = temporaryFolder();
  if (transport === "stdio") {
    await using host = await Host.start({ command: process.execPath, prefix: [PICTURES], era, agent: "a1", store: folder.store });
    return await look(host);
  }
  const serving = await startHttp([PICTURES, "--http", "0"], { SWARM_STORE: folder.store }, { says: /at (http:\S+)/ });
  try {
    await using host = await Host.http(serving.url, { agent: "a1", era });
    await look(host);
  } finally {
    await serving.stop();
  }
}

describe.each(SETTINGS)("over $transport to a host of $era", ({ transport, era }) => {
  test("an answer carries images and links behind the text, in its own bounds, and says what it left out", async () => {
    verifies("EXEC-12");
    await withHost(transport, era, async (host) => {
      const sizes = [10, IMAGE_BYTES_MAX + 1, IMAGE_BYTES_MAX, 20, 30];
      const { structured, text, content } = await host.try("show_pictures", { sizes, mimeType: "image/png" });
      expect(structured).toMatchObject({ shown: [true, false, true, true, false], linked: [true, true, true, true, true] });
      expect(JSON.parse(text)).toEqual(structured);
      expect(content.map(({ type }) => type)).toEqual(["text", "image", "image", "image", ...sizes.map(() => "resource_link")]);
      const images = content.filter(({ type }) => type === "image");
      expect(images.length).toBe(IMAGES_MAX);
      expect(images.map(({ data }) => Buffer.from(data ?? "", "base64").length)).toEqual([10, IMAGE_BYTES_MAX, 20]);
      expect(
        Buffer.from(images[1]?.data ?? "", "base64")
          .subarray(0, 8)
          .toString("hex"),
      ).toBe(PNG_HEAD);
      expect(content.at(-1)).toMatchObject({ uri: "picture://30", name: "30.png", mimeType: "image/png", size: 30 });
      expect(content.at(-1)).not.toHaveProperty("bytes");
    });
  });

  test("what no model can be shown is no image, and links have an end", async () => {
    await withHost(transport, era, async (host) => {
      const sizes = Array.from({ length: LINKS_MAX + 1 }, (_, at) => at + 1);
      const { structured } = await host.try("show_pictures", { sizes, mimeType: "image/svg+xml" });
      expect(structured).toMatchObject({ shown: sizes.map(() => false), linked: sizes.map((size) => size <= LINKS_MAX) });
    });
  });

  test("a resource is bytes or text of any type up to its bound, marked as what nobody vouches for", async () => {
    verifies("EXEC-12", "CORE-15");
    await withHost(transport, era, async (host) => {
      const { resourceTemplates } = await host.client.listResourceTemplates();
      expect(resourceTemplates).toMatchObject([{ uriTemplate: "picture://{size}" }]);
      expect(resourceTemplates[0]).not.toHaveProperty("mimeType");
      expect((await host.client.listResources()).resources).toMatchObject([{ uri: "picture://10", mimeType: "image/png" }]);

      const [small] = (await host.client.readResource({ uri: "picture://10" })).contents;
      expect(small).toMatchObject({ mimeType: "image/png", _meta: { "mcp-swarm/untrusted": true } });
      expect(small).not.toHaveProperty("text");
      expect(Buffer.from(small?.blob ?? "", "base64").toString("hex")).toBe(`${PNG_HEAD}0809`);

      const [large] = (await host.client.readResource({ uri: `picture://${RESOURCE_BYTES_MAX}` })).contents;
      expect(Buffer.from(large?.blob ?? "", "base64").length).toBe(RESOURCE_BYTES_MAX);
      const [text] = (await host.client.readResource({ uri: "picture://text-2" })).contents;
      expect(text).toMatchObject({ mimeType: "text/plain", text: "ä€🙂ä€🙂" });
      const [escaped] = (await host.client.readResource({ uri: `picture://bell-${RESOURCE_BYTES_MAX}` })).contents;
      expect(Buffer.from(escaped?.blob ?? "", "base64").equals(Buffer.alloc(RESOURCE_BYTES_MAX, 7))).toBe(true);

      const over = [`picture://${RESOURCE_BYTES_MAX + 1}`, `picture://text-${Math.ceil(RESOURCE_BYTES_MAX / 9) + 1}`];
      for (const uri of over) await expect(host.client.readResource({ uri })).rejects.toThrow(/Read it in parts/);
    });
  });
});
