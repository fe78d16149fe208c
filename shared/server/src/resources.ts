import { type Clock, type JsonObject, SwarmError } from "@mcp-swarm/core";
import { type Call, type Operation, plainCall } from "@mcp-swarm/identity";
import {
  type ListResourcesResult,
  type ListResourceTemplatesResult,
  ProtocolError,
  ProtocolErrorCode,
  type ReadResourceResult,
  type Resource as ResourceListing,
  ResourceNotFoundError,
  UriTemplate,
} from "@modelcontextprotocol/server";
import { ANSWER_BYTES_MAX, attributed, foreseen } from "./answer.ts";
import { RawContent } from "./content.ts";
import { GuardedWatch } from "./guarded-watch.ts";
import type { Log } from "./log.ts";
import { ANONYMOUS, type Origin, settled } from "./mount.ts";
import type { Ground } from "./process.ts";
import type { Resource, ResourceContext } from "./resource.ts";
import { ResourceWatch } from "./resource-watch.ts";

/** Longest URI of a resource, in characters. */
const URI_MAX = 2_048;
/** Most resources in one page of a list. */
const LIST_MAX = 20;
/** Longest cursor of a list of resources. */
const CURSOR_MAX = 512;
const MIME_TYPE = "application/json";

/** Whose reading it is, and until when. */
type Reader = Pick<Origin, "caller" | "signal">;

interface Found<D> {
  resource: Resource<D>;
  params: Record<string, string>;
  /** What reading or watching it is, for the guard. */
  operation: Operation;
}

/** The resources of one server in one process. */
export class MountedResources<D> {
  readonly #resources: readonly { resource: Resource<D>; template: UriTemplate }[];
  readonly #domain: () => Promise<D>;
  readonly #ground: () => Promise<Ground>;
  readonly #clock: Clock;
  readonly #log: Log;

  constructor(
    resources: readonly Resource<D>[],
    process: { domain: () => Promise<D>; ground: () => Promise<Ground>; clock: Clock; log: Log },
  ) {
    this.#resources = resources.map((resource) => ({ resource, template: new UriTemplate(resource.uriTemplate) }));
    this.#domain = process.domain;
    this.#ground = process.ground;
    this.#clock = process.clock;
    this.#log = process.log;
  }

  templates(): ListResourceTemplatesResult {
    return {
      resourceTemplates: this.#resources
        .filter(({ template }) => template.variableNames.length > 0)
        .map(({ resource: { name, title, description, uriTemplate, raw } }) => ({
          name,
          title,
          description,
          uriTemplate,
          ...(raw ? {} : { mimeType: MIME_TYPE }),
        })),
    };
  }

  /** @throws ProtocolError for a cursor that is not one of this list */
  async list(cursor: string | undefined, reader: Reader): Promise<ListResourcesResult> {
    let { index, after } = cursor === undefined ? { index: 0, after: undefined } : parseCursor(cursor, this.#resources.length);
    try {
      const { guard } = await this.#ground();
      guard.checkProcess();
      const { domain, context } = await this.#context(reader);
      for (; index < this.#resources.length; index += 1, after = undefined) {
        const mounted = this.#resources[index];
        if (!mounted) break;
        const page = await this.#page(mounted, domain, context, after);
        if (page.resources.length === 0) continue;
        const next = page.next === undefined ? { index: index + 1 } : { index, after: page.next };
        if (next.index >= this.#resources.length) return { resources: page.resources };
        return { resources: page.resources, nextCursor: Buffer.from(JSON.stringify(next)).toString("base64url") };
      }
      return { resources: [] };
    } catch (error) {
      throw this.#refusal(error, "resources/list");
    }
  }

  async #page(
    { resource, template }: { resource: Resource<D>; template: UriTemplate },
    domain: D,
    context: ResourceContext,
    after: string | undefined,
  ): Promise<{ resources: ResourceListing[]; next?: string }> {
    const { name, title, description, uriTemplate } = resource;
    const shown = (uri: string, of: { title?: string; description?: string; mimeType?: string }): ResourceListing => ({
      uri,
      name,
      title: of.title ?? title,
      description: of.description ?? description,
      mimeType: of.mimeType ?? MIME_TYPE,
    });
    if (template.variableNames.length === 0) return { resources: [shown(uriTemplate, {})] };
    if (!resource.list) return { resources: [] };
    const { guard } = await this.#ground();
    const { caller } = context;
    await guard.admitList(caller, { operation: resource.operation, tool: name });
    const page = await resource.list(domain, context, { limit: LIST_MAX, ...(after === undefined ? {} : { after }) });
    const resources = page.resources
      .slice(0, LIST_MAX)
      .filter(({ params }) => guard.stillAdmits(caller, operationOn(resource, params)))
      .map((of) => shown(template.expand({ ...of.params }), of));
    return page.next === undefined ? { resources } : { resources, next: page.next };
  }

  async read(uri: string, reader: Reader): Promise<ReadResourceResult> {
    const { resource, params, operation } = this.#find(uri);
    try {
      const { guard } = await this.#ground();
      const admission = await guard.admit(reader.caller, operation);
      const value = await settled(admission, async () => {
        const { domain, context } = await this.#context(reader, admission.call);
        return await resource.read(domain, params, context);
      });
      if (value instanceof RawContent) return { contents: [value.toContents(uri)] };
      const text = JSON.stringify(attributed(value, resource.untrusted, reader.caller));
      if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) {
        throw new SwarmError("limit_exceeded", "The resource is longer than a model can read at once.", {
          hint: "Read it in parts with the tools of this server.",
        });
      }
      return { contents: [{ uri, mimeType: MIME_TYPE, text }] };
    } catch (error) {
      throw this.#refusal(error, resource.name, uri);
    }
  }

  /**
   * Calls `onChange` whenever the resource is another than before, until the watch is disposed. What changes after this
   * resolved is never missed.
   * @throws ProtocolError when there is no such resource or the reader may not watch it
   */
  async watch(uri: string, reader: Reader, onChange: () => void): Promise<Disposable> {
    const { resource, params, operation } = this.#find(uri);
    try {
      const { store, guard } = await this.#ground();
      const onError = (error: unknown) =>
        this.#log.warn({ err: error, resource: resource.name }, "A resource could not be watched");
      const open = async () => {
        const admission = await guard.admit(reader.caller, operation);
        return await settled(admission, async () => {
          const { domain, context } = await this.#context(reader, admission.call);
          const watching = resource.watch(domain, params, context);
          return await ResourceWatch.open({ store, clock: this.#clock, watching, onChange: tell, onError });
        });
      };
      const watch = new GuardedWatch({
        guard,
        clock: this.#clock,
        admitted: () => guard.stillAdmits(reader.caller, operation),
        open,
        onReopened: onChange,
        onError,
      });
      const tell = () => {
        if (watch.check()) onChange();
      };
      await watch.open();
      return watch;
    } catch (error) {
      throw this.#refusal(error, resource.name, uri);
    }
  }

  /** What reading or watching a resource is, as policies name it; undefined when there is no such resource. */
  operationOn(uri: string): string | undefined {
    return uri.length > URI_MAX ? undefined : this.#match(uri)?.operation.operation;
  }

  #find(uri: string): Found<D> {
    const found = uri.length > URI_MAX ? undefined : this.#match(uri);
    if (found) return found;
    throw new ResourceNotFoundError(
      uri.slice(0, URI_MAX),
      "This server has no such resource. resources/templates/list says what it has.",
    );
  }

  #match(uri: string): Found<D> | undefined {
    for (const { resource, template } of this.#resources) {
      const matched = template.match(uri);
      const params = matched && decoded(matched);
      if (params) return { resource, params, operation: operationOn(resource, params) };
    }
    return undefined;
  }

  async #context({ caller, signal }: Reader, call?: Call): Promise<{ domain: D; context: ResourceContext }> {
    const domain = await this.#domain();
    const { store, presence } = await this.#ground();
    if (caller.agentId !== ANONYMOUS) await presence.touch(caller);
    return { domain, context: { call: call ?? plainCall(store, caller), caller, signal } };
  }

  #refusal(error: unknown, what: string, uri?: string): ProtocolError {
    if (error instanceof ProtocolError) return error;
    const { code, message, hint, retryable } = foreseen(error, { resource: what }, this.#log);
    const words = hint === undefined ? message : `${message} ${hint}`;
    if (code === "not_found" && uri !== undefined) return new ResourceNotFoundError(uri, words);
    const protocolCode = code === "invalid_argument" ? ProtocolErrorCode.InvalidParams : ProtocolErrorCode.InternalError;
    return new ProtocolError(protocolCode, words, { code, message, hint, retryable });
  }
}

function operationOn<D>(resource: Resource<D>, params: Readonly<Record<string, string>>): Operation {
  return { operation: resource.operation, resource: resource.resource(params), arguments: params, tool: resource.name };
}

/** Parameters as their owner wrote them; undefined when a part is nothing that anybody could mean. */
function decoded(matched: Record<string, string | string[]>): Record<string, string> | undefined {
  const params: Record<string, string> = {};
  for (const [name, raw] of Object.entries(matched)) {
    if (typeof raw !== "string") return undefined;
    const value = percentDecoded(raw);
    if (value === undefined || value === "" || value.includes("\0") || !value.isWellFormed()) return undefined;
    params[name] = value;
  }
  return params;
}

function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined; // a stray % or bytes that are no UTF-8: no URI that we gave out
  }
}

function parseCursor(cursor: string, resources: number): { index: number; after: string | undefined } {
  const position = cursor.length <= CURSOR_MAX ? parsed(Buffer.from(cursor, "base64url").toString("utf8")) : undefined;
  const { index, after } = (typeof position === "object" && position !== null ? position : {}) as JsonObject;
  if (typeof index === "number" && Number.isInteger(index) && index >= 0 && index < resources) {
    if (after === undefined || typeof after === "string") return { index, after };
  }
  throw new ProtocolError(
    ProtocolErrorCode.InvalidParams,
    "This cursor does not belong to this list. Leave it out to begin again.",
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // no cursor of ours
  }
}
