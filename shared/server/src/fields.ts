import { ID_MAX, type Json, PAGE_MAX, WAIT_MS_MAX } from "@mcp-swarm/core";
import * as z from "zod";

/**
 * The fields that tools are made of, each with its bound. Text is checked for NUL and broken Unicode by `vet` (input.ts).
 * A schema costs some KiB and tens of microseconds: it is made when a tool that has it is first listed or called, so that no
 * start waits for it. Tools that ask for the same field share it, since schemas never change.
 */

/** Makes a schema, or the fields of one, when it is first asked for, and remembers what was made for the same arguments. */
export function shared<A extends readonly number[], S>(make: (...bounds: A) => S): (...bounds: A) => S {
  const made = new Map<string, S>();
  return (...bounds) => {
    const key = bounds.join();
    const known = made.get(key);
    if (known !== undefined) return known;
    const schema = make(...bounds);
    made.set(key, schema);
    return schema;
  };
}

/** An id that callers choose: task, workflow, template. */
export const id = shared(() => z.string().regex(new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${ID_MAX - 1}}$`)));

/** Non-empty text of at most `max` UTF-16 units. */
export const text = shared((max: number) => z.string().min(1).max(max));

/** Names of capabilities, types and the like. */
export const label = shared(() => z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$/));

/** An agent id, or the bare name of a subagent of the caller. */
export const agentId = shared(() => z.string().min(1).max(64));

export const whole = shared((min: number, max: number) => z.int().min(min).max(max));

/** A time in ms since the epoch; up to the year 5138. */
export const timeMs = shared(() => z.int().min(0).max(100_000_000_000_000));

/** Any JSON; depth and numbers are bounded by `vet`, size by the store. */
export const json = shared(() => z.custom<Json>(() => true).meta({}));

/** An object of any JSON. */
export const jsonObject = shared(() => z.record(z.string().max(128), json()));

export const limit = shared(() => z.int().min(1).max(PAGE_MAX).exactOptional().describe("Default 50"));
/** `nextCursor` of the page before. */
export const cursor = shared(() => z.string().max(512).exactOptional());
/** The longest wait; not at all when absent. */
export const waitMs = shared(() => z.int().min(0).max(WAIT_MS_MAX).exactOptional());
export const idempotencyKey = shared(() => z.string().min(1).max(128).exactOptional());

const namedOnlySchemas = new WeakSet<object>();

/**
 * An object whose optional fields another tool's definition describes: here they are only named, because a model pays for
 * each definition. They are checked all the same.
 */
export function namedOnly<T extends z.ZodObject>(schema: T): T {
  namedOnlySchemas.add(schema);
  return schema;
}

export function isNamedOnly(schema: object): boolean {
  return namedOnlySchemas.has(schema);
}

/** Output counterparts. */
export const nextCursor = shared(() => z.string().exactOptional());
