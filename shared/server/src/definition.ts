import type { Clock, Random } from "@mcp-swarm/core";
import type { Caller, Presence, Signatures } from "@mcp-swarm/identity";
import type { Store } from "@mcp-swarm/store";
import type { Sweeper } from "@mcp-swarm/store/commands";
import type { Command } from "commander";
import type { Push } from "./channel.ts";
import type { Config } from "./config.ts";
import type { Log } from "./log.ts";
import type { Resource } from "./resource.ts";
import type { Security } from "./security.ts";
import type { Tool } from "./tool.ts";

/** What a server's domain is made from. */
export interface Host {
  readonly store: Store;
  readonly presence: Presence;
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** This server process: what it claims for its host is renewed while it lives. */
  readonly processId: string;
  /** Undefined while the swarm is open: nothing can be proven there. */
  readonly signatures?: Signatures;
  /** What this process trusts, lets in and writes down; undefined while the swarm is open. */
  readonly security?: Security;
}

/** A domain at work in one process. */
export interface Domain {
  /** Gives back what this process holds and stops its background work. */
  close(): Promise<void>;
}

/** A way for a server to tell a running session of something at once. What it says is lost when nobody listens: it is no record. */
export interface Channel<D> {
  /** What the model reads about it, behind the server's own instructions; both together stay under 2 KB. */
  readonly instructions: string;
  /** What a policy permits or forbids: what the session is shown is read by its agent. */
  readonly operation: string;
  /** What the operation acts on, for example `inbox/build-7`. */
  resource(caller: Caller): string;
  /** Called when the session is ready; disposed when the connection ends, or when its agent is no longer let in. */
  open(domain: D, caller: Caller, push: Push): Disposable;
}

/** What the commands of a server's bin are made from. */
export interface CommandHost {
  /** What the environment says. @throws SwarmError invalid_argument */
  config(): Config;
  /** This user's folder for settings and keys. */
  readonly configFolder: string;
}

/** One MCP server as data: what `runServer` and the gateway mount. */
export interface ServerDefinition<D extends Domain = Domain> {
  /** The short name: `task-coordination`. */
  readonly name: string;
  readonly title: string;
  readonly version: string;
  /** What the model reads first; under 2 KB, since hosts cut there. */
  readonly instructions: string;
  /** Groups of tools for `--toolsets`: name → what it is for. */
  readonly toolsets: Readonly<Record<string, string>>;
  readonly tools: readonly Tool<D>[];
  readonly resources?: readonly Resource<D>[];
  /** What `--channel` pushes into the host's session, for hosts that have channels. */
  readonly channel?: Channel<D>;
  /** What the `sweep` command removes besides expired rows. */
  readonly sweepers?: (config: Config) => readonly Sweeper[];
  /** Commands of the bin for people, beside those that every server has. */
  commands?(host: CommandHost): Promise<readonly Command[]>;
  open(host: Host): Promise<D>;
}
