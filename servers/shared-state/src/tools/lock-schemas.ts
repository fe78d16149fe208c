/** The fields that the tools of locks and leaders share. */
import { ID_MAX } from "@mcp-swarm/core";
import { fields } from "@mcp-swarm/server";
import * as z from "zod";
import { LOCK_MODES, LOCK_MS_MAX, LOCK_MS_MIN } from "../lock-record.ts";

const { shared, whole, label, text, agentId } = fields;

/** More holdings than one lock can see: a thousand a second for thirty years. */
const FENCING_TOKEN_MAX = 1_000_000_000_000;

export const lockName = shared(() => label());
/** What it may be made of the domain checks: three tools take it, and a model pays for each pattern. */
export const group = shared(() => text(ID_MAX));
export const mode = shared(() => z.enum(LOCK_MODES));
export const ttlMs = shared(() => whole(LOCK_MS_MIN, LOCK_MS_MAX).exactOptional());
export const fencingToken = shared(() => whole(1, FENCING_TOKEN_MAX).exactOptional());
export const subagent = shared(() => agentId().exactOptional().describe("Your subagent"));

const holding = shared(() => ({
  agentId: z.string(),
  fencingToken: z.number(),
  acquiredAt: z.number(),
  leaseExpiresAt: z.number(),
  endsAt: z.number(),
}));

export const heldLock = shared(() => z.object({ name: z.string(), mode: mode(), ...holding() }));

export const listedLock = shared(() =>
  z.object({
    name: z.string(),
    mode: mode().exactOptional(),
    holders: z.array(z.object(holding())),
    held: z.number(),
    waiting: z.number(),
    next: z.array(z.string()),
  }),
);

export const leader = shared(() =>
  z.object({
    group: z.string(),
    agentId: z.string(),
    term: z.number(),
    sinceAt: z.number(),
    leaseExpiresAt: z.number(),
    you: z.boolean(),
    info: z.string().exactOptional(),
  }),
);
