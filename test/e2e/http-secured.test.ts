/** A secured swarm over HTTP: who is let in, by which credential, and what others are told. */
import { chmodSync } from "node:fs";
import { request } from "node:http";
import { systemClock } from "@mcp-swarm/core";
import { type AgentKeys, ApiKeys, issueToken, readKeyFile, rotateOwn, Trust } from "@mcp-swarm/identity/trust";
import {
  ClientCredentialsProvider,
  Client as ClientV2,
  StreamableHTTPClientTransport as HttpV2,
  type OAuthClientProvider,
  PrivateKeyJwtProvider,
} from "@modelcontextprotocol/client";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { importJWK, SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { type HttpServerProcess, runBin, startHttp, startServerHttp } from "../support/bin.ts";
import { bitFlips, control, FORGERIES, type ForgeryGround, handmade } from "../support/forgeries.ts";
import { binOf, eventually, temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

const CLIENT = { name: "remote-host", version: "1.0.0" };
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const SERVER = "task-coordination";

interface Reply {
  status: number;
  headers: Headers;
  body: Record<string, unknown>;
}

async function reply(response: Response): Promise<Reply> {
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.startsWith("application/json") === true;
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : { text } };
}

/** A call of a tool, written by hand. */
async function post(url: string, headers: Record<string, string>, tool = "get_all_tasks", args: object = {}): Promise<Reply> {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: tool, arguments: args } });
  const accept = "application/json, text/event-stream";
  return reply(await fetch(url, { method: "POST", headers: { "content-type": "application/json", accept, ...headers }, body }));
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function askToken(
  gateway: string,
  form: Record<string, string> | string,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const type = { "content-type": "application/x-www-form-urlencoded" };
  const body = typeof form === "string" ? form : new URLSearchParams(form).toString();
  return reply(await fetch(`${gateway}/oauth/token`, { method: "POST", headers: { ...type, ...headers }, body }));
}

function jwkOf({ sign }: AgentKeys) {
  return sign.privateKey.export({ format: "jwk" });
}

async function assertionOf(keys: AgentKeys, audience: string, change: Record<string, unknown> = {}): Promise<string> {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { iss: keys.agentId, sub: keys.agentId, aud: audience, iat, exp: iat + 60, jti: crypto.randomUUID(), ...change };
  const key = await importJWK(jwkOf(keys) as { kty: string }, "EdDSA");
  return new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", typ: "JWT" }).sign(key);
}

/** Calls a tool of a server as an official client does that is given a provider of tokens. */
async function callWith(
  url: string,
  authProvider: OAuthClientProvider,
  mode: "legacy" | { pin: string } = { pin: "2026-07-28" },
) {
  const client = new ClientV2(CLIENT, { versionNegotiation: { mode } });
  await client.connect(new HttpV2(new URL(url), { authProvider }));
  return {
    call: async (name: string, args: Record<string, unknown> = {}) => {
      const { structuredContent, isError, content } = await client.callTool({ name, arguments: args });
      if (isError) throw new Error(JSON.stringify(content));
      return structuredContent as Record<string, unknown>;
    },
    [Symbol.asyncDispose]: () => client.close(),
  };
}

describe("a secured swarm over HTTP", () => {
  const folder = temporaryFolder();
  let swarm: SecuredSwarm;
  let gateway: HttpServerProcess;
  let env: Record<string, string>;
  let worker: AgentKeys;
  let other: AgentKeys;
  let issuer: AgentKeys;
  const resource = (server = SERVER) => `${gateway.url}/${server}/mcp`;

  const keysOf = async (agentId: string, terms?: Parameters<SecuredSwarm["enroll"]>[1]) =>
    readKeyFile(await swarm.enroll(agentId, terms));
  const bundle = async () => (await swarm.admin.read()).bundle;
  /** A token that an agent signs itself. */
  const tokenOf = async (keys: AgentKeys, audience: string, more: { scope?: string; agentId?: string } = {}) =>
    (await issueToken(keys, await bundle(), { agentId: keys.agentId, audience, ...more }, { now: Date.now() })).token;

  beforeAll(async () => {
    swarm = await SecuredSwarm.secure({ store: folder.store });
    worker = await keysOf("build-7");
    other = await keysOf("build-8");
    issuer = await keysOf("gateway", { roles: [], issuer: true });
    env = { SWARM_STORE: folder.store, SWARM_LOG: "debug", SWARM_KEY_FILE: swarm.keyFile("gateway") };
    gateway = await startHttp([binOf("gateway"), "--http", "0"], env, { says: /gateway is running at (http:\/\/\S+?)\. Stop/ });
  });
  afterAll(async () => {
    await gateway?.stop();
    await swarm?.[Symbol.asyncDispose]();
    folder[Symbol.dispose]();
  });

  test("health needs no token, everything else does, and says where the resource's metadata is", async () => {
    verifies("SEC-13");
    expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
    const refused = await post(resource(), {});
    expect(refused.status).toBe(401);
    const metadataUrl = `${gateway.url}/.well-known/oauth-protected-resource/${SERVER}/mcp`;
    expect(refused.headers.get("www-authenticate")).toBe(`Bearer resource_metadata="${metadataUrl}"`);
    const named = await post(resource(), { "swarm-agent": "build-7" });
    expect(named.status).toBe(401);
    for (const method of ["GET", "DELETE", "PUT"]) expect((await fetch(resource(), { method })).status).toBe(401);
    const metadata = await reply(await fetch(metadataUrl));
    expect(metadata.body).toMatchObject({
      resource: resource(),
      authorization_servers: [gateway.url],
      bearer_methods_supported: ["header"],
      scopes_supported: expect.arrayContaining(["task:*", "workflow:*"]),
    });
    const issuerMetadata = await reply(await fetch(`${gateway.url}/.well-known/oauth-authorization-server`));
    expect(issuerMetadata.body).toMatchObject({
      issuer: gateway.url,
      token_endpoint: `${gateway.url}/oauth/token`,
      grant_types_supported: ["client_credentials"],
      token_endpoint_auth_signing_alg_values_supported: ["EdDSA"],
    });
    const signIn = await fetch(String(issuerMetadata.body.authorization_endpoint));
    expect(await reply(signIn)).toMatchObject({ status: 400, body: { error: "unsupported_response_type" } });
    for (const path of ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/nowhere/mcp"]) {
      expect((await fetch(gateway.url + path)).status).toBe(404);
    }
  });

  test.each([
    ["legacy", "legacy"],
    ["2026-07-28", { pin: "2026-07-28" }],
  ] as const)(
    "the official client finds the issuer by itself, proves its key, and calls tools of every server, in protocol %s",
    async (_, mode) => {
      verifies("SEC-13", "SEC-02");
      for (const [server, tool] of [
        [SERVER, "get_all_tasks"],
        ["agent-comm", "list_agents"],
        ["shared-state", "list_locks"],
      ] as const) {
        const provider = new PrivateKeyJwtProvider({
          clientId: "build-7",
          privateKey: jwkOf(worker) as Record<string, unknown>,
          algorithm: "EdDSA",
          expectedIssuer: gateway.url,
        });
        await using host = await callWith(resource(server), provider, mode);
        expect(await host.call(tool)).toMatchObject({ caller: { agentId: "build-7", verified: true } });
        expect(provider.tokens()?.scope).toMatch(/\w+:\*/);
      }
    },
  );

  test("a client whose token is too narrow is told what it needs, and asks for it by itself", async () => {
    verifies("SEC-13");
    const narrow = await tokenOf(worker, resource(), { scope: "task:read" });
    expect((await post(resource(), bearer(narrow))).status).toBe(200);
    const refused = await post(resource(), bearer(narrow), "add_task", { id: "narrow", description: "Work" });
    expect(refused.status).toBe(403);
    expect(refused.headers.get("www-authenticate")).toMatch(
      /^Bearer error="insufficient_scope", .*scope="task:add", resource_metadata="http/,
    );
    const batch = [
      { jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: "add_task", arguments: {} } },
      { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "cancel_task", arguments: {} } },
    ];
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream", ...bearer(narrow) };
    const several = await reply(await fetch(resource(), { method: "POST", headers, body: JSON.stringify(batch) }));
    expect(several.status).toBe(403);
    const scope = /scope="([^"]*)"/.exec(several.headers.get("www-authenticate") ?? "")?.[1]?.split(" ");
    expect(scope).toEqual(expect.arrayContaining(["task:add", "task:cancel"]));

    const provider = new PrivateKeyJwtProvider({
      clientId: "build-7",
      privateKey: jwkOf(worker) as Record<string, unknown>,
      algorithm: "EdDSA",
      expectedIssuer: gateway.url,
    });
    provider.saveTokens({ access_token: narrow, token_type: "Bearer", issuer: gateway.url } as never);
    await using host = await callWith(resource(), provider);
    expect(await host.call("add_task", { id: "stepped-up", description: "Work" })).toMatchObject({ task: { id: "stepped-up" } });
    expect(provider.tokens()?.access_token).not.toBe(narrow);
  });

  test("a scope bounds what a tool gathers that reaches several kinds of things", async () => {
    verifies("SEC-13");
    const audience = resource("shared-state");
    const all = bearer(await tokenOf(worker, audience));
    await post(audience, all, "set_state", { key: "gathered", value: "of a scope" });
    const gather = async (scope?: string) => {
      const token = await tokenOf(worker, audience, scope === undefined ? {} : { scope });
      return JSON.stringify((await post(audience, bearer(token), "get_context", { keys: [{ key: "gathered" }] })).body);
    };
    expect(await gather()).toContain("of a scope");
    expect(await gather("context:read state:read")).toContain("of a scope");
    expect(await gather("context:read")).toMatch(/permission_denied/);
  });

  test("a scope bounds resources and streams as it bounds tools", async () => {
    verifies("SEC-13");
    await post(resource("shared-state"), bearer(await tokenOf(worker, resource("shared-state"))), "set_state", {
      key: "scoped",
      value: 1,
    });
    const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
    const ask = async (token: string, method: string, params: object) => {
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
      return reply(await fetch(resource("shared-state"), { method: "POST", headers: { ...headers, ...bearer(token) }, body }));
    };
    const unfit = await tokenOf(worker, resource("shared-state"), { scope: "lock:* state:write" });
    const listen = { notifications: { resourceSubscriptions: ["state://global/scoped"] } };
    for (const [method, params] of [
      ["resources/read", { uri: "state://global/scoped" }],
      ["resources/subscribe", { uri: "state://global/scoped" }],
      ["subscriptions/listen", listen],
      ["resources/list", {}],
    ] as const) {
      const refused = await ask(unfit, method, params);
      expect(refused.status, method).toBe(403);
      expect(refused.headers.get("www-authenticate"), method).toMatch(/error="insufficient_scope".* scope="[^"]*state:read/);
    }
    expect((await ask(unfit, "tools/list", {})).status).toBe(200);
    const fit = await tokenOf(worker, resource("shared-state"), { scope: "*:read" });
    expect((await ask(fit, "resources/read", { uri: "state://global/scoped" })).status).toBe(200);
    const client = new ClientV2(CLIENT, { versionNegotiation: { mode: { pin: "2026-07-28" } } });
    await client.connect(new HttpV2(new URL(resource("shared-state")), { requestInit: { headers: bearer(fit) } }));
    let told = 0;
    client.setNotificationHandler("notifications/resources/updated", () => {
      told += 1;
    });
    const stream = await client.listen({ resourceSubscriptions: ["state://global/scoped"] });
    expect(stream.honoredFilter.resourceSubscriptions).toEqual(["state://global/scoped"]);
    await post(resource("shared-state"), bearer(await tokenOf(worker, resource("shared-state"))), "set_state", {
      key: "scoped",
      value: 2,
    });
    await eventually("the stream tells of the change", () => told > 0);
    await stream.close();
    await client.close();
  });

  test("an official client of the line before is let in with a token in a plain header, and with an API key", async () => {
    verifies("SEC-13", "SEC-01");
    const made = new ApiKeys(issuer).create({ agentId: "build-7" });
    await swarm.store.transact((tx) => made.put(tx));
    for (const credential of [await tokenOf(worker, resource()), made.text]) {
      const client = new ClientV1(CLIENT);
      const transport = new HttpV1(new URL(resource()), { requestInit: { headers: bearer(credential) } });
      await client.connect(transport as Parameters<typeof client.connect>[0]);
      const { structuredContent } = await client.callTool({ name: "get_all_tasks", arguments: {} });
      expect(structuredContent).toMatchObject({ caller: { agentId: "build-7", verified: true } });
      await client.close();
    }
    expect((await post(resource(), bearer(`${made.text.slice(0, -1)}${made.text.endsWith("A") ? "B" : "A"}`))).status).toBe(401);
    const provider = new ClientCredentialsProvider({
      clientId: "build-7",
      clientSecret: made.text,
      expectedIssuer: gateway.url,
    });
    await using host = await callWith(resource(), provider);
    expect(await host.call("get_all_tasks")).toMatchObject({ caller: { agentId: "build-7", verified: true } });
    await swarm.store.transact((tx) => new ApiKeys(issuer).revoke(tx, made.id));
    expect((await post(resource(), bearer(made.text))).status).toBe(401);
  });

  test("the gateway says how to mount a secured swarm: with keys, and not with names", () => {
    expect(gateway.output()).toContain('--header "Authorization: Bearer ');
    expect(gateway.output()).toContain("--env SWARM_KEY_FILE=");
    expect(gateway.output()).not.toContain("Swarm-Agent");
  });

  test.each<[number, (token: string) => string]>([
    [200, (token) => `bearer ${token}`],
    [200, (token) => `BEARER   ${token}`],
    [401, (token) => token],
    [401, (token) => `Basic ${token}`],
    [401, (token) => `Bearer ${token} ${token}`],
    [401, (token) => `Bearer ${token}, Bearer ${token}`],
    [401, (token) => `Bearer "${token}"`],
    [401, () => "Bearer"],
    [401, () => "Bearer undefined"],
  ])("answers %i to one way of writing the header", async (status, header) => {
    verifies("SEC-13");
    const authorization = header(await tokenOf(worker, resource()));
    expect((await post(resource(), { authorization })).status).toBe(status);
    // neither the URL nor a form is a place for a token
    const elsewhere = await post(`${resource()}?access_token=${await tokenOf(worker, resource())}`, {});
    expect(elsewhere.status).toBe(401);
  });

  test("a token is good for one server alone", async () => {
    verifies("SEC-13");
    const token = await tokenOf(worker, resource("agent-comm"));
    expect((await post(resource("agent-comm"), bearer(token), "list_agents")).status).toBe(200);
    const elsewhere = await post(resource(), bearer(token));
    expect(elsewhere).toMatchObject({ status: 401, body: { error: "invalid_token" } });
    // under this server's other name it is the same server
    const localhost = gateway.url.replace("127.0.0.1", "localhost");
    expect((await post(resource(), bearer(await tokenOf(worker, `${localhost}/${SERVER}/mcp`)))).status).toBe(200);
  });

  test("the Swarm-Agent header names the token's agent or its subagent, and nobody else", async () => {
    verifies("SEC-06");
    const token = await tokenOf(worker, resource());
    for (const agent of ["build-7", "build-7/reviewer"]) {
      const { body } = await post(resource(), { ...bearer(token), "swarm-agent": agent });
      expect(JSON.stringify(body)).toContain(`\\"agentId\\":\\"${agent}\\",\\"verified\\":true`);
    }
    for (const agent of ["build-8", "build-70", "build", "build-8/reviewer", "gateway"]) {
      expect((await post(resource(), { ...bearer(token), "swarm-agent": agent })).status).toBe(403);
    }
    const childs = await tokenOf(worker, resource(), { agentId: "build-7/reviewer" });
    expect((await post(resource(), { ...bearer(childs), "swarm-agent": "build-7/reviewer" })).status).toBe(200);
    expect((await post(resource(), { ...bearer(childs), "swarm-agent": "build-7" })).status).toBe(403);
  });

  test("what policy denies stays denied whatever the token's scope, and is written down under the proven name", async () => {
    verifies("SEC-05");
    const watcher = await keysOf("watcher", { roles: ["observer"] });
    const form = async () => ({
      grant_type: "client_credentials",
      client_assertion_type: ASSERTION_TYPE,
      client_assertion: await assertionOf(watcher, gateway.url),
      resource: resource(),
      scope: "*",
    });
    const own = await tokenOf(watcher, resource());
    await eventually("the new member is known", async () => (await post(resource(), bearer(own))).status === 200);
    const token = String((await askToken(gateway.url, await form())).body.access_token);
    expect(JSON.stringify(await post(resource(), bearer(token)))).toContain('\\"verified\\":true');
    const { body } = await post(resource(), bearer(token), "add_task", { id: "w", description: "Work" });
    const refused = JSON.stringify(body);
    expect(refused).toContain("permission_denied");
    expect(await swarm.audited({ agentId: "watcher" })).toContainEqual(
      expect.objectContaining({ agentId: "watcher", verified: true, outcome: "deny", operation: "task:add" }),
    );
  });

  describe("the token endpoint", () => {
    const good = async (change: Record<string, string> = {}, claims: Record<string, unknown> = {}, keys = worker) => ({
      grant_type: "client_credentials",
      client_assertion_type: ASSERTION_TYPE,
      client_assertion: await assertionOf(keys, `${gateway.url}/oauth/token`, claims),
      resource: resource(),
      ...change,
    });

    test("gives a token for a quarter of an hour, of the scope that was asked for, and nobody keeps it", async () => {
      verifies("SEC-02");
      const given = await askToken(gateway.url, await good({ scope: "task:read" }));
      expect(given).toMatchObject({ status: 200, body: { token_type: "Bearer", scope: "task:read" } });
      expect(given.body.expires_in).toBeGreaterThan(880);
      expect(given.body.expires_in).toBeLessThanOrEqual(900);
      expect(given.headers.get("cache-control")).toBe("no-store");
      const token = String(given.body.access_token);
      expect((await post(resource(), bearer(token))).status).toBe(200);
      expect((await post(resource(), bearer(token), "add_task", { id: "x", description: "Work" })).status).toBe(403);
      expect(await swarm.audited({ agentId: "build-7" })).toContainEqual(
        expect.objectContaining({
          operation: "token:issue",
          resource: "agent/build-7",
          outcome: "authenticated",
          tool: "oauth/token",
        }),
      );
    });

    test("takes an assertion once, also when it comes twice at the same moment", async () => {
      verifies("SEC-13", "SEC-07");
      const form = await good();
      const both = await Promise.all([askToken(gateway.url, form), askToken(gateway.url, form)]);
      expect(both.map(({ status }) => status).sort()).toEqual([200, 401]);
      expect(await askToken(gateway.url, form)).toMatchObject({ status: 401, body: { error: "invalid_client" } });
      expect(await swarm.audited({ operation: "token:issue", outcome: "refused" })).not.toEqual([]);
    });

    test.each<[string, number, string, () => Promise<Record<string, string> | string>]>([
      ["another grant", 400, "unsupported_grant_type", () => good({ grant_type: "password" })],
      ["no grant", 400, "unsupported_grant_type", () => good({ grant_type: "" })],
      ["no resource", 400, "invalid_target", () => good({ resource: "" })],
      ["a resource of someone else", 400, "invalid_target", () => good({ resource: "https://elsewhere.example/mcp" })],
      ["a scope that is none", 400, "invalid_scope", () => good({ scope: 'task:read "x"' })],
      ["no proof", 401, "invalid_client", () => good({ client_assertion: "" })],
      ["another type of proof", 401, "invalid_client", () => good({ client_assertion_type: "urn:x" })],
      ["an assertion for another issuer", 401, "invalid_client", () => good({}, { aud: "https://elsewhere.example" })],
      ["an assertion that has ended", 401, "invalid_client", () => good({}, { iat: 1_700_000_000, exp: 1_700_000_060 })],
      ["an assertion by another's key", 401, "invalid_client", () => good({}, { iss: "build-7", sub: "build-7" }, other)],
      ["another agent's id beside it", 401, "invalid_client", () => good({ client_id: "build-8" })],
      ["an API key that is none", 401, "invalid_client", () => good({ client_id: "build-7", client_secret: "swarm_key-x_y" })],
      ["a parameter twice", 400, "invalid_request", async () => `${new URLSearchParams(await good())}&resource=x`],
      ["a body too large", 413, "invalid_request", () => good({ padding: "x".repeat(20_000) })],
    ])("refuses %s", async (_, status, error, form) => {
      verifies("SEC-13");
      expect(await askToken(gateway.url, await form())).toMatchObject({ status, body: { error } });
      expect((await askToken(gateway.url, await good())).status).toBe(200);
    });

    test("is asked with POST and a form", async () => {
      expect((await fetch(`${gateway.url}/oauth/token`)).status).toBe(405);
      const json = { "content-type": "application/json" };
      expect(await askToken(gateway.url, "{}", json)).toMatchObject({ status: 400, body: { error: "invalid_request" } });
    });
  });

  test("every forged token is refused, while a good one passes, and the flood of them is written down a few times", async () => {
    verifies("SEC-07", "SEC-12");
    const [revoked, quarantined] = [await keysOf("gone"), await keysOf("held")];
    const former = worker.sign;
    const trust = await Trust.open({
      store: swarm.store,
      clock: systemClock,
      rootKey: swarm.rootKey,
      self: worker,
      onError() {},
    });
    await rotateOwn({ store: swarm.store, trust, keyFile: swarm.keyFile("build-7") });
    await trust.close();
    worker = await readKeyFile(swarm.keyFile("build-7"));
    await swarm.admin.revoke("gone");
    await swarm.admin.quarantine("held", true);
    await swarm.admin.bumpEpoch();
    const revokedJti = "token-taken-back";
    await swarm.admin.revokeToken(revokedJti, Date.now() + 900_000);
    const { epoch } = await bundle();
    const ground = (): ForgeryGround => ({
      audience: resource(),
      now: Date.now(),
      epoch,
      issuer,
      agent: worker,
      other,
      revoked,
      quarantined,
      former,
      revokedJti,
    });
    const status = async (token: string) => (await post(resource(), bearer(token))).status;
    await eventually("the new bundle is in force", async () => (await status(await control(ground()))) === 200);
    for (const make of handmade) expect(await status(make(ground()))).toBe(200);
    const passed: string[] = [];
    for (const { name, make, inHeader } of FORGERIES) {
      if (!inHeader) continue;
      if ((await status(await make(ground()))) !== 401) passed.push(name);
    }
    expect(passed).toEqual([]);
    // every bit of the signature's text and of a stretch of the rest; the whole is done without HTTP
    const token = await control(ground());
    const flips = [...bitFlips(token)].filter(({ text }) => /^[\x21-\x7e]+$/.test(text)).filter((_, i) => i % 7 === 0);
    for (const { at, text } of flips) if ((await status(text)) !== 401) passed.push(at);
    expect(passed).toEqual([]);
    expect(flips.length).toBeGreaterThan(200);
    expect(await status(await control(ground()))).toBe(200);
    const refusals = await swarm.audited({ operation: "authenticate" });
    expect(refusals).toContainEqual(
      expect.objectContaining({ agentId: "nobody", verified: false, outcome: "refused", reason: "unauthenticated" }),
    );
    expect(refusals.length).toBeLessThan(20);
  });

  test("a token that is revoked is refused within seconds, and a stream that was opened with it ends", async () => {
    verifies("SEC-08");
    const issued = await issueToken(
      other,
      await bundle(),
      { agentId: "build-8", audience: resource("shared-state") },
      { now: Date.now() },
    );
    const client = new ClientV2(CLIENT, { versionNegotiation: { mode: { pin: "2026-07-28" } } });
    await client.connect(new HttpV2(new URL(resource("shared-state")), { requestInit: { headers: bearer(issued.token) } }));
    await client.callTool({ name: "set_state", arguments: { key: "watched", value: 1 } });
    const stream = await client.listen({ resourceSubscriptions: ["state://global/watched"] });
    expect(stream.honoredFilter.resourceSubscriptions).toEqual(["state://global/watched"]);
    let ended = false;
    stream.closed.then(
      () => {
        ended = true;
      },
      () => {
        ended = true;
      },
    );
    await swarm.admin.revokeToken(issued.jti, issued.expiresAt);
    await eventually(
      "the token is refused",
      async () => (await post(resource("shared-state"), bearer(issued.token), "list_locks")).status === 401,
    );
    await eventually("the stream has ended", () => ended);
    await client.close();
  });

  test("a call that waits, or whose body is still to come, ends when its token is revoked, and does nothing", async () => {
    verifies("SEC-08");
    const audience = resource("shared-state");
    const issued = await issueToken(other, await bundle(), { agentId: "build-8", audience }, { now: Date.now() });
    const waiting = post(audience, bearer(issued.token), "wait_for_state", { key: "late", waitMs: 50_000 }).then(
      ({ body }) => `answered ${JSON.stringify(body)}`,
      () => "ended",
    );
    const call = {
      jsonrpc: "2.0",
      id: 1,
      method: "tools/call",
      params: { name: "set_state", arguments: { key: "late", value: 1 } },
    };
    const body = JSON.stringify(call);
    const headers = {
      ...bearer(issued.token),
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "content-length": String(body.length),
    };
    const { promise: slow, resolve: isOver } = Promise.withResolvers<string>();
    const sending = request(audience, { method: "POST", headers }, (response) => isOver(`answered ${response.statusCode}`));
    sending.on("error", () => isOver("ended"));
    sending.write(body.slice(0, 20));
    // both requests are let in before this one is answered: connections are taken in their order
    await post(audience, bearer(issued.token), "list_locks");
    await swarm.admin.revokeToken(issued.jti, issued.expiresAt);
    expect(await waiting).toBe("ended");
    sending.end(body.slice(20));
    expect(await slow).toBe("ended");
    const good = await tokenOf(other, audience);
    const read = await post(audience, bearer(good), "get_state", { key: "late" });
    expect(JSON.stringify(read.body)).toContain("not_found");
  });

  test("no credential appears in what the process says", async () => {
    verifies("SEC-15");
    const token = await tokenOf(other, resource());
    await post(resource(), bearer(token));
    await post(resource(), bearer(`${token}x`));
    const assertion = await assertionOf(other, gateway.url);
    await askToken(gateway.url, {
      grant_type: "client_credentials",
      client_assertion: assertion,
      client_assertion_type: ASSERTION_TYPE,
    });
    for (const secret of [token, assertion]) {
      for (const part of secret.split(".")) expect(gateway.output()).not.toContain(part);
    }
  });

  test("a flood of requests for tokens is turned away, and calls go on", async () => {
    verifies("SEC-12");
    const token = await tokenOf(other, resource());
    const flood = Array.from({ length: 150 }, () =>
      askToken(gateway.url, { grant_type: "client_credentials", resource: resource() }),
    );
    const replies = await Promise.all(flood);
    const turnedAway = replies.filter(({ status }) => status === 429);
    expect(turnedAway.length).toBeGreaterThan(20);
    expect(turnedAway[0]?.headers.get("retry-after")).toBe("60");
    expect((await post(resource(), bearer(token))).status).toBe(200);
    expect((await swarm.audited({ operation: "token:issue", outcome: "refused" })).length).toBeLessThan(20);
  });
});

describe("one server of a secured swarm over HTTP", () => {
  test("without a key of its own it issues nothing, and takes what agents sign themselves", async () => {
    verifies("SEC-13");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    const worker = await readKeyFile(await swarm.enroll("build-7"));
    const { bundle } = await swarm.admin.read();
    await using serving = await startServerHttp(SERVER, {
      SWARM_STORE: folder.store,
      SWARM_ROOT_KEY: swarm.rootKey,
      XDG_DATA_HOME: folder.path,
    });
    const metadata = await reply(await fetch(`${serving.url}/.well-known/oauth-protected-resource/mcp`));
    expect(metadata.body).toMatchObject({ resource: `${serving.url}/mcp` });
    expect(metadata.body).not.toHaveProperty("authorization_servers");
    expect((await fetch(`${serving.url}/.well-known/oauth-authorization-server`)).status).toBe(404);
    const form = {
      grant_type: "client_credentials",
      client_assertion_type: ASSERTION_TYPE,
      client_assertion: await assertionOf(worker, serving.url),
      resource: `${serving.url}/mcp`,
    };
    expect((await askToken(serving.url, form)).status).toBe(503);
    const wanted = { agentId: "build-7", audience: `${serving.url}/mcp` };
    const { token } = await issueToken(worker, bundle, wanted, { now: Date.now() });
    expect((await post(`${serving.url}/mcp`, bearer(token))).status).toBe(200);
    expect((await post(`${serving.url}/${SERVER}/mcp`, bearer(token))).status).toBe(401);
  });

  test("tells nobody where its files are when it does not open", async () => {
    verifies("SEC-15");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    const keyFile = await swarm.enroll("gateway", { roles: [], issuer: true });
    chmodSync(keyFile, 0o644);
    await using serving = await startServerHttp(SERVER, {
      SWARM_STORE: folder.store,
      SWARM_KEY_FILE: keyFile,
      SWARM_LOG: "warn",
    });
    const asked = ["/health", "/mcp", "/oauth/token", "/.well-known/oauth-protected-resource/mcp"];
    const told = await Promise.all(asked.map(async (path) => (await fetch(serving.url + path)).text()));
    await eventually("the log says what is wrong", () => serving.output().includes(keyFile));
    for (const [at, text] of told.entries()) {
      expect(text, asked[at]).toContain("log");
      expect(text, asked[at]).not.toContain(keyFile);
    }
  });

  test("binds another address than loopback, under the names that it is given, and under no other", async () => {
    verifies("CORE-03");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    const worker = await readKeyFile(await swarm.enroll("build-7"));
    const { bundle } = await swarm.admin.read();
    const env = { SWARM_STORE: folder.store, SWARM_ROOT_KEY: swarm.rootKey, XDG_DATA_HOME: folder.path };
    const unnamed = await runBin(SERVER, ["--http", "0.0.0.0:0"], { env });
    expect(unnamed).toMatchObject({ code: 1, stdout: "" });
    expect(unnamed.stderr).toMatch(/SWARM_PUBLIC_URL/);

    await using serving = await startServerHttp(SERVER, { ...env, SWARM_PUBLIC_URL: "https://swarm.example/a/" }, [
      "--http",
      "0.0.0.0:0",
    ]);
    expect(serving.output()).not.toContain("in clear");
    const port = Number(new URL(serving.url).port);
    const audience = "https://swarm.example/a/mcp";
    const { token } = await issueToken(worker, bundle, { agentId: "build-7", audience }, { now: Date.now() });
    const call = JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "tools/call",
      params: { name: "get_all_tasks", arguments: {} },
    });
    const ask = (headers: Record<string, string>, path = "/mcp") =>
      new Promise<{ status: number; challenge: string }>((resolve, reject) => {
        const accept = "application/json, text/event-stream";
        const all = { "content-type": "application/json", accept, ...headers };
        const sent = request({ host: "127.0.0.2", port, path, method: "POST", headers: all }, (response) => {
          response.resume();
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, challenge: response.headers["www-authenticate"] ?? "" }),
          );
        });
        sent.on("error", reject);
        sent.end(call);
      });
    expect(await ask({ host: "swarm.example", ...bearer(token) })).toMatchObject({ status: 200 });
    expect(await ask({ host: "swarm.example", ...bearer(token) }, "/a/mcp")).toMatchObject({ status: 200 });
    const own = { host: "swarm.example", origin: "https://swarm.example", ...bearer(token) };
    expect(await ask(own)).toMatchObject({ status: 200 });
    expect(await ask({ host: "swarm.example" })).toEqual({
      status: 401,
      challenge: 'Bearer resource_metadata="https://swarm.example/.well-known/oauth-protected-resource/a/mcp"',
    });
    for (const headers of [
      { host: "127.0.0.2" },
      { host: "evil.example" },
      { host: "swarm.example.evil.example" },
      { host: "swarm.example", origin: "https://evil.example" },
      { host: "swarm.example", origin: "null" },
    ]) {
      expect(await ask({ ...headers, ...bearer(token) }), JSON.stringify(headers)).toMatchObject({ status: 403 });
    }
  });

  test("an address of its own needs no other name, and says that its tokens travel in clear", async () => {
    verifies("CORE-03");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    const worker = await readKeyFile(await swarm.enroll("build-7"));
    const { bundle } = await swarm.admin.read();
    const env = { SWARM_STORE: folder.store, SWARM_ROOT_KEY: swarm.rootKey, XDG_DATA_HOME: folder.path };
    await using serving = await startServerHttp(SERVER, env, ["--http", "127.0.0.2:0"]);
    expect(serving.url).toMatch(/^http:\/\/127\.0\.0\.2:/);
    const wanted = { agentId: "build-7", audience: `${serving.url}/mcp` };
    const { token } = await issueToken(worker, bundle, wanted, { now: Date.now() });
    expect((await post(`${serving.url}/mcp`, bearer(token))).status).toBe(200);
    expect((await post(`${serving.url}/mcp`, {})).status).toBe(401);
    await eventually("it is said", () => serving.output().includes("Tokens travel in clear"));
  });

  test("an open process over its store refuses everything, whatever name it is given", async () => {
    verifies("SEC-05");
    using folder = temporaryFolder();
    await using _swarm = await SecuredSwarm.secure(folder);
    await using serving = await startServerHttp(SERVER, { SWARM_STORE: folder.store });
    const { body } = await post(`${serving.url}/mcp`, { "swarm-agent": "build-7" });
    expect(JSON.stringify(body)).toContain("failed_precondition");
    const refused = await runBin(SERVER, ["--http", "127.0.0.2:0"], { env: { SWARM_STORE: folder.store } });
    expect(refused).toMatchObject({ code: 1 });
    expect(refused.stderr).toMatch(/^An open swarm is served on loopback only/);
  });
});

describe.each(ENGINES)("two processes of one issuer on $name", ({ meet }) => {
  test("take each assertion once between them", async () => {
    verifies("SEC-13", "CORE-14");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    const worker = await readKeyFile(await swarm.enroll("build-7"));
    await swarm.enroll("gateway", { roles: [], issuer: true });
    const base = "https://swarm.example";
    const env = { SWARM_STORE: meeting.store, SWARM_KEY_FILE: swarm.keyFile("gateway"), SWARM_PUBLIC_URL: base };
    await using one = await startServerHttp(SERVER, env);
    await using other = await startServerHttp(SERVER, env);
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, async () => {
        const form = {
          grant_type: "client_credentials",
          client_assertion_type: ASSERTION_TYPE,
          client_assertion: await assertionOf(worker, base),
          resource: `${base}/mcp`,
        };
        const replies = await Promise.all([one, other, one].map(({ url }) => askToken(url, form)));
        return replies.map(({ status }) => status).sort();
      }),
    );
    for (const statuses of outcomes) expect(statuses).toEqual([200, 401, 401]);
  });
});
