import { SwarmError } from "@mcp-swarm/core";
import { type Config, readConfig } from "./config.ts";
import type { Domain, ServerDefinition } from "./definition.ts";
import { hostAgent } from "./host-agent.ts";
import { MountedServer, type Selection } from "./mount.ts";
import { SwarmProcess } from "./process.ts";
import { serveHost } from "./stdio.ts";

/** How long giving back and closing may take before the process ends without it; what is left, the leases free. */
const CLOSE_MS_MAX = 1_500;

/** What the command line asks for. */
interface Command {
  selection: Selection;
  /** `[host:]port` for HTTP; stdio when absent. */
  http?: string;
  where?: boolean;
  channel?: boolean;
}

/** The bin of one server: reads command line and environment, serves until the host is gone, gives back, ends the process. */
export async function runServer<D extends Domain>(definition: ServerDefinition<D>): Promise<void> {
  await orExplain(async () => {
    const args = process.argv.slice(2);
    // hosts start a server without arguments: that path loads no parser and no commands
    const command = args.length === 0 ? { selection: {} } : await (await import("./command-line.ts")).parse(definition, args);
    if (!command) return; // another command was asked for, and has run
    const config = readConfig(process.env, process.cwd());
    if (command.where) return void process.stdout.write(`${await shownStore(config.storeUrl)}\n`);
    await serve(definition, command, config);
  });
}

async function serve<D extends Domain>(definition: ServerDefinition<D>, command: Command, config: Config): Promise<void> {
  if (command.http === undefined) {
    const agent = hostAgent(config);
    const swarm = new SwarmProcess(config, definition.name, () => agent().agentId);
    const caller = () => ({ ...agent(), processId: swarm.processId });
    const mounted = mount(definition, swarm, command.selection);
    const host = serveHost(mounted, swarm, caller, command.channel ? { channel: true } : {});
    // the answers to the host's first questions come before the store is opened for the calls that follow
    setImmediate(() => void mounted.domain().catch(() => {})); // logged there; calls will say why it does not open
    await endOf(host.ended);
    await closeWithin([() => host.close(), () => mounted.close(), () => swarm.close()]);
  } else {
    const { parseAddress, serveHttp } = await import("./http.ts");
    const address = parseAddress(command.http, config);
    const swarm = new SwarmProcess(config, definition.name);
    const mounted = mount(definition, swarm, command.selection);
    const serving = await serveHttp(new Map(["/mcp", `/${definition.name}/mcp`].map((path) => [path, mounted])), swarm, address);
    process.stderr.write(`${definition.title} at ${serving.url}/mcp\n`);
    await endOf();
    await closeWithin([() => serving.close(), () => mounted.close(), () => swarm.close()]);
  }
}

function mount<D extends Domain>(definition: ServerDefinition<D>, swarm: SwarmProcess, selection: Selection): MountedServer {
  return new MountedServer(definition, swarm, selection) as unknown as MountedServer;
}

/** Resolves when the process should end: a signal, or `alsoWhen`. */
export async function endOf(alsoWhen?: Promise<void>): Promise<void> {
  const signalled = new Promise<void>((resolve) => {
    // a signal that comes again must not end the process while it gives back
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => resolve());
  });
  await (alsoWhen ? Promise.race([signalled, alsoWhen]) : signalled);
}

/** Runs the steps in order, and ends the process when they are done or `CLOSE_MS_MAX` is over. */
export async function closeWithin(steps: readonly (() => Promise<void>)[]): Promise<never> {
  const late = setTimeout(() => process.exit(0), CLOSE_MS_MAX);
  let failed = false;
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failed = true;
      process.stderr.write(`While closing: ${error instanceof Error ? error.message : "unknown error"}\n`);
    }
  }
  clearTimeout(late);
  process.exit(failed ? 1 : 0);
}

/** Runs a bin; what it throws is said in a line on stderr, with what to do next, and the exit code is 1. */
export async function orExplain(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error;
    process.stderr.write(`${error.message}${error.hint ? ` ${error.hint}` : ""}\n`);
    process.exitCode = 1;
  }
}

/** Where a store is, without its password. @throws SwarmError invalid_argument for a URL that no engine takes */
export async function shownStore(url: string): Promise<string> {
  const { where } = await import("@mcp-swarm/store/commands");
  return where(url).location;
}
