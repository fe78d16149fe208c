/** `artifact://{artifactId}`: a file that came out of a task, as it is. */
import { RawContent, RESOURCE_BYTES_MAX, resourcesFor } from "@mcp-swarm/server";
import { asText } from "../artifact-text.ts";
import type { DistributedExecution } from "../open.ts";

const defineResource = resourcesFor<DistributedExecution>();

export const artifactResource = defineResource({
  name: "artifact",
  title: "File of a task",
  description: "A file that came out of a task, or went into it, as it is; get_artifact reads long texts in parts.",
  uriTemplate: "artifact://{artifactId}",
  toolset: "tasks",
  operation: "artifact:read",
  resource: ({ artifactId }) => `artifact/${artifactId}`,
  raw: true,
  async read({ artifacts }, { artifactId }) {
    const { artifact, bytes } = await artifacts.whole(artifactId, RESOURCE_BYTES_MAX);
    return new RawContent(artifact.mimeType, asText(artifact.mimeType, bytes) ?? bytes);
  },
  watch: ({ artifacts }, { artifactId }) => ({
    prefixes: [], // a file that came out never changes
    version: async () => ({ version: (await artifacts.get(artifactId)).sha256 }),
  }),
});
