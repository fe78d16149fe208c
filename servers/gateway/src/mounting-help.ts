import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** How a host starts one server over stdio. */
interface StdioCommand {
  command: string;
  args: string[];
}

/** From a clone, the built server beside this one; from the registry, npx. */
function stdioCommand(server: string): StdioCommand {
  const beside = fileURLToPath(new URL(`../../${server}/dist/main.js`, import.meta.url));
  if (existsSync(beside)) return { command: process.execPath, args: [beside] };
  return { command: "npx", args: ["-y", `@mcp-swarm/${server}`] };
}

const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`);

/** What a person pastes to mount the servers: commands for Claude Code, and a .mcp.json for any host, for stdio and for HTTP. */
export function mountingHelp(servers: readonly string[], gatewayUrl: string, store: string): string {
  const stdio = Object.fromEntries(servers.map((server) => [server, { type: "stdio", ...stdioCommand(server) }]));
  const http = Object.fromEntries(
    servers.map((server) => [
      server,
      { type: "http", url: `${gatewayUrl}/${server}/mcp`, headers: { "Swarm-Agent": "a-name-of-its-own" } },
    ]),
  );
  const lines = (of: (server: string) => string) => servers.map((server) => `  ${of(server)}`).join("\n");
  return `
Store: ${store}
Health: ${gatewayUrl}/health

Mount over stdio (each agent gets a process of its own; nothing else needs to run). In Claude Code:
${lines((server) => {
  const { command, args } = stdioCommand(server);
  return `claude mcp add ${server} -- ${[command, ...args].map(quoted).join(" ")}`;
})}
or as .mcp.json:
${JSON.stringify({ mcpServers: stdio }, null, 2)}

Mount over HTTP (for hosts that reach this gateway). In Claude Code:
${lines((server) => `claude mcp add --transport http ${server} ${gatewayUrl}/${server}/mcp --header "Swarm-Agent: a-name-of-its-own"`)}
or as .mcp.json:
${JSON.stringify({ mcpServers: http }, null, 2)}
`;
}
