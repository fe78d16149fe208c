/** The fields that the tools of this server share. */
import { fields } from "@mcp-swarm/server";
import * as z from "zod";

const { shared, text } = fields;

export const POLICY_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$/;
const ROLES_MAX = 16;
const ATTRIBUTES_MAX = 256;
/** As policies have them. */
const OPERATION_MAX = 64;
const RESOURCE_MAX = 256;
const PATTERNS_MAX = 50;

/** An agent that is enrolled: no subagent. */
export const member = shared(() => z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/));
export const policyId = shared(() => z.string().regex(POLICY_ID));
export const secretName = shared(() => z.string().regex(NAME));
export const role = shared(() => z.string().regex(POLICY_ID));
export const roles = shared(() => z.array(role()).max(ROLES_MAX));
export const attributes = shared(() => z.record(z.string().min(1).max(64), z.string().max(ATTRIBUTES_MAX)));
export const operation = shared(() => text(OPERATION_MAX));
export const resource = shared(() => text(RESOURCE_MAX));
export const patterns = shared(() => z.array(text(RESOURCE_MAX)).min(1).max(PATTERNS_MAX));

/** A change that was signed into the bundle. */
export const version = shared(() => z.number());
