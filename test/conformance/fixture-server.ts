/**
 * A server of the same making as all others, with the tools and resources that scenarios of the conformance suite ask for by name. What they
 * prove is proven of every server: how tools answer, fail and report progress is decided in one place.
 */
import { SwarmError } from "@mcp-swarm/core";
import { type Domain, RawContent, READS, resourcesFor, runServer, type ServerDefinition, toolsFor } from "@mcp-swarm/server";
import { z } from "zod";

const defineTool = toolsFor<Domain>();
const defineResource = resourcesFor<Domain>();

const common = { toolset: "fixture", operation: "fixture:read", resource: () => "*", effects: READS, input: () => ({}) } as const;
const output = () => ({ text: z.string() });

const resource = { toolset: "fixture", operation: "fixture:read", resource: () => "*" } as const;
const unchanging = () => ({ prefixes: [], version: async () => ({ version: "1" }) });

/** A PNG of one red dot. */
const DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

/** Reports of progress that the scenario expects at least. */
const STEPS = 3;

const definition: ServerDefinition = {
  name: "conformance-fixture",
  title: "Conformance fixture",
  version: "1.0.0",
  instructions: "Tools that the conformance suite calls.",
  toolsets: { fixture: "all" },
  resources: [
    defineResource({
      ...resource,
      name: "static_text",
      title: "A static text",
      description: "A text that stays the same.",
      uriTemplate: "test://static-text",
      read: async () => ({ text: "This is the content of the static text resource." }),
      watch: unchanging,
    }),
    defineResource({
      ...resource,
      name: "static_binary",
      title: "A static image",
      description: "An image that stays the same.",
      uriTemplate: "test://static-binary",
      raw: true,
      read: async () => new RawContent("image/png", Buffer.from(DOT, "base64")),
      watch: unchanging,
    }),
    defineResource({
      ...resource,
      name: "template",
      title: "Data by id",
      description: "Data for an id.",
      uriTemplate: "test://template/{id}/data",
      read: async (_, { id }) => ({ id, templateTest: true, data: `Data for ID: ${id}` }),
      watch: unchanging,
    }),
  ],
  tools: [
    ...[
      "test_input_required_result_sampling",
      "test_input_required_result_tampered_state",
      "test_input_required_result_capabilities",
    ].map((name) =>
      defineTool({
        ...common,
        name,
        title: "Ask the host's model",
        description: "Asks the host's model for a capital.",
        output,
        handle: async (_, __, { sample }) => ({
          text: (await sample?.({ prompt: "What is the capital of France?", maxTokens: 100 })) ?? "nobody knows",
        }),
      }),
    ),
    defineTool({
      ...common,
      name: "test_input_required_result_multi_round",
      title: "Ask the host's model twice",
      description: "Asks the host's model about what it answered.",
      output,
      async handle(_, __, { sample }) {
        const first = await sample?.({ prompt: "What is your name?", maxTokens: 100 });
        return { text: (await sample?.({ prompt: `And yours, ${first ?? "stranger"}?`, maxTokens: 100 })) ?? "nobody" };
      },
    }),
    defineTool({
      ...common,
      name: "test_simple_text",
      title: "Answer a text",
      description: "Answers a text.",
      output,
      handle: async () => ({ text: "This is a simple text response for testing." }),
    }),
    defineTool({
      ...common,
      name: "test_image_content",
      title: "Answer an image",
      description: "Answers an image.",
      output,
      handle: async (_, __, { attach }) => {
        attach({ type: "image", mimeType: "image/png", bytes: Buffer.from(DOT, "base64") });
        return { text: "A red dot." };
      },
    }),
    defineTool({
      ...common,
      name: "test_error_handling",
      title: "Fail",
      description: "Always fails.",
      output,
      handle: async () => {
        throw new SwarmError("failed_precondition", "This tool intentionally returns an error for testing.");
      },
    }),
    defineTool({
      ...common,
      name: "test_tool_with_progress",
      title: "Report progress",
      description: "Reports progress, then answers.",
      output,
      handle: async (_, __, { progress }) => {
        for (let step = 1; step <= STEPS; step++) progress(`Step ${step} of ${STEPS}`);
        return { text: "done" };
      },
    }),
    defineTool({
      ...common,
      name: "test_streaming_elicitation",
      title: "Answer on a stream",
      description: "Reports progress and answers; asks the host nothing.",
      output,
      handle: async (_, __, { progress }) => {
        progress("Working");
        return { text: "done" };
      },
    }),
    defineTool({
      ...common,
      name: "test_logging_tool",
      title: "Say nothing",
      description: "Answers without a log message to the host.",
      output,
      handle: async () => ({ text: "done" }),
    }),
  ],
  open: async () => ({ close: async () => {} }),
};

await runServer(definition);
