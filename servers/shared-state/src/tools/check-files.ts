import { fit, READS } from "@mcp-swarm/server";
import * as z from "zod";
import { PATHS_MAX } from "../reservations.ts";
import { defineTool } from "./define.ts";
import { MODES, path } from "./file-schemas.ts";

/** Holders of one path that the answer names, and bytes of the answer for the paths. */
const HOLDERS_SHOWN = 3;

export const checkFiles = defineTool({
  name: "check_files",
  title: "Check files",
  description: "Tells for each path who reserved it, until when and for which task, before you edit it.",
  toolset: "files",
  operation: "files:read",
  resource: () => "files/*",
  effects: READS,
  input: () => ({ paths: z.array(path()).min(1).max(PATHS_MAX) }),
  output: () => ({
    paths: z.array(
      z.object({
        path: z.string(),
        given: z.string().exactOptional(),
        free: z.boolean(),
        holders: z.array(
          z.object({
            holder: z.string(),
            you: z.boolean(),
            mode: z.enum(MODES),
            glob: z.string(),
            leaseExpiresAt: z.number(),
            reservationId: z.string(),
            taskId: z.string().exactOptional(),
          }),
        ),
        moreHolders: z.number().exactOptional(),
      }),
    ),
    notShown: z.number().exactOptional(),
  }),
  untrusted: ["paths[].path", "paths[].given", "paths[].holders[].glob"],
  async handle({ reservations }, input, { call }) {
    const checked = await reservations.check(call, input);
    const paths = fit(
      checked.map(({ path, given, free, holders }) => ({
        path,
        ...(given === path ? {} : { given }),
        free,
        holders: holders.slice(0, HOLDERS_SHOWN).map(({ until, ...holder }) => ({ ...holder, leaseExpiresAt: until })),
        ...(holders.length > HOLDERS_SHOWN ? { moreHolders: holders.length - HOLDERS_SHOWN } : {}),
      })),
    );
    return { paths, ...(paths.length < checked.length ? { notShown: checked.length - paths.length } : {}) };
  },
});
