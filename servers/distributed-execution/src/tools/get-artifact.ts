import { ANSWER_BYTES_MAX, IMAGE_BYTES_MAX, IMAGE_TYPES, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { ARTIFACT_BYTES_MAX } from "../artifact-layer.ts";
import { isTextType, textPart } from "../artifact-text.ts";
import { defineTool } from "./define.ts";
import { mintedId } from "./schemas.ts";
import { artifactUri } from "./views.ts";

/** Left for what stands around the text. */
const AROUND_BYTES = 2_500;

export const getArtifact = defineTool({
  name: "get_artifact",
  title: "Read a file of a task",
  description:
    "Shows a file that came out of a task: text from a byte offset on, an image as one. Other content is read as the resource at its uri.",
  toolset: "tasks",
  operation: "artifact:read",
  resource: ({ artifactId }) => `artifact/${artifactId}`,
  effects: READS,
  input: () => ({
    artifactId: mintedId(),
    offset: z.int().min(0).max(ARTIFACT_BYTES_MAX).exactOptional(),
    limit: z.int().min(1).max(ANSWER_BYTES_MAX).exactOptional().describe("Bytes"),
  }),
  output: () => ({
    artifact: z.object({
      id: z.string(),
      name: z.string(),
      uri: z.string(),
      mimeType: z.string(),
      bytes: z.number(),
      sha256: z.string(),
      taskId: z.string(),
      agentId: z.string(),
      createdAt: z.number(),
      /** It is in this answer, as an image. */
      shown: z.literal(true).exactOptional(),
    }),
    part: z.object({ offset: z.number(), text: z.string(), nextOffset: z.number().exactOptional() }).exactOptional(),
  }),
  untrusted: ["artifact.name", "part.text"],
  async handle({ artifacts }, { artifactId, offset = 0, limit = ANSWER_BYTES_MAX }, { attach }) {
    const { executionId, chunks: _, ...artifact } = await artifacts.get(artifactId);
    const { name, mimeType, bytes } = artifact;
    const view = { ...artifact, uri: artifactUri(artifactId), taskId: executionId };
    if (isTextType(mimeType)) {
      const room = ANSWER_BYTES_MAX - AROUND_BYTES;
      const read = await artifacts.read(artifactId, { offset, limit: Math.min(limit, room) });
      return { artifact: view, part: textPart(read, room) };
    }
    if (offset === 0 && bytes <= IMAGE_BYTES_MAX && IMAGE_TYPES.some((type) => type === mimeType)) {
      const whole = await artifacts.whole(artifactId, IMAGE_BYTES_MAX);
      if (attach({ type: "image", mimeType, bytes: whole.bytes })) return { artifact: { ...view, shown: true as const } };
    }
    attach({ type: "link", uri: view.uri, name, mimeType, bytes });
    return { artifact: view };
  },
});
