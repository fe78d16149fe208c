import { definition as agentComm } from "@mcp-swarm/agent-comm";
import { definition as consensus } from "@mcp-swarm/consensus";
import { definition as distributedExecution } from "@mcp-swarm/distributed-execution";
import { definition as security } from "@mcp-swarm/security";
import {
  closeWithin,
  type Domain,
  endOf,
  MountedServer,
  orExplain,
  packageVersion,
  readConfig,
  type ServerDefinition,
  SwarmProcess,
  shownStore,
} from "@mcp-swarm/server";
import { isSecured, parseAddress, serveHttp } from "@mcp-swarm/server/http";
import { definition as sharedState } from "@mcp-swarm/shared-state";
import { definition as taskCoordination } from "@mcp-swarm/task-coordination";
import { Command } from "commander";
import { mountingHelp } from "./mounting-help.ts";

/** The port of the gateway unless PORT or --http says another. */
const PORT_DEFAULT = "3335";

const definitions = [
  taskCoordination,
  agentComm,
  sharedState,
  distributedExecution,
  consensus,
  security,
] as unknown as ServerDefinition<Domain>[];

await orExplain(async () => {
  const options = new Command("mcp-swarm-gateway")
    .description("Serves every MCP Swarm server over Streamable HTTP from one process: each at /<server>/mcp, and GET /health.")
    .version(packageVersion(import.meta.url), "--version", "Print the version")
    .helpOption("--help", "Print this help")
    .option("--http <[host:]port>", "Listen here; loopback only while the swarm is open", process.env.PORT || PORT_DEFAULT)
    .option("--where", "Print where the store is")
    .allowExcessArguments(false)
    .parse()
    .opts<{ http: string; where?: boolean }>();
  const config = readConfig(process.env, process.cwd());
  if (options.where) return void process.stdout.write(`${await shownStore(config.storeUrl)}\n`);

  const store = await shownStore(config.storeUrl);
  const swarm = new SwarmProcess(config, "gateway");
  const mounts = new Map(definitions.map((definition) => [`/${definition.name}/mcp`, new MountedServer(definition, swarm)]));
  const serving = await serveHttp(mounts, swarm, parseAddress(options.http, config));
  process.stdout.write(
    mountingHelp(
      definitions.map(({ name }) => name),
      { gatewayUrl: serving.publicUrl, store, secured: isSecured(config) },
    ),
  );
  process.stdout.write(`\nMCP Swarm gateway is running at ${serving.url}. Stop it with Ctrl-C.\n`);
  await endOf();
  await closeWithin([
    () => serving.close(),
    ...[...mounts.values()].map((mounted) => () => mounted.close()),
    () => swarm.close(),
  ]);
});
