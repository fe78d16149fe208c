import { WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { environmentName } from "./schemas.ts";

export const deleteEnvironment = defineTool({
  name: "delete_environment",
  title: "Delete an environment",
  description: "Removes an environment that create_environment made; tasks that wait for it fail.",
  toolset: "environments",
  operation: "environment:delete",
  resource: ({ name }) => `environment/${name}`,
  effects: { ...WRITES, destructive: true },
  input: () => ({ name: environmentName() }),
  output: () => ({ environment: z.object({ name: z.string(), version: z.number() }) }),
  handle: async ({ environments }, input, { call }) => ({ environment: await environments.delete(call, input) }),
});
