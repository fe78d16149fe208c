import { SwarmError } from "@mcp-swarm/core";
import type { Caller } from "@mcp-swarm/identity";
import type { Server } from "@modelcontextprotocol/server";
import { CHANNEL_EVENT_BYTES_MAX, type ChannelEvent } from "./channel.ts";
import type { Channel, Domain } from "./definition.ts";
import { GuardedWatch } from "./guarded-watch.ts";
import { type MountedServer, settled } from "./mount.ts";
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
  let watch: GuardedWatch | undefined;
  let retry: Disposable | undefined;
  let over = false;
  const onError = (error: unknown) => process.log.warn({ err: error }, "The channel did not open; it is tried again");
  const begin = async () => {
    try {
      const { guard } = await process.ground();
      if (over) return;
      const caller = callerOf();
      const operation = { operation: channel.operation, resource: channel.resource(caller), tool: "channel" };
      const told = async (event: ChannelEvent) => {
        if (watch?.check()) await push(server, event);
      };
      watch = new GuardedWatch({
        guard,
        clock: process.clock,
        admitted: () => guard.stillAdmits(caller, operation),
        open: async () => {
          const admission = await guard.admit(caller, operation);
          return await settled(admission, async () => channel.open(await mounted.domain(), caller, told));
        },
        onError,
      });
      await watch.begin();
    } catch (error) {
      onError(error);
      if (!over) retry = process.clock.timer(RETRY_MS, () => void begin());
    }
  };
  void begin();
  return {
    [Symbol.dispose]: () => {
      over = true;
      retry?.[Symbol.dispose]();
      watch?.[Symbol.dispose]();
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
