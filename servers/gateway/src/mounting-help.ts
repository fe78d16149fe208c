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

export interface Mounting {
  readonly gatewayUrl: string;
  readonly store: string;
  /** Whether callers have to prove who they are. */
  readonly secured: boolean;
}

/** What a person pastes to mount the servers: commands for Claude Code, and a .mcp.json for any host, for stdio and for HTTP. */
export function mountingHelp(servers: readonly string[], { gatewayUrl, store, secured }: Mounting): string {
  const env = secured ? { env: { SWARM_KEY_FILE: "/path/to/the/agents/key/file" } } : {};
  const header = secured
    ? { name: "Authorization", value: "Bearer the-agents-API-key" }
    : { name: "Swarm-Agent", value: "a-name-of-its-own" };
  const given = Object.entries(env.env ?? {}).map(([name, value]) => `--env ${name}=${value} `);
  const stdio = Object.fromEntries(servers.map((server) => [server, { type: "stdio", ...stdioCommand(server), ...env }]));
  const http = Object.fromEntries(
    servers.map((server) => [
      server,
      { type: "http", url: `${gatewayUrl}/${server}/mcp`, headers: { [header.name]: header.value } },
    ]),
  );
  const lines = (of: (server: string) => string) => servers.map((server) => `  ${of(server)}`).join("\n");
  return `
Store: ${store}
Health: ${gatewayUrl}/health

Mount over stdio (each agent gets a process of its own; nothing else needs to run). In Claude Code:
${lines((server) => {
  const { command, args } = stdioCommand(server);
  return `claude mcp add ${given.join("")}${server} -- ${[command, ...args].map(quoted).join(" ")}`;
})}
or as .mcp.json:
${JSON.stringify({ mcpServers: stdio }, null, 2)}

Mount over HTTP (for hosts that reach this gateway${secured ? ", with a key from mcp-swarm-security api-key" : ""}). In Claude Code:
${lines((server) => `claude mcp add --transport http ${server} ${gatewayUrl}/${server}/mcp --header "${header.name}: ${header.value}"`)}
or as .mcp.json:
${JSON.stringify({ mcpServers: http }, null, 2)}
`;
}
