import { fit, WRITES } from "@mcp-swarm/server";
import * as z from "zod";
import { defineTool } from "./define.ts";
import { globs, reservationId } from "./file-schemas.ts";
import { subagent } from "./lock-schemas.ts";

/** Bytes for the globs of one reservation that was released. */
const GLOBS_BYTES = 1_000;

export const releaseFiles = defineTool({
  name: "release_files",
  title: "Release files",
  description: "Frees files that you reserved, as soon as you are done with them: one reservation, some globs, or all.",
  toolset: "files",
  operation: "files:release",
  resource: () => "files/*",
  effects: WRITES,
  input: () => ({
    reservationId: reservationId(),
    globs: globs().exactOptional(),
    all: z.literal(true).exactOptional(),
    agentId: subagent(),
  }),
  output: () => ({ released: z.array(z.object({ id: z.string(), globs: z.array(z.string()) })), count: z.number() }),
  untrusted: ["released[].globs"],
  async handle({ reservations }, input, { call }) {
    const { released } = await reservations.release(call, input);
    return { released: fit(released.map(({ id, globs }) => ({ id, globs: fit(globs, GLOBS_BYTES) }))), count: released.length };
  },
});
