/** Connections to the operator's servers: so many at once for each, kept for a while where the operator says so. */
import type { Clock } from "@mcp-swarm/core";
import { SwarmError } from "@mcp-swarm/core";
import { findLeash, type Leash } from "./leash.ts";
import type { McpConfig, McpServer } from "./mcp-config.ts";
import { McpConnection } from "./mcp-connection.ts";

export interface ServerPoolOptions {
  readonly config: McpConfig;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** A kept connection did not close as it should. */
  readonly onError: (error: unknown, message: string) => void;
  /** As it is found on this machine when absent. */
  readonly leash?: Leash;
}

interface Kept {
  readonly connection: McpConnection;
  readonly end: Disposable;
}

/** One server's places. */
interface Places {
  taken: number;
  readonly waiting: (() => void)[];
  readonly kept: Kept[];
}

export class ServerPool {
  readonly #options: ServerPoolOptions;
  readonly #places = new Map<string, Places>();
  readonly #open = new Set<McpConnection>();
  #leash: Promise<Leash> | undefined;

  constructor(options: ServerPoolOptions) {
    this.#options = options;
  }

  /** Found once, by trying. */
  leash(): Promise<Leash> {
    this.#leash ??= this.#options.leash ? Promise.resolve(this.#options.leash) : findLeash(this.#options.env.PATH ?? "");
    return this.#leash;
  }

  /**
   * Connections to all of these servers, for one task. They are taken in one order, so that two tasks never wait for each other.
   * @throws SwarmError unavailable; the signal's reason when it aborts first
   */
  async take(names: readonly string[], signal: AbortSignal): Promise<Map<string, McpConnection>> {
    const taken = new Map<string, McpConnection>();
    try {
      for (const name of [...new Set(names)].sort()) taken.set(name, await this.#takeOne(name, signal));
      return taken;
    } catch (error) {
      await this.giveBack(taken, { keep: true });
      throw error;
    }
  }

  /** With `keep`, those whose operator says so are kept for the next task; else all are dead when it resolves. */
  async giveBack(taken: ReadonlyMap<string, McpConnection>, { keep }: { keep: boolean }): Promise<void> {
    await Promise.all([...taken].map(([name, connection]) => this.#giveBackOne(name, connection, keep)));
  }

  async #takeOne(name: string, signal: AbortSignal): Promise<McpConnection> {
    const server = this.#server(name);
    const places = this.#placesOf(name);
    await this.#place(places, server, signal);
    try {
      for (let kept = places.kept.pop(); kept; kept = places.kept.pop()) {
        kept.end[Symbol.dispose]();
        if (kept.connection.alive) {
          kept.connection.renew();
          return kept.connection;
        }
        await this.#close(kept.connection);
      }
      const { env, clock } = this.#options;
      const connection = await McpConnection.open({ name, server, env, clock, leash: await this.leash() }, signal);
      this.#open.add(connection);
      return connection;
    } catch (error) {
      this.#free(places);
      throw error;
    }
  }

  async #giveBackOne(name: string, connection: McpConnection, keep: boolean): Promise<void> {
    const server = this.#server(name);
    const places = this.#placesOf(name);
    if (keep && connection.alive && server.keepWarmMs > 0) {
      const kept: Kept = {
        connection,
        end: this.#options.clock.timer(server.keepWarmMs, () => {
          places.kept.splice(places.kept.indexOf(kept), 1);
          this.#close(connection).catch((error) => this.#options.onError(error, "An MCP server did not end as it should"));
        }),
      };
      places.kept.push(kept);
    } else await this.#close(connection);
    this.#free(places);
  }

  async #place(places: Places, server: McpServer, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (places.taken < server.concurrency) {
      places.taken += 1;
      return;
    }
    // whoever frees a place hands it on without freeing it
    await new Promise<void>((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener("abort", gone);
        resolve();
      };
      const gone = () => {
        places.waiting.splice(places.waiting.indexOf(turn), 1);
        reject(signal.reason);
      };
      places.waiting.push(turn); // as many at most as the worker has runs
      signal.addEventListener("abort", gone, { once: true });
    });
  }

  #free(places: Places): void {
    const next = places.waiting.shift();
    if (next) next();
    else places.taken -= 1;
  }

  async #close(connection: McpConnection): Promise<void> {
    this.#open.delete(connection);
    await connection.close();
  }

  #server(name: string): McpServer {
    const server = this.#options.config.servers.get(name);
    if (!server) {
      throw new SwarmError("unavailable", `This worker has no MCP server named ${name}.`, {
        hint: "Another worker may have it.",
      });
    }
    return server;
  }

  #placesOf(name: string): Places {
    const known = this.#places.get(name);
    if (known) return known;
    const made: Places = { taken: 0, waiting: [], kept: [] };
    this.#places.set(name, made);
    return made;
  }

  /** Ends every server, used or kept. */
  async close(): Promise<void> {
    for (const { kept } of this.#places.values()) for (const { end } of kept.splice(0)) end[Symbol.dispose]();
    await Promise.all([...this.#open].map((connection) => this.#close(connection)));
  }
}
