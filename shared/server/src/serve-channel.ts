import { SwarmError } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { Server } from "@modelcontextprotocol/server";
import { CHANNEL_EVENT_BYTES_MAX, type ChannelEvent } from "./channel.ts";
import type { Channel, Domain } from "./definition.ts";
import type { MountedServer } from "./mount.ts";
import type { SwarmProcess } from "./process.ts";

/** The host's own extension of the protocol: it reaches a session through a server of the 2025 protocol alone. */
const METHOD = "notifications/claude/channel";
const META_KEY = /^[a-z_]{1,64}$/;
/** When to try again after the store did not open. */
const RETRY_MS = 5_000;

/** Opens a channel into the session at a server's other end, and tries again while the store cannot be opened; disposing ends it. */
export function openChannel<D extends Domain>(
  channel: Channel<D>,
  server: Server,
  { mounted, process, callerOf }: { mounted: MountedServer<D>; process: SwarmProcess; callerOf: () => Caller },
): Disposable {
  let opened: Disposable | undefined;
  let retry: Disposable | undefined;
  let over = false;
  const open = async () => {
    try {
      const domain = await mounted.domain();
      if (over || opened) return;
      opened = channel.open(domain, callerOf(), (event) => push(server, event));
    } catch (error) {
      process.log.warn({ err: error }, "The channel did not open; it is tried again");
      if (!over) retry = process.clock.timer(RETRY_MS, () => void open());
    }
  };
  void open();
  return {
    [Symbol.dispose]: () => {
      over = true;
      retry?.[Symbol.dispose]();
      opened?.[Symbol.dispose]();
    },
  };
}

async function push(server: Server, event: ChannelEvent): Promise<void> {
  const { content, meta } = event;
  if (!Object.keys(meta).every((key) => META_KEY.test(key))) {
    throw new SwarmError("invalid_argument", "Keys of a channel event's meta are small letters and _.");
  }
  if (Buffer.byteLength(JSON.stringify(event)) > CHANNEL_EVENT_BYTES_MAX) {
    throw new SwarmError("limit_exceeded", "The channel event is too long for a session.", {
      hint: `Push at most ${CHANNEL_EVENT_BYTES_MAX} bytes, and how to read the rest.`,
    });
  }
  await server.notification({ method: METHOD, params: { content, meta: { ...meta } } });
}
