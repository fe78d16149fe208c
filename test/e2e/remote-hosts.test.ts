/** The guide for hosts on other machines, done as it says. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startHttp } from "../support/bin.ts";
import { binOf, ROOT, temporaryFolder } from "../support/host.ts";

const GUIDE = readFileSync(join(ROOT, "docs", "guides", "remote-hosts.md"), "utf8");
const PUBLIC_URL = "https://swarm.example";

const run = promisify(execFile);
const blocks = (language: string) =>
  [...GUIDE.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, text]) => text ?? "");

interface Command {
  env: Record<string, string>;
  args: string[];
}

/** A line of a shell block: variables, the bin of a server, and words without quotation. */
function commandOf(line: string): Command {
  const words = line.split(" ");
  const at = words.findIndex((word) => word.startsWith("mcp-swarm-"));
  const server = words[at]?.slice("mcp-swarm-".length) ?? "";
  const env = Object.fromEntries(words.slice(0, at).map((word) => word.split("=") as [string, string]));
  return { env, args: [binOf(server), ...words.slice(at + 1)] };
}

test("a remote agent gets in with an API key, and with its own key through the official client, as the guide says", async () => {
  verifies("SEC-13", "SEC-01");
  using folder = temporaryFolder();
  const home = { HOME: folder.path, XDG_DATA_HOME: join(folder.path, "data"), XDG_CONFIG_HOME: join(folder.path, "config") };
  const env = { PATH: process.env.PATH ?? "", ...home, SWARM_STORE: folder.store };
  const [letIn = "", serve = "", makeKey = "", ...more] = blocks("sh").map((text) =>
    text.replace(/(?<=[ =])~(?=\/)/g, folder.path),
  ); // as a shell does
  expect(more).toEqual([]);
  const execute = async ({ env: own, args }: Command) =>
    (await run(process.execPath, args, { cwd: folder.path, env: { ...env, ...own } })).stdout;
  for (const line of letIn.trim().split("\n")) await execute(commandOf(line));

  const { env: serving, args } = commandOf(serve.trim());
  expect(serving.SWARM_PUBLIC_URL).toBe(PUBLIC_URL);
  const { SWARM_PUBLIC_URL: _, ...rest } = serving; // the test has no proxy with TLS: the gateway goes by its own address
  await using gateway = await startHttp(
    args.map((word) => word.replace(/:3335$/, ":0")),
    { ...env, ...rest },
    { says: /gateway is running at (http:\/\/\S+?)\. Stop/, cwd: folder.path },
  );

  const apiKey = (await execute(commandOf(makeKey.trim()))).trim();
  const called = await fetch(`${gateway.url}/task-coordination/mcp`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      authorization: `Bearer ${apiKey}`,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "get_all_tasks", arguments: {} } }),
  });
  expect(called.status).toBe(200);
  expect(await called.text()).toContain('\\"agentId\\":\\"build-7\\",\\"verified\\":true');

  const [program = "", ...others] = blocks("js");
  expect(others).toEqual([]);
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", program.replaceAll(PUBLIC_URL, gateway.url)], {
    cwd: ROOT,
    env: { PATH: env.PATH, SWARM_KEY_FILE: join(folder.path, "swarm-keys", "build-7.key") },
  });
  expect(JSON.parse(stdout)).toEqual({ agentId: "build-7", verified: true });
});
