/**
 * A server of the same making as all others, with the tools that scenarios of the conformance suite call by name. What they
 * prove is proven of every server: how tools answer, fail and report progress is decided in one place.
 */
import { SwarmError } from "@mcp-swarm/core";
import { type Domain, READS, runServer, type ServerDefinition, toolsFor } from "@mcp-swarm/server";
import { z } from "zod";

const defineTool = toolsFor<Domain>();

const common = { toolset: "fixture", operation: "fixture:read", resource: () => "*", effects: READS, input: () => ({}) } as const;
const output = () => ({ text: z.string() });

/** Reports of progress that the scenario expects at least. */
const STEPS = 3;

const definition: ServerDefinition = {
  name: "conformance-fixture",
  title: "Conformance fixture",
  version: "1.0.0",
  instructions: "Tools that the conformance suite calls.",
  toolsets: { fixture: "all" },
  tools: [
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
