import { fields, WRITES } from "@mcp-swarm/server";
import { manifestFields } from "../manifest.ts";
import { defineTool } from "./define.ts";
import { environment } from "./schemas.ts";
import { environmentView } from "./views.ts";

const manifest = fields.shared(manifestFields);

export const createEnvironment = defineTool({
  name: "create_environment",
  title: "Make an environment",
  description:
    "Makes an environment for code: a runtime with limits, within what this machine's operator permits. Everyone may then use it.",
  toolset: "environments",
  operation: "environment:create",
  resource: ({ name }) => `environment/${name}`,
  effects: WRITES,
  input: manifest,
  output: () => ({ environment: environment() }),
  untrusted: ["environment.description", "environment.env"],
  handle: async ({ environments }, input, { call }) => ({ environment: environmentView(await environments.create(call, input)) }),
});
