import { SwarmError } from "@mcp-swarm/core";
import { storeCommand } from "@mcp-swarm/store/commands";
import { Command } from "commander";
import { configFolder, readConfig } from "./config.ts";
import type { Domain, ServerDefinition } from "./definition.ts";
import type { Selection } from "./mount.ts";

/** How much of a command that there is not is shown. */
const COMMAND_SHOWN_MAX = 40;

/** Without this check an unknown command is called an argument too many. @throws SwarmError invalid_argument */
function checkCommand(command: Command, first: string): void {
  const names = [...command.commands.map((one) => one.name()), "help"];
  if (first.startsWith("-") || names.includes(first)) return;
  throw new SwarmError("invalid_argument", `There is no command ${first.slice(0, COMMAND_SHOWN_MAX)}.`, {
    hint: `The commands are ${names.join(", ")}; --help says what they do.`,
  });
}

/** What the command line of a server's bin asks for; undefined when a subcommand was asked for and has run. */
export async function parse<D extends Domain>(
  definition: ServerDefinition<D>,
  args: readonly string[],
): Promise<{ selection: Selection; http?: string; where?: boolean; channel?: boolean } | undefined> {
  const toolsets = Object.entries(definition.toolsets).map(([name, about]) => `  ${name.padEnd(12)} ${about}`);
  let serving: Awaited<ReturnType<typeof parse>>;
  const command = new Command(`mcp-swarm-${definition.name}`)
    .description(`${definition.title}: an MCP server over stdio, or over Streamable HTTP with --http.`)
    .version(definition.version, "--version", "Print the version")
    .helpOption("--help", "Print this help")
    .option("--http <[host:]port>", "Serve Streamable HTTP on loopback at /mcp instead of stdio")
    .option("--toolsets <names>", "Mount only these groups of tools, separated by commas")
    .option("--read-only", "Mount only tools that change nothing")
    .option("--where", "Print where the store is")
    .addHelpText(
      "after",
      `\nToolsets:\n${toolsets.join("\n")}\n\nEnvironment: SWARM_STORE, SWARM_AGENT, SWARM_LEASE_MS, SWARM_LOG and others; see the README.`,
    )
    .action((options: { http?: string; toolsets?: string; readOnly?: boolean; where?: boolean; channel?: boolean }) => {
      const { http, where, channel } = options;
      if (channel && http !== undefined) {
        throw new SwarmError(
          "invalid_argument",
          "--channel works over stdio only: a channel reaches the session that started the server.",
          {
            hint: "Use --channel or --http, not both.",
          },
        );
      }
      serving = {
        selection: {
          ...(options.toolsets === undefined ? {} : { toolsets: options.toolsets.split(",").map((name) => name.trim()) }),
          ...(options.readOnly ? { readOnly: true } : {}),
        },
        ...(http === undefined ? {} : { http }),
        ...(where === undefined ? {} : { where }),
        ...(channel === undefined ? {} : { channel }),
      };
    });
  if (definition.channel)
    command.option("--channel", "Push what is new into the session, in hosts that have channels (Claude Code)");
  command.addCommand(
    storeCommand({
      storeUrl: () => readConfig(process.env, process.cwd()).storeUrl,
      sweepers: () => definition.sweepers?.(readConfig(process.env, process.cwd())) ?? [],
    }),
  );
  const config = () => readConfig(process.env, process.cwd());
  for (const own of (await definition.commands?.({ config, configFolder: configFolder() })) ?? []) command.addCommand(own);
  checkCommand(command, args[0] ?? "");
  await command.parseAsync(args, { from: "user" });
  return serving;
}
