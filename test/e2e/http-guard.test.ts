/** Who may reach a server over HTTP while the swarm is open: programs on this machine, and no web page. */
import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { type HttpServerProcess, runBin, startServerHttp } from "../support/bin.ts";
import { temporaryFolder } from "../support/host.ts";
import { freePort } from "../support/postgres.ts";
import { SERVERS } from "../support/servers.ts";

const INITIALIZE = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "initialize",
  params: { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "page", version: "1" } },
});

interface Reply {
  status: number;
  body: string;
}

/** One request with headers that `fetch` would not send. */
function send(port: number, path: string, headers: Record<string, string>, body: string | undefined): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: "127.0.0.1", port, path, method: body === undefined ? "GET" : "POST", headers, setHost: !("host" in headers) },
      (response) => {
        let text = "";
        response.on("data", (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

const POST = { "content-type": "application/json", accept: "application/json, text/event-stream" };

describe.each(SERVERS)("%s over HTTP", (server) => {
  const folder = temporaryFolder();
  let serving: HttpServerProcess;
  let port: number;
  beforeAll(async () => {
    serving = await startServerHttp(server, { SWARM_STORE: folder.store });
    port = Number(new URL(serving.url).port);
  });
  afterAll(async () => {
    await serving.stop();
    folder[Symbol.dispose]();
  });

  test("answers hosts on this machine by any of its names", async () => {
    verifies("CORE-03");
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`]) {
      expect((await send(port, "/mcp", { ...POST, host }, INITIALIZE)).status).toBe(200);
      const own = { ...POST, host, origin: `http://${host}` };
      expect((await send(port, "/mcp", own, INITIALIZE)).status).toBe(200);
    }
    // through an SSH tunnel the port is another
    const tunnelled = { ...POST, host: "localhost:9999", origin: "http://localhost:9999" };
    expect((await send(port, "/mcp", tunnelled, INITIALIZE)).status).toBe(200);
  });

  test.each([
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example",
    "evil.example:PORT",
    "169.254.169.254",
    "0.0.0.0:PORT",
  ])("refuses the Host header %s with 403, for tools and for health", async (name) => {
    verifies("CORE-03");
    const host = name.replace("PORT", String(port));
    for (const [path, body] of [
      ["/mcp", INITIALIZE],
      ["/health", undefined],
      ["/nowhere", undefined],
    ] as const) {
      const reply = await send(port, path, { ...POST, host }, body);
      expect(reply.status, `${path} with Host ${host}: ${reply.body}`).toBe(403);
      expect(reply.body).not.toContain("serverInfo");
    }
  });

  test.each([
    "http://evil.example",
    "https://127.0.0.1.evil.example",
    "http://localhost.evil.example:PORT",
    "http://localhost:1",
    "http://127.0.0.1",
    "http://[::1]:PORT",
    "null",
    "file://",
  ])("refuses the Origin %s with 403, so no web page reaches it", async (name) => {
    verifies("CORE-03");
    const origin = name.replace("PORT", String(port));
    for (const [path, body] of [
      ["/mcp", INITIALIZE],
      ["/health", undefined],
    ] as const) {
      const reply = await send(port, path, { ...POST, host: `127.0.0.1:${port}`, origin }, body);
      expect(reply.status, `${path} from Origin ${origin}: ${reply.body}`).toBe(403);
    }
  });

  test("an address that is none is answered like any that is not served, and the server lives on", async () => {
    verifies("CORE-03");
    for (const path of ["//", "//:80", "/%", "/\\", "http://", "*"]) {
      expect((await send(port, path, { host: `127.0.0.1:${port}` }, undefined)).status, path).toBe(404);
    }
    expect((await send(port, "/health", {}, undefined)).status).toBe(200);
  });

  test("a preflight from a foreign page is refused and gets no leave to go on", async () => {
    verifies("CORE-03");
    const reply = await fetch(`${serving.url}/mcp`, {
      method: "OPTIONS",
      headers: { origin: "http://evil.example", "access-control-request-method": "POST" },
    });
    expect(reply.status).toBe(403);
    expect(reply.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("listens on loopback alone", async () => {
    verifies("CORE-03");
    const others = Object.values(networkInterfaces())
      .flat()
      .filter((address) => address !== undefined && !address.internal && address.family === "IPv4");
    for (const address of others) {
      const reached = await new Promise<boolean>((resolve) => {
        const socket = connect({ host: address?.address ?? "", port }, () => {
          socket.destroy();
          resolve(true);
        });
        socket.once("error", () => resolve(false));
      });
      expect(reached, `port ${port} at ${address?.address}`).toBe(false);
    }
    // a machine without another address proves it by what the kernel says of the socket
    expect(listeningAt(port) ?? ["127.0.0.1"]).toEqual(["127.0.0.1"]);
  });

  test.each(["0.0.0.0", "192.168.1.20", "[::]", "swarm.example"])("will not bind %s while the swarm is open", async (host) => {
    verifies("CORE-03");
    const outcome = await runBin(server, ["--http", `${host}:0`], { env: { SWARM_STORE: folder.store } });
    expect(outcome).toMatchObject({ code: 1, stdout: "" });
    expect(outcome.stderr).toMatch(/^An open swarm is served on loopback only: .*\n$/);
  });

  test("a port that is taken is said in one line", async () => {
    verifies("CORE-13");
    const outcome = await runBin(server, ["--http", String(port)], { env: { SWARM_STORE: folder.store } });
    expect(outcome).toMatchObject({ code: 1, stdout: "" });
    expect(outcome.stderr).toMatch(new RegExp(`^Port ${port} is taken\\. .*--http.*\\n$`));
  });

  test.each(["99999", "abc", "127.0.0.1:", ""])("--http %j is no address, said in one line", async (address) => {
    verifies("CORE-13");
    const outcome = await runBin(server, ["--http", address], { env: { SWARM_STORE: folder.store } });
    expect(outcome).toMatchObject({ code: 1, stdout: "" });
    expect(outcome.stderr).toMatch(/^--http takes \[host:\]port.*\n$/);
  });

  test.runIf(
    Object.values(networkInterfaces())
      .flat()
      .some((at) => at?.address === "::1"),
  )("serves IPv6's loopback when asked to", async () => {
    verifies("CORE-03");
    const free = await freePort();
    await using v6 = await startServerHttp(server, { SWARM_STORE: folder.store }, ["--http", `[::1]:${free}`]);
    expect(v6.url).toBe(`http://[::1]:${free}`);
    expect((await fetch(`${v6.url}/health`)).status).toBe(200);
  });
});

/** The addresses at which Linux says that something listens on a port; undefined on other systems. */
function listeningAt(port: number): string[] | undefined {
  if (!existsSync("/proc/net/tcp")) return undefined;
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  const LISTEN = "0A";
  const addresses: string[] = [];
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1)) {
    const [, local = "", , state] = line.trim().split(/\s+/);
    const [address = "", at] = local.split(":");
    if (at !== wanted || state !== LISTEN) continue;
    addresses.push([6, 4, 2, 0].map((from) => Number.parseInt(address.slice(from, from + 2), 16)).join("."));
  }
  return addresses;
}
