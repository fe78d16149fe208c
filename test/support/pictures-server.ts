/**
 * A server of the same making as all others, with answers that carry images and links, and a resource that is bytes: what holds here
 * holds of every server.
 */
import { type Domain, RawContent, READS, resourcesFor, runServer, type ServerDefinition, toolsFor } from "@mcp-swarm/server";
import { z } from "zod";

/** The first bytes of a PNG; what follows is anybody's guess. */
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Bytes that are a PNG to whoever looks at the beginning alone. */
function picture(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = PNG[at] ?? at % 251;
  return bytes;
}

const common = { toolset: "pictures", operation: "picture:read", resource: () => "*" } as const;

const definition: ServerDefinition = {
  name: "pictures",
  title: "Pictures",
  version: "1.0.0",
  instructions: "Pictures to look at.",
  toolsets: { pictures: "all" },
  tools: [
    toolsFor<Domain>()({
      ...common,
      name: "show_pictures",
      title: "Show pictures",
      description: "Shows pictures of these sizes, and links to them.",
      effects: READS,
      input: () => ({ sizes: z.array(z.int().min(1).max(10_000_000)).max(100), mimeType: z.string().max(50) }),
      output: () => ({ shown: z.array(z.boolean()), linked: z.array(z.boolean()) }),
      async handle(_, { sizes, mimeType }, { attach }) {
        return {
          shown: sizes.map((size) => attach({ type: "image", mimeType, bytes: picture(size) })),
          linked: sizes.map((bytes) =>
            attach({ type: "link", uri: `picture://${bytes}`, name: `${bytes}.png`, mimeType, bytes }),
          ),
        };
      },
    }),
  ],
  resources: [
    resourcesFor<Domain>()({
      ...common,
      name: "picture",
      title: "A picture",
      description: "A picture of a size, or a text of it.",
      uriTemplate: "picture://{size}",
      raw: true,
      list: async () => ({ resources: [{ params: { size: "10" }, title: "Ten bytes", mimeType: "image/png" }] }),
      async read(_, { size = "" }) {
        const [kind, count = ""] = size.split("-");
        if (kind === "text") return new RawContent("text/plain", "ä€🙂".repeat(Number(count)));
        if (kind === "bell") return new RawContent("text/plain", "\x07".repeat(Number(count)));
        return new RawContent("image/png", picture(Number(size)));
      },
      watch: () => ({ prefixes: [], version: async () => ({ version: "1" }) }),
    }),
  ],
  open: async () => ({ close: async () => {} }),
};

await runServer(definition);
