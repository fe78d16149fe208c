/** `--channel`: what is new reaches the host's session by itself, in hosts that have channels. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost, run } from "../support/bin.ts";
import { eventually, Host, ROOT, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

const NOTES = join(import.meta.dirname, "..", "support", "notes-server.ts");
const METHOD = "notifications/claude/channel";

const start = (store: string, agent: string, args: readonly string[] = [], era: "v1" | "v2-legacy" | "v2-auto" = "v1") =>
  Host.start({ command: process.execPath, prefix: [NOTES], agent, store, args, era });

function pushed(host: Host): unknown[] {
  return host.notifications.filter(({ method }) => method === METHOD).map(({ params }) => params);
}

describe("a server with --channel", () => {
  test.each(["v1", "v2-legacy"] as const)("pushes into a session of a host of %s what others write, in order", async (era) => {
    verifies("COMM-10");
    using folder = temporaryFolder();
    await using host = await start(folder.store, "ann", ["--channel"], era);
    await using other = await start(folder.store, "bob");
    expect(host.client.getServerCapabilities()).toMatchObject({ experimental: { "claude/channel": {} }, tools: {} });
    expect(host.client.getInstructions()).toBe(
      "Notes that agents write for one another.\n\nNotes written for you arrive as they are written, in <channel> marks.",
    );
    for (const key of ["a", "b", "c"]) await other.call("write_note", { owner: "ann", key, text: `text ${key}` });
    await other.call("write_note", { owner: "eve", key: "d", text: "not for ann" });
    await host.call("write_note", { owner: "ann", key: "z", text: "last" });
    await eventually("the last note is pushed", () => pushed(host).length >= 4);
    expect(pushed(host)).toEqual([
      { content: "text a", meta: { note_key: "a" } },
      { content: "text b", meta: { note_key: "b" } },
      { content: "text c", meta: { note_key: "c" } },
      { content: "last", meta: { note_key: "z" } },
    ]);
  });

  test("speaks the 2025 protocol alone, which a host that tries the later one first finds out", async () => {
    using folder = temporaryFolder();
    await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "ann" }, ["--channel"]);
    const meta = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "raw-host", version: "1.0.0" },
      "io.modelcontextprotocol/clientCapabilities": {},
    };
    expect((await host.ask("server/discover", { _meta: meta })).error?.code).toBe(-32601);
    expect((await host.initialize()).result?.protocolVersion).toBe("2025-11-25");
  });

  test("says nothing before the host has said that it is ready", async () => {
    using folder = temporaryFolder();
    await using writer = await start(folder.store, "bob");
    await writer.call("write_note", { owner: "ann", key: "a", text: "waiting" });
    await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "ann" }, ["--channel"]);
    const clientInfo = { name: "raw-host", version: "1.0.0" };
    await host.ask("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
    // the store is open once this is answered, so that nothing but the host's silence holds the note back
    await host.ask("tools/call", { name: "count_watches", arguments: {} });
    expect(host.messages.filter(({ method }) => method === METHOD)).toEqual([]);
    host.write(`${JSON.stringify({ jsonrpc: "2.0", method: "notifications/initialized" })}\n`);
    await eventually("the note is pushed", () => host.messages.some(({ method }) => method === METHOD));
  });

  test("has its resources, updates and tools as without", async () => {
    using folder = temporaryFolder();
    await using host = await start(folder.store, "ann", ["--channel"]);
    await host.subscribe("notes://count");
    await host.call("write_note", { owner: "bob", key: "a", text: "x" });
    await eventually("the count's change is told", () => host.updates("notes://count") === 1);
    expect(await host.read("notes://count")).toMatchObject({ notes: 1 });
  });

  test("ends when its host is gone", async () => {
    verifies("CORE-07");
    using folder = temporaryFolder();
    const host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "ann" }, ["--channel"]);
    await host.initialize();
    await host.ask("tools/call", { name: "count_watches", arguments: {} });
    await host.end();
    expect(host.child.exitCode).toBe(0);
    expect(host.strays).toEqual([]);
  });
});

test.each(SERVERS)("%s says what it is in under 2 KB, where hosts cut, its channel included", async (server) => {
  const { definition } = (await import(join(ROOT, "servers", server, "src", "server.ts"))) as {
    definition: { instructions: string; channel?: { instructions: string } };
  };
  const whole = [definition.instructions, definition.channel?.instructions ?? ""].join("\n\n");
  expect(Buffer.byteLength(whole)).toBeLessThan(2_048);
});

describe("the command line", () => {
  const notes = (...args: string[]) => run(process.execPath, [NOTES, ...args], { env: { SWARM_STORE: "memory:" } });

  test("documents --channel where there is one", async () => {
    verifies("CORE-13");
    expect((await notes("--help")).stdout).toContain("--channel");
  });

  test("refuses a channel over HTTP", async () => {
    const refused = await notes("--channel", "--http", "0");
    expect(refused.code).toBe(1);
    expect(refused.stderr).toBe(
      "--channel works over stdio only: a channel reaches the session that started the server. Use --channel or --http, not both.\n",
    );
  });
});
