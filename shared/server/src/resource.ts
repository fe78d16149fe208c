import type { JsonObject } from "@mcp-swarm/core";
import type { Call, Caller } from "@mcp-swarm/identity";
import type { RawContent } from "./content.ts";

/** What a resource's functions get besides its parameters. */
export interface ResourceContext {
  readonly call: Call;
  readonly caller: Caller;
  /** Aborted when the reader is gone, and at the end of a subscription. */
  readonly signal: AbortSignal;
}

type Name<T extends string> = T extends `${"+" | "#" | "." | "/" | "?" | "&"}${infer Rest}` ? Rest : T;

/** The parameters that a URI template names: `state://{scope}/{+key}` has `scope` and `key`. */
export type ParamsOf<T extends string> = string extends T
  ? Record<string, string>
  : T extends `${string}{${infer Variable}}${infer Rest}`
    ? { [K in Name<Variable>]: string } & ParamsOf<Rest>
    : unknown;

/** One resource that is worth showing in a list. */
export interface ListedResource<P> {
  /** What its URI is made from. */
  readonly params: P;
  readonly title?: string;
  readonly description?: string;
  /** Of one that is no JSON. */
  readonly mimeType?: string;
}

export interface ResourcePage<P> {
  /** At most the `limit` that was asked for. */
  readonly resources: readonly ListedResource<P>[];
  /** Given back as `after` for the next page; absent at the end. At most 256 characters. */
  readonly next?: string;
}

/** How a change of a resource is noticed. */
export interface ResourceWatching {
  /** Prefixes of the store under which a commit may change the resource. */
  readonly prefixes: readonly string[];
  /**
   * What differs when the resource differs, cheaply: it is asked after every wake, while somebody is subscribed, at most one at a
   * time. The first one is asked before the subscription is confirmed: what it throws refuses the subscription.
   * `againInMs`: when something falls due that no commit announces.
   */
  version(): Promise<{ version: string; againInMs?: number }>;
}

export interface ResourceSpec<Domain, T extends string> {
  /** snake_case, for programs. */
  name: string;
  title: string;
  /** One or two sentences: what it holds. */
  description: string;
  /** RFC 6570, for example `inbox://{agentId}` or `state://{scope}/{+key}`. Parameters arrive decoded and are never empty. */
  uriTemplate: T;
  /** The group that `--toolsets` mounts it with. */
  toolset: string;
  /** What a policy permits or forbids, for example `message:read`. */
  operation: string;
  /** What the operation acts on, for example `inbox/build-7`. */
  resource: (params: ParamsOf<T>) => string;
  /** It is no JSON: `read` answers `RawContent`, of whatever type that says. */
  raw?: true;
  /** Paths in what `read` answers whose text other agents wrote, for example `messages[].payload`. */
  untrusted?: readonly string[];
  /** Concrete resources worth showing to whoever asks what there is, a page at a time; most are found by their template alone. */
  list?(
    domain: Domain,
    context: ResourceContext,
    page: { limit: number; after?: string },
  ): Promise<ResourcePage<ParamsOf<T>>> | ResourcePage<ParamsOf<T>>;
  /**
   * What it holds now: at most 20,000 bytes of JSON, or `RawContent` when it is `raw`.
   * @throws SwarmError not_found, permission_denied and others, which the reader gets as a protocol error
   */
  read(domain: Domain, params: ParamsOf<T>, context: ResourceContext): Promise<JsonObject | RawContent>;
  /** Called once for each subscription. @throws SwarmError for a caller who may not watch it */
  watch(domain: Domain, params: ParamsOf<T>, context: ResourceContext): ResourceWatching;
}

type Params = Readonly<Record<string, string>>;

/** A resource as the server holds it: types are checked where it is defined and forgotten here. */
export interface Resource<Domain> {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly uriTemplate: string;
  readonly toolset: string;
  readonly operation: string;
  readonly raw?: true;
  readonly untrusted: readonly string[];
  resource(params: Params): string;
  list?(domain: Domain, context: ResourceContext, page: { limit: number; after?: string }): Promise<ResourcePage<Params>>;
  read(domain: Domain, params: Params, context: ResourceContext): Promise<JsonObject | RawContent>;
  watch(domain: Domain, params: Params, context: ResourceContext): ResourceWatching;
}

/** Returns `defineResource` for the resources of one domain. The parameters' names follow from the URI template. */
export function resourcesFor<Domain>() {
  return function defineResource<const T extends string>(spec: ResourceSpec<Domain, T>): Resource<Domain> {
    // the template has given the parameters by the time the functions run
    return { untrusted: [], ...spec } as unknown as Resource<Domain>;
  };
}
