import type { JsonObject } from "@mcp-swarm/core";
import type { Call, Caller } from "@mcp-swarm/identity";
import * as z from "zod";
import type { Attachment } from "./content.ts";
import { idempotencyKey, shared } from "./fields.ts";

/** What a tool says of itself to the host (MCP's tool annotations); all four are always given. */
export interface Effects {
  /** Changes nothing. */
  readOnly: boolean;
  /** May undo or end what others rely on. */
  destructive: boolean;
  /** A second identical call changes nothing more. */
  idempotent: boolean;
  /** Reaches beyond the swarm. */
  openWorld: boolean;
}

/** The usual effects, so that a tool names only what is special about it. */
export const READS: Effects = { readOnly: true, destructive: false, idempotent: true, openWorld: false };
export const WRITES: Effects = { readOnly: false, destructive: false, idempotent: false, openWorld: false };

/** What the host's own model is asked. */
export interface SampleRequest {
  /** The role it plays. */
  readonly system?: string;
  readonly prompt: string;
  /** Most tokens it may answer. */
  readonly maxTokens: number;
}

/**
 * Asks the host's model and answers what it said; undefined when the host refused, failed, or was asked too often. The text is as
 * untrusted as what went into the prompt.
 *
 * A handler that asks may run again from its beginning, with the answers at hand: it puts the same question in the same words,
 * and what it awaits from here is not caught.
 */
export type Sample = (request: SampleRequest) => Promise<string | undefined>;

/**
 * What a tool's handler fails with when the host must be asked first, in the 2026-07-28 protocol: there a server puts no requests
 * to its host; the call is answered with what it needs, and made again with the answers.
 */
export class SamplePending extends Error {
  override readonly name = "SamplePending";
}

/** What a handler gets besides its input. */
export interface ToolContext {
  readonly call: Call;
  readonly caller: Caller;
  /** Aborted when the caller cancels or is gone. */
  readonly signal: AbortSignal;
  /** Tells a caller who asked for progress; does nothing for others. */
  progress(message: string): void;
  /**
   * Adds to the answer what a host shows beside its structured part; false when there is no room for it, or models cannot be shown
   * it, so that the structured part can say where it is read instead.
   */
  attach(part: Attachment): boolean;
  /** There for tools that only read, when the host offers its model. */
  readonly sample?: Sample;
}

type Shape = z.ZodRawShape;

export interface ToolSpec<Domain, I extends Shape, O extends Shape> {
  /** snake_case, verb first. */
  name: string;
  title: string;
  /** One or two sentences: what it does and when to use it. */
  description: string;
  /** The group that `--toolsets` mounts it with. */
  toolset: string;
  /** What a policy permits or forbids, for example `task:claim`. */
  operation: string;
  /**
   * What the operation acts on, for example `task/build-7`. A star at the end stands for whatever begins so: the call may touch any
   * of it, so a permit must cover all of it, and a forbid of any part refuses.
   */
  resource: (input: z.output<z.ZodObject<I>>, caller: Pick<Caller, "agentId">) => string;
  effects: Effects;
  /** The fields; made when the tool is first listed or called, because a server's start should not wait for all of them. */
  input: () => I;
  output: () => O;
  /** Paths in the output whose text other agents wrote, for example `task.description`. */
  untrusted?: readonly string[];
  /** Fields of the input that nothing of is kept, not even in the hash that tells a repetition from another call. */
  secretInput?: (input: z.output<z.ZodObject<I, z.core.$strict>>) => readonly string[];
  handle(domain: Domain, input: z.output<z.ZodObject<I, z.core.$strict>>, context: ToolContext): Promise<z.input<z.ZodObject<O>>>;
}

/** A tool as the server holds it: types are checked where it is defined and forgotten here. */
export interface Tool<Domain> {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly toolset: string;
  readonly operation: string;
  readonly effects: Effects;
  readonly untrusted: readonly string[];
  secretInput(input: JsonObject): readonly string[];
  readonly input: z.ZodObject;
  readonly output: z.ZodObject;
  resource(input: JsonObject, caller: Pick<Caller, "agentId">): string;
  handle(domain: Domain, input: JsonObject, context: ToolContext): Promise<JsonObject>;
}

/** Who acted, in every result. `verified` says whether a credential proved the name. */
const actor = shared(() => z.object({ agentId: z.string(), verified: z.boolean() }));

/**
 * Returns `defineTool` for the tools of one domain. Input and output types follow from the schemas, so a handler that
 * returns something else does not compile. Adds what every tool has: `idempotencyKey` in the input of writes, `caller` and
 * `untrusted` in the output.
 */
export function toolsFor<Domain>() {
  return function defineTool<I extends Shape, O extends Shape>(spec: ToolSpec<Domain, I, O>): Tool<Domain> {
    const input = shared(() =>
      z.strictObject(spec.effects.readOnly ? spec.input() : { ...spec.input(), idempotencyKey: idempotencyKey() }),
    );
    const output = shared(() => z.object({ ...spec.output(), caller: actor(), untrusted: z.array(z.string()).exactOptional() }));
    return {
      name: spec.name,
      title: spec.title,
      description: spec.description,
      toolset: spec.toolset,
      operation: spec.operation,
      effects: spec.effects,
      untrusted: spec.untrusted ?? [],
      get input() {
        return input();
      },
      get output() {
        return output();
      },
      // the schema has checked the input by the time these run
      resource: spec.resource as unknown as Tool<Domain>["resource"],
      secretInput: (spec.secretInput ?? (() => [])) as unknown as Tool<Domain>["secretInput"],
      handle: spec.handle as unknown as Tool<Domain>["handle"],
    };
  };
}
