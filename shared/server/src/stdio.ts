import type { Caller } from "@mcp-swarm/identity";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { type MountedServer, protocolServer } from "./mount.ts";
import type { SwarmProcess } from "./process.ts";

/**
 * Serves one host over this process's stdin and stdout, in whichever protocol era it opens with.
 * Resolves when the host is gone: stdin ended or stdout broke.
 */
export function serveHost(
  mounted: MountedServer,
  process_: SwarmProcess,
  callerOf: () => Caller,
): { ended: Promise<void>; close(): Promise<void> } {
  const handle = serveStdio(() => protocolServer(mounted, callerOf), {
    onerror: (error) => process_.log.warn({ err: error }, "The connection to the host reported an error"),
  });
  const ended = new Promise<void>((resolve) => {
    for (const event of ["end", "close", "error"]) process.stdin.once(event, () => resolve());
    process.stdout.once("error", () => resolve());
  });
  return { ended, close: () => handle.close() };
}
