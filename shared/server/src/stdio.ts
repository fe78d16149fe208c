import { SwarmError } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { Server, Transport } from "@modelcontextprotocol/server";
import { StdioServerTransport, serveStdio } from "@modelcontextprotocol/server/stdio";
import { LISTENS_MAX, ListeningTransport } from "./listen-stdio.ts";
import { unread } from "./log.ts";
import type { MountedServer } from "./mount.ts";
import type { SwarmProcess } from "./process.ts";
import { type Carrier, protocolServer } from "./protocol-server.ts";
import type { Subscriptions } from "./subscriptions.ts";

/** What a host that has channels looks for, and sends nothing of its own about. */
const CHANNEL_CAPABILITY = "claude/channel";

/**
 * Serves one host over this process's stdin and stdout, in whichever protocol era it opens with.
 * Resolves when the host is gone: stdin ended or stdout broke.
 */
export function serveHost(
  mounted: MountedServer,
  process_: SwarmProcess,
  callerOf: () => Caller,
  options: { channel?: boolean } = {},
): { ended: Promise<void>; close(): Promise<void> } {
  const connection = new Connection(mounted, process_, callerOf);
  const onerror = (error: Error) => process_.log.warn(unread(error), "The connection to the host reported an error");
  const transport = new StdioServerTransport();
  const handle = options.channel
    ? connection.serveWithChannel(transport, onerror)
    : serveStdio(() => connection.serve(), {
        transport: connection.listening(transport),
        maxSubscriptions: LISTENS_MAX,
        onerror,
      });
  const ended = new Promise<void>((resolve) => {
    for (const event of ["end", "close", "error"]) process.stdin.once(event, () => resolve());
    process.stdout.once("error", () => resolve());
  });
  return {
    ended,
    async close() {
      connection.close();
      await handle.close();
    },
  };
}

/** What lasts as long as one host's connection: what it is told about. */
class Connection {
  readonly #mounted: MountedServer;
  readonly #process: SwarmProcess;
  readonly #callerOf: () => Caller;
  /** The newest instance: a host that first probes the protocol gets another for its work. */
  #server: Server | undefined;
  #subscriptions: Promise<Subscriptions> | undefined;
  /** What a host of the 2025 protocol subscribed to: there, subscribing twice is the same as once. */
  readonly #subscribed = new Set<string>();
  #closed = false;

  constructor(mounted: MountedServer, process_: SwarmProcess, callerOf: () => Caller) {
    this.#mounted = mounted;
    this.#process = process_;
    this.#callerOf = callerOf;
  }

  /** A protocol server of this connection; `besides`: what it has that others have not. */
  serve(besides: Pick<Carrier, "capabilities" | "instructions"> = {}): Server {
    this.#server = protocolServer(this.#mounted, {
      ...besides,
      callerOf: this.#callerOf,
      canSubscribe: true,
      subscriptions: { add: (uri) => this.#subscribe(uri), remove: (uri) => this.#unsubscribe(uri) },
    });
    return this.#server;
  }

  /** Serves the 2025 protocol alone: hosts that have channels open them only to a server that never spoke the later one. */
  serveWithChannel(transport: Transport, onerror: (error: Error) => void): { close(): Promise<void> } {
    const { channel } = this.#mounted.definition;
    if (!channel) throw new SwarmError("invalid_argument", "This server has no channel.", { hint: "Leave --channel out." });
    const server = this.serve({
      capabilities: { experimental: { [CHANNEL_CAPABILITY]: {} } },
      instructions: channel.instructions,
    });
    let opened: Promise<Disposable> | undefined;
    server.oninitialized = () => {
      opened ??= import("./serve-channel.ts").then(({ openChannel }) =>
        openChannel(channel, server, { mounted: this.#mounted, process: this.#process, callerOf: this.#callerOf }),
      );
    };
    server.onclose = () => void opened?.then((open) => open[Symbol.dispose]());
    server.onerror = onerror;
    const connected = server.connect(transport);
    connected.catch(onerror);
    return { close: () => server.close() };
  }

  /** The transport that keeps this connection's account of listen streams. */
  listening(transport: Transport): Transport {
    return this.#mounted.hasResources ? new ListeningTransport(transport, () => this.#opened()) : transport;
  }

  async #subscribe(uri: string): Promise<void> {
    if (this.#subscribed.has(uri)) return;
    this.#subscribed.add(uri);
    try {
      await (await this.#opened()).add(uri);
    } catch (error) {
      this.#subscribed.delete(uri);
      throw error;
    }
  }

  async #unsubscribe(uri: string): Promise<void> {
    if (this.#subscribed.delete(uri)) (await this.#opened()).remove(uri);
  }

  #opened(): Promise<Subscriptions> {
    this.#subscriptions ??= import("./subscriptions.ts").then(({ Subscriptions }) => {
      const subscriptions = new Subscriptions(
        async (uri, signal, onChange) =>
          (await this.#mounted.resources()).watch(uri, { caller: this.#callerOf(), signal }, onChange),
        (uri) => this.#notify(uri),
      );
      if (this.#closed) subscriptions.close();
      return subscriptions;
    });
    return this.#subscriptions;
  }

  #notify(uri: string): void {
    this.#server?.sendResourceUpdated({ uri }).catch((error: unknown) => {
      this.#process.log.debug({ err: error }, "A host was not told of an update; its connection has ended");
    });
  }

  close(): void {
    this.#closed = true;
    void this.#subscriptions?.then((subscriptions) => subscriptions.close());
  }
}
