/** Secrets that are known to the test, and everything that a swarm writes, says or leaves behind: they are nowhere but where they belong. */
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fingerprintOf } from "@mcp-swarm/identity";
import {
  ApiKeys,
  issueToken,
  parseEnrolmentToken,
  readKeyFile,
  readRootKeyFile,
  secretOf,
  writeRootKeyFile,
} from "@mcp-swarm/identity/trust";
import { importJWK, SignJWT } from "jose";
import pg from "pg";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost, runBin, startHttp, startServerHttp } from "../support/bin.ts";
import { Canaries } from "../support/canaries.ts";
import { binOf, eventually, temporaryFolder } from "../support/host.ts";
import { freePort, freshDatabase } from "../support/postgres.ts";
import { SecuredSwarm } from "../support/secured.ts";
import { SERVERS } from "../support/servers.ts";
import { proofOf, Recall } from "./proofs/index.ts";

/** A text that nothing has by chance, and that may stand in a URL as it is. */
const secretText = () => randomBytes(36).toString("base64url");

const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/** Parts of a story that another agent has; they are told by hand below. */
const WITH_ANOTHER = new Set(["request_reply", "get_message"]);
/** Stories are many calls on a machine that does other things too. */
const TIMEOUT_MS = 240_000;

/** Hosts of a swarm whose every answer, and whatever else comes, is looked at. */
class Watched implements AsyncDisposable {
  readonly host: RawHost;
  readonly #canaries: Canaries;
  readonly #name: string;
  /** Answers that hold a secret by right, by their ids. */
  readonly #owned = new Map<unknown, readonly string[]>();

  private constructor(server: string, env: Record<string, string>, canaries: Canaries) {
    this.host = new RawHost(server, env);
    this.#canaries = canaries;
    this.#name = `${server} of ${env.SWARM_KEY_FILE?.split("/").at(-1) ?? "nobody"}`;
  }

  static async start(server: string, env: Record<string, string>, canaries: Canaries): Promise<Watched> {
    const watched = new Watched(server, { SWARM_LOG: "trace", ...env }, canaries);
    await watched.host.initialize();
    return watched;
  }

  /** Calls a tool; `belongs`: what its answer may hold. */
  async try(tool: string, args: object, belongs: readonly string[] = []): Promise<Answer> {
    const message = await this.host.callText(tool, JSON.stringify(args));
    this.#owned.set(message.id, belongs);
    const { isError, structuredContent, content } = (message.result ?? {}) as {
      isError?: boolean;
      structuredContent?: Record<string, unknown>;
      content?: { text?: string }[];
    };
    const text = (content ?? []).map((part) => part.text ?? "").join("\n");
    return { refused: isError === true || message.error !== undefined, text, structured: structuredContent ?? {} };
  }

  /** Calls a tool that must do its work. */
  async call(tool: string, args: object, belongs: readonly string[] = []): Promise<Record<string, unknown>> {
    const { refused, text, structured } = await this.try(tool, args, belongs);
    if (refused) throw new Error(`${tool} failed: ${text}\n${this.host.stderr}`);
    return structured;
  }

  /** Calls a tool that must refuse. */
  async refuse(tool: string, args: object): Promise<string> {
    const { refused, text } = await this.try(tool, args);
    expect(refused, `${tool}: ${text}`).toBe(true);
    return text;
  }

  /** All tools of the server, with their fields. */
  async tools(): Promise<{ name: string; fields: Record<string, { type?: string }> }[]> {
    const { result } = await this.host.ask("tools/list", {});
    const tools = result?.tools as { name: string; inputSchema: { properties?: Record<string, { type?: string }> } }[];
    return tools.map(({ name, inputSchema }) => ({ name, fields: inputSchema.properties ?? {} }));
  }

  /** Looks at everything that the process has said. */
  look(): void {
    for (const message of this.host.messages) {
      const belongs = this.#owned.get(message.id) ?? [];
      this.#canaries.look("answers", `${this.#name}, ${String(message.id)}`, JSON.stringify(message), belongs);
    }
    this.#canaries.look("stdout", this.#name, this.host.strays.join("\n"));
    this.#canaries.look("stderr", this.#name, this.host.stderr);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host.end();
    this.look();
  }
}

interface Answer {
  refused: boolean;
  text: string;
  structured: Record<string, unknown>;
}

/** Where a swarm keeps its rows, with a password in its URL where there can be one. */
interface Place extends Disposable {
  readonly store: string;
  /** Looks at all that lies there. */
  look(canaries: Canaries): Promise<void>;
  /** Takes the table away under the servers. */
  break(): Promise<void>;
}

const PLACES: Readonly<Record<string, (canaries: Canaries) => Promise<Place>>> = {
  SQLite: async () => {
    const folder = temporaryFolder();
    return {
      store: folder.store,
      look: async (canaries) => canaries.lookIntoFolder("store", folder.path),
      break: async () => {
        const db = new DatabaseSync(folder.store.slice("sqlite:".length), { timeout: 10_000 });
        db.exec("DROP TABLE keyv");
        db.close();
      },
      [Symbol.dispose]: () => folder[Symbol.dispose](),
    };
  },
  PostgreSQL: async (canaries) => {
    const url = new URL(await freshDatabase(inject("postgresUrl")));
    const admin = async <T>(use: (client: pg.Client) => Promise<T>): Promise<T> => {
      const client = new pg.Client({ connectionString: url.href });
      await client.connect();
      try {
        return await use(client);
      } finally {
        await client.end();
      }
    };
    const [role, password] = [`canary_${randomBytes(6).toString("hex")}`, secretText()];
    canaries.add("database password", password);
    await admin(async (client) => {
      await client.query(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`);
      await client.query(`ALTER DATABASE ${url.pathname.slice(1)} OWNER TO ${role}`);
      await client.query(`ALTER SCHEMA public OWNER TO ${role}`);
    });
    const named = new URL(url);
    [named.username, named.password] = [role, password];
    return {
      store: named.href,
      look: (looking) =>
        admin(async (client) => {
          const tables = await client.query<{ name: string }>(
            "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
          );
          expect(tables.rows.length).toBeGreaterThan(0);
          for (const { name } of tables.rows) {
            const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
            looking.look("store", name, rows.map(({ row }) => row).join("\n"));
          }
        }),
      break: () => admin(async (client) => void (await client.query("DROP TABLE keyv CASCADE"))),
      [Symbol.dispose]: () => {},
    };
  },
};

const jws = (text: string): string => text.slice(text.lastIndexOf(".") + 1);

/** Wrong inputs for a field: each holds the secret, and no tool takes any of them. */
const wrongFor = (secret: string): unknown[] => [`${secret}\0`, { [secret.slice(0, 8)]: `${secret}\0` }, [[`${secret}\ud800`]]];

test("the search finds a secret however it is written, whole or in part, and finds nothing where there is none", () => {
  const canaries = new Canaries();
  const [text, bytes] = [secretText(), randomBytes(32)];
  canaries.add("text", text);
  canaries.add("bytes", bytes);
  const noise = (n: number) => randomBytes(n * 7);
  const written = (secret: Buffer): (Buffer | string)[] => [
    secret,
    Buffer.concat([noise(3), secret.subarray(4, 30), noise(5)]),
    secret.toString("hex"),
    secret.toString("hex").toUpperCase(),
    JSON.stringify([...secret]),
    ...[0, 1, 2].flatMap((before) => {
      const embedded = Buffer.concat([randomBytes(before), secret, noise(2)]);
      return [embedded.toString("base64"), embedded.toString("base64url")];
    }),
  ];
  for (const one of written(Buffer.from(text))) expect([...canaries.find(one).keys()]).toEqual(["text"]);
  for (const one of written(bytes)) expect([...canaries.find(one).keys()]).toEqual(["bytes"]);
  const special = 'a secret/with "quotes" & line\nbreaks';
  canaries.add("special", special);
  for (const one of [encodeURIComponent(special), JSON.stringify({ special }), JSON.stringify(JSON.stringify([special]))])
    expect([...canaries.find(`before ${one} after`).keys()]).toEqual(["special"]);
  for (let n = 1; n <= 50; n++) expect([...canaries.find(noise(100)).keys()]).toEqual([]);
  expect([...canaries.find(secretText().repeat(100)).keys()]).toEqual([]);
});

describe.each(Object.keys(PLACES))("a secured swarm on %s", (engine) => {
  test("keeps its secrets to itself in all that its servers do, refuse and fail at, and in what their processes leave", {
    timeout: TIMEOUT_MS,
  }, async () => {
    verifies("SEC-15");
    const canaries = new Canaries();
    using place = await (PLACES[engine]?.(canaries) ?? expect.fail("no such engine"));
    await using swarm = await SecuredSwarm.secure(place);
    using folder = temporaryFolder();
    const reports = join(folder.path, "reports");
    mkdirSync(reports);
    const secrets = { value: secretText(), payload: secretText(), misplaced: secretText() };
    canaries.add("root key", secretOf(swarm.root));
    canaries.add("secret value", secrets.value);
    canaries.add("sealed payload", secrets.payload);
    canaries.add("misplaced", secrets.misplaced);

    const watchKeys = async (agent: string) => {
      const keys = await readKeyFile(swarm.keyFile(agent));
      canaries.add(`${agent}'s signing key`, secretOf(keys.sign));
      canaries.add(`${agent}'s encryption key`, secretOf(keys.encrypt));
      return keys;
    };
    const agents: Record<string, string[]> = { teller: ["admin"], reader: ["worker"], watcher: ["observer"] };
    for (const member of SERVERS.flatMap((server) => proofOf(server).members ?? [])) agents[member] ??= ["worker"];
    for (const [agent, roles] of Object.entries(agents)) {
      await swarm.enroll(agent, { roles });
      await watchKeys(agent);
    }
    await swarm.enroll("gate", { roles: ["worker"], issuer: true });
    const gate = await watchKeys("gate");
    const enrolment = (await swarm.admin.enroll("late", { roles: ["worker"] })).token;
    canaries.add("enrolment token", secretOf(parseEnrolmentToken(enrolment).key));
    const apiKey = new ApiKeys(gate).create({ agentId: "reader" });
    await swarm.store.transact((tx) => apiKey.put(tx));
    canaries.add("API key", apiKey.text.slice(-43));

    const crashing = `--report-on-signal --report-on-fatalerror --report-uncaught-exception --report-directory=${reports}`;
    const rootKeyFile = await swarm.rootKeyFile();
    const envOf = (agent: string): Record<string, string> => ({
      SWARM_STORE: place.store,
      SWARM_KEY_FILE: swarm.keyFile(agent),
      NODE_OPTIONS: crashing,
      ...(agent === "teller" ? { SWARM_ROOT_KEY_FILE: rootKeyFile } : {}),
    });
    const start = (server: string, agent: string) => Watched.start(server, envOf(agent), canaries);
    const assertionOf = async (audience: string) => {
      const keys = await readKeyFile(swarm.keyFile("reader"));
      const iat = Math.floor(Date.now() / 1000);
      const claims = { iss: "reader", sub: "reader", aud: audience, iat, exp: iat + 60, jti: secretText() };
      const key = await importJWK(keys.sign.privateKey.export({ format: "jwk" }) as { kty: string }, "EdDSA");
      const text = await new SignJWT(claims).setProtectedHeader({ alg: "EdDSA", typ: "JWT" }).sign(key);
      canaries.add("assertion", jws(text));
      return text;
    };
    const audience = "http://127.0.0.1:1/mcp";

    // every tool of every server, and every field of it given what does not belong there
    for (const server of SERVERS) {
      await using host = await start(server, "teller");
      const recall = new Recall();
      for (const [tool, args] of proofOf(server).story) {
        if (WITH_ANOTHER.has(tool)) continue;
        const answer = await host.call(tool, recall.fill(args), ["session token"]);
        recall.learn(answer);
        if (typeof answer.token === "string") canaries.add("session token", jws(answer.token));
      }
      for (const { name, fields } of await host.tools()) {
        for (const field of Object.keys(fields)) {
          for (const wrong of wrongFor(secrets.misplaced)) await host.refuse(name, { [field]: wrong });
        }
        await host.refuse(name, { unheardOf: secrets.misplaced });
      }
      // lines that are no requests
      for (const line of [
        `{"a": ${secrets.misplaced}`,
        secrets.misplaced,
        `"${secrets.misplaced}"`,
        `{"${secrets.misplaced}": 1}`,
      ])
        host.host.write(`${line}\n`);
      host.host.child.kill("SIGUSR2"); // what Node then writes is what it writes at a crash
      await eventually("the report of a crash is written", () =>
        readdirSync(reports).some((file) => file.includes(`.${host.host.pid}.`)),
      );
    }
    await watchKeys("teller"); // the story may have replaced them

    // secrets where they belong, and where they are refused
    {
      await using teller = await start("security", "teller");
      await using reader = await start("security", "reader");
      await using watcher = await start("security", "watcher");
      await using issuer = await start("security", "gate");
      await teller.call("put_secret", { name: "db", value: secrets.value });
      const read = await teller.call("get_secret", { name: "db" }, ["secret value"]);
      expect([...canaries.find(JSON.stringify(read)).keys()]).toEqual(["secret value"]); // the search finds what is there
      await teller.call("list_secrets", {});
      for (const other of [reader, watcher]) {
        expect(await other.refuse("get_secret", { name: "db" })).toMatch(/^permission_denied/);
        expect(await other.refuse("put_secret", { name: "db", value: secrets.value })).toMatch(/^permission_denied/);
        expect(await other.refuse("put_secret", { name: secrets.value.repeat(4), value: secrets.value })).toMatch(
          /^invalid_argument/,
        );
      }
      const made = await teller.call("authenticate_agent", { agentId: "teller", audience }, ["session token"]);
      canaries.add("session token", jws(String(made.token)));
      const byKey = { agentId: "reader", audience, credentials: { apiKey: apiKey.text } };
      const proven = await issuer.call("authenticate_agent", byKey, ["session token"]);
      canaries.add("session token", jws(String(proven.token)));
      const bySignature = { agentId: "reader", audience, credentials: { assertion: await assertionOf("gate") } };
      const signed = await issuer.call("authenticate_agent", bySignature, ["session token"]);
      canaries.add("session token", jws(String(signed.token)));
      await issuer.refuse("authenticate_agent", bySignature); // it is used up
      await issuer.refuse("authenticate_agent", { ...byKey, agentId: "watcher" });
      await issuer.refuse("authenticate_agent", { ...byKey, credentials: { apiKey: `${apiKey.text}x` } });
      await issuer.refuse("authenticate_agent", { ...byKey, credentials: { assertion: String(made.token) } });
      const { sealed } = await teller.call("encrypt_message", { payload: { deep: [secrets.payload] }, recipients: ["reader"] });
      await reader.call("decrypt_message", { sealed }, ["sealed payload"]);
      await reader.refuse("decrypt_message", { sealed }); // a replay
      await watcher.refuse("decrypt_message", { sealed });
      await reader.call("rotate_keys", {});
      await watchKeys("reader");
      await teller.call("rotate_keys", { agentId: "late" });
      const tokenFiles = readdirSync(join(rootKeyFile, "..")).filter((name) => name.endsWith(".token"));
      expect(tokenFiles).toContain("late.token");
      for (const file of tokenFiles) {
        const token = readFileSync(join(rootKeyFile, "..", file), "utf8");
        canaries.add("enrolment token", secretOf(parseEnrolmentToken(token).key));
      }
      await teller.refuse("authorize_operation", { agentId: enrolment, operation: "task:read", resource: "task/a" });
      await teller.call("get_audit_log", { limit: 200 });
      await teller.call("verify_audit_log", {});
    }
    {
      await using teller = await start("agent-comm", "teller");
      await using reader = await start("agent-comm", "reader");
      await using watcher = await start("agent-comm", "watcher");
      const note = { targetAgent: "reader", messageType: "note", payload: { is: secrets.payload }, mailbox: true };
      await teller.call("send_message", { ...note, encrypt: true, correlationId: "job", idempotencyKey: "once" });
      await teller.call("send_message", { ...note, encrypt: true, correlationId: "job", idempotencyKey: "once" });
      // a payload that could be guessed is not given away by the hash that tells a repetition
      const asked = { ...note, payload: "yes", correlationId: "guess", encrypt: true };
      await teller.call("send_message", { ...asked, idempotencyKey: "guess" });
      canaries.add("hash of a payload", fingerprintOf("send_message", asked));
      await teller.refuse("send_message", { ...note, targetAgent: "nobody-here", encrypt: true });
      await teller.refuse("send_message", { ...note, messageType: secrets.payload.repeat(3), encrypt: true });
      await teller.refuse("broadcast_message", { scope: "all", messageType: "note", payload: secrets.payload, encrypt: true });
      expect(await watcher.refuse("send_message", { ...note, encrypt: true })).toMatch(/^permission_denied/);
      const asking = { targetAgent: "reader", payload: secrets.payload, encrypt: true, waitMs: 0 };
      await teller.try("request_reply", asking);
      const got = await reader.call("get_messages", {}, ["sealed payload"]);
      expect([...canaries.find(JSON.stringify(got)).keys()]).toEqual(["sealed payload"]);
      const messageId = (got.messages as { id: string }[])[0]?.id;
      await reader.call("get_message", { messageId }, ["sealed payload"]);
      await watcher.refuse("get_message", { messageId });
      await watcher.try("get_thread", { correlationId: "job" });
      await reader.call("list_dead_letters", {});
      await using state = await start("shared-state", "reader");
      await state.call("get_context", { correlationId: "job" });
    }

    // over HTTP: headers and bodies of all answers
    const gateway = await startHttp(
      [binOf("gateway"), "--http", "0"],
      { ...envOf("gate"), SWARM_LOG: "trace", SWARM_ROOT_KEY_FILE: rootKeyFile },
      { says: /gateway is running at (http:\/\/\S+?)\. Stop/ },
    );
    const exchange = async (path: string, init: RequestInit = {}, belongs: readonly string[] = []) => {
      const response = await fetch(gateway.url + path, init);
      const body = await response.text();
      canaries.look("HTTP", `headers of ${path.slice(0, 20)}`, JSON.stringify([...response.headers]));
      canaries.look("HTTP", `body of ${path.slice(0, 20)}`, body, belongs);
      return { status: response.status, body };
    };
    const post = (server: string, credential: string, tool: string, args: object, more: Record<string, string> = {}) =>
      exchange(`/${server}/mcp`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          authorization: `Bearer ${credential}`,
          ...more,
        },
        body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: { name: tool, arguments: args } }),
      });
    const askToken = async (form: Record<string, string>, headers: Record<string, string> = {}) => {
      const type = { "content-type": "application/x-www-form-urlencoded" };
      const body = new URLSearchParams({ grant_type: "client_credentials", ...form }).toString();
      return exchange("/oauth/token", { method: "POST", headers: { ...type, ...headers }, body }, ["session token"]);
    };
    const tokenIn = ({ body }: { body: string }): string => {
      const token = String((JSON.parse(body) as { access_token?: string }).access_token ?? expect.fail(body));
      canaries.add("session token", jws(token));
      return token;
    };
    const proof = async () => ({ client_assertion_type: ASSERTION_TYPE, client_assertion: await assertionOf(gateway.url) });
    const resource = (server: string) => ({ resource: `${gateway.url}/${server}/mcp` });
    try {
      for (const server of SERVERS) {
        const token = tokenIn(await askToken({ ...resource(server), ...(await proof()) }));
        for (const wrong of [`${token}x`, `${token}.${token}`, apiKey.text.slice(0, -1), enrolment, secrets.misplaced]) {
          expect((await post(server, wrong, "whoami", {})).status).toBe(401);
        }
        const { name } = (JSON.parse(readTools(server)) as { name: string }[])[0] ?? expect.fail("no tools");
        expect((await post(server, token, name, {})).status).toBe(200);
        expect((await post(server, token, secrets.misplaced, {})).status).toBe(200);
        await post(server, token, name, { unheardOf: secrets.misplaced });
        await post(server, token, name, {}, { "swarm-agent": `${secrets.misplaced}/${secrets.misplaced}` });
        await post(server, token, name, {}, { origin: `http://${secrets.misplaced}.example` });
        await exchange(`/${server}/mcp?access_token=${token}&api_key=${apiKey.text}`);
        await exchange(`/${server}/${token}`, { headers: { authorization: `Bearer ${token}` } });
        await exchange(`/${server}/mcp`, {
          method: "POST",
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: `{"jsonrpc": ${secrets.misplaced}`,
        });
      }
      const scoped = tokenIn(await askToken({ ...resource("security"), ...(await proof()), scope: "identity:*" }));
      const text = { authorization: `Bearer ${scoped}`, "content-type": "application/json" };
      for (const body of [`{"a": ${secrets.misplaced}`, secrets.misplaced, `{"a":"${secrets.misplaced}`]) {
        expect((await exchange("/security/mcp", { method: "POST", headers: text, body })).status).toBe(400);
      }
      const used = await proof();
      tokenIn(await askToken({ ...resource("security"), ...used }));
      expect((await askToken({ ...resource("security"), ...used })).status).toBe(401);
      const basic = (id: string, secret: string) => ({
        authorization: `Basic ${Buffer.from(`${id}:${secret}`).toString("base64")}`,
      });
      tokenIn(await askToken(resource("security"), basic("reader", apiKey.text)));
      expect((await askToken(resource("security"), basic("teller", apiKey.text))).status).toBe(401);
      expect((await askToken(resource("security"), basic("reader", `${apiKey.text}x`))).status).toBe(401);
      expect((await askToken({ ...resource("security"), client_id: "reader", client_secret: secrets.misplaced })).status).toBe(
        401,
      );
      expect((await askToken({ resource: `${gateway.url}/${secrets.misplaced}` })).status).toBe(400);
      expect((await askToken({ ...resource("security"), scope: `"${secrets.misplaced}"` })).status).toBe(400);
      const { bundle } = await swarm.admin.read();
      const keys = await readKeyFile(swarm.keyFile("teller"));
      const wanted = { agentId: "teller", audience: resource("security").resource };
      const { token } = await issueToken(keys, bundle, wanted, { now: Date.now() });
      canaries.add("session token", jws(token));
      const far = await post("security", token, "put_secret", { name: "far", value: secrets.value });
      expect(far.body).toContain("failed_precondition"); // the caller's key is elsewhere
      expect((await post("security", token, "get_secret", { name: "db" })).body).toContain("failed_precondition");
      await exchange("/health", { headers: { authorization: `Bearer ${token}` } });
    } finally {
      await gateway.stop();
    }
    canaries.look("stderr", "the gateway", gateway.output());

    // what nobody foresaw, in the middle of the work on secrets
    {
      await using security = await start("security", "teller");
      await using messages = await start("agent-comm", "teller");
      await security.call("get_secret", { name: "db" }, ["secret value"]);
      await messages.call("get_messages", {}, ["sealed payload"]);
      await place.look(canaries);
      await place.break();
      await security.refuse("put_secret", { name: "db", value: secrets.value });
      await security.refuse("get_secret", { name: "db" });
      await security.refuse("authenticate_agent", { agentId: "teller", audience });
      await security.refuse("encrypt_message", { payload: secrets.payload, recipients: ["gate"] });
      await messages.refuse("send_message", {
        targetAgent: "reader",
        messageType: "note",
        payload: secrets.payload,
        encrypt: true,
      });
      messages.host.child.kill("SIGABRT");
      await eventually("it is dead", () => !messages.host.alive);
      expect(messages.host.stderr + security.host.stderr).toMatch(/"level":50/); // the failures are in the log at all
    }
    await place.look(canaries);

    // what was left in files: key files hold keys and nothing else
    const keyFolder = join(rootKeyFile, "..");
    canaries.lookIntoFolder("files beside the keys", keyFolder, (path) => {
      const file = path.split("/").at(-1) ?? "";
      const agent = [...Object.keys(agents), "gate"].find((one) => file === `${one}.json`);
      if (agent) return [`${agent}'s signing key`, `${agent}'s encryption key`];
      if (file.endsWith(".token")) return ["enrolment token"];
      return path === rootKeyFile ? ["root key"] : [];
    });
    expect(readdirSync(keyFolder).some((file) => file.endsWith(".checkpoints"))).toBe(true);
    expect(readdirSync(reports).length).toBe(SERVERS.length);
    canaries.lookIntoFolder("crash reports", reports);

    expect(canaries.leaks).toEqual([]);
    for (const kind of ["answers", "stderr", "store", "HTTP", "files beside the keys", "crash reports"]) {
      expect(canaries.looked.get(kind), kind).toBeGreaterThan(1_000);
    }
  });
});

function readTools(server: string): string {
  return JSON.stringify(proofOf(server).story.map(([name]) => ({ name })));
}

test("the command line shows a token and an API key to whoever asks for one, and no other secret to anybody", {
  timeout: TIMEOUT_MS,
}, async () => {
  verifies("SEC-15", "SEC-01");
  const canaries = new Canaries();
  using folder = temporaryFolder();
  const passphrase = secretText();
  const wrong = secretText();
  canaries.add("passphrase", passphrase);
  canaries.add("wrong passphrase", wrong);
  const home = join(folder.path, "home");
  const env = {
    SWARM_STORE: folder.store,
    SWARM_LOG: "trace",
    HOME: home,
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_DATA_HOME: home,
  };
  const run = async (args: readonly string[], input: string, shows: readonly string[] = [], code = 0) => {
    const outcome = await runBin("security", args, { env, input: `${input}\n` });
    const what = args.map((arg) => arg.slice(0, 20)).join(" ");
    canaries.look("stdout", what, outcome.stdout, shows);
    canaries.look("stderr", what, outcome.stderr);
    expect(outcome, what).toMatchObject({ code });
    return outcome.stdout;
  };
  await run(["init", "--passphrase"], passphrase);
  const rootKeyFile = filesIn(home).find((path) => path.endsWith("root-key.json")) ?? expect.fail("no root key file");
  canaries.add("root key", secretOf(await readRootKeyFile(rootKeyFile, async () => passphrase)));
  const token = (await run(["enroll", "build", "--role", "admin"], passphrase)).trim();
  canaries.add("enrolment token", secretOf(parseEnrolmentToken(token).key));
  expect(canaries.find(token).size).toBe(1);
  await run(["redeem"], token);
  await run(["redeem", "--key-file", join(home, "again.json")], token, [], 1);
  await run(["redeem", `swarm_enrol_${wrong}`], "", [], 1);
  await run(["redeem", `${token}x`], "", [], 1);
  await run(["enroll", "gate", "--issuer", "--here"], passphrase);
  for (const agent of ["build", "gate"]) {
    const path = filesIn(home).find((file) => file.endsWith(`${agent}.json`)) ?? expect.fail(`no key file of ${agent}`);
    const keys = await readKeyFile(path);
    canaries.add(`${agent}.json`, secretOf(keys.sign));
    canaries.add(`${agent}.json`, secretOf(keys.encrypt));
    if (agent === "gate") Object.assign(env, { SWARM_KEY_FILE: path });
  }
  const apiKey = (await run(["api-key", "build"], passphrase)).trim();
  canaries.add("API key", apiKey.slice(-43));
  await run(["enroll", "late"], wrong, [], 1);
  await run(["revoke", "build"], wrong, [], 1);
  await run(["members"], passphrase);
  await run(["policy", "list"], passphrase);
  const policy = join(folder.path, "policy.json");
  writeFileSync(policy, `{"id": "${wrong}`);
  await run(["policy", "set", policy], passphrase, [], 1);
  await run(["audit", "list"], passphrase);
  await run(["audit", "verify"], passphrase);
  await run(["revoke", "build"], passphrase);
  writeFileSync(policy, "");
  canaries.lookIntoFolder("files", folder.path, (path) => [path.split("/").at(-1) ?? ""]);
  expect(canaries.leaks).toEqual([]);
  for (const kind of ["stdout", "stderr", "files"]) expect(canaries.looked.get(kind), kind).toBeGreaterThan(500);
});

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).map((path) => join(folder, path));
}

describe("a configuration that does not work", () => {
  test("never shows the password of its database, whatever is wrong with the URL or the server behind it", async () => {
    verifies("SEC-15", "CORE-13");
    const canaries = new Canaries();
    const password = secretText();
    canaries.add("database password", password);
    const real = new URL(inject("postgresUrl"));
    const port = await freePort();
    const stores = {
      "nobody answers": `postgres://swarm:${password}@127.0.0.1:${port}/swarm`,
      "wrong password": `postgres://swarm:${password}@${real.host}/postgres`,
      "no such database": Object.assign(new URL(real), { pathname: "/none", search: `?sslpassword=${password}` }).href,
      "in an option": `postgres://swarm@127.0.0.1:${port}/swarm?password=${password}&options=${password}`,
      "no such option": `postgres://swarm:${password}@127.0.0.1/swarm?pooler=both&${password}`,
      "no port": `postgres://swarm:${password}@127.0.0.1:none/swarm`,
      "no host": `postgres://swarm:${password}@[::1/swarm`,
      "no such engine": `mysql://swarm:${password}@127.0.0.1/swarm`,
      "a slash in it": `postgres://swarm:12/${password}@127.0.0.1/swarm`,
      "a question mark in it": `postgres://swarm:12?${password}@127.0.0.1/swarm`,
      "a hash in it": `postgres://swarm:12#${password}@127.0.0.1/swarm`,
      "bad escapes": `postgres://swarm:%ZZ${password}@127.0.0.1:${port}/%ZZ`,
    };
    for (const [what, store] of Object.entries(stores)) {
      const env = { SWARM_STORE: store, SWARM_LOG: "trace" };
      const where = await runBin("task-coordination", ["--where"], { env });
      canaries.look("command line", what, where.stdout + where.stderr);
      const shown = await runBin("task-coordination", ["store", "check"], { env });
      canaries.look("command line", what, shown.stdout + shown.stderr);
      await using host = await Watched.start("task-coordination", { ...env, SWARM_AGENT: "a" }, canaries);
      await host.refuse("get_all_tasks", {});
    }
    const unreachable = stores["nobody answers"];
    for (const server of SERVERS) {
      await using serving = await startServerHttp(server, { SWARM_STORE: unreachable, SWARM_LOG: "trace" });
      const health = await fetch(`${serving.url}/health`);
      expect(health.status).toBe(503);
      canaries.look("HTTP", server, (await health.text()) + JSON.stringify([...health.headers]));
      await serving.stop();
      canaries.look("stderr", server, serving.output());
      expect(serving.output()).toMatch(/"level":50/);
    }
    expect(canaries.leaks).toEqual([]);
    for (const kind of ["command line", "answers", "stderr", "HTTP"]) expect(canaries.looked.get(kind)).toBeGreaterThan(500);
  });

  test("never shows a part of a key file or root key file that is damaged, or of a private key in the place of a public one", async () => {
    verifies("SEC-15");
    const canaries = new Canaries();
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    const text = readFileSync(await swarm.enroll("a", { roles: ["admin"] }), "utf8");
    const keys = await readKeyFile(swarm.keyFile("a"));
    canaries.add("signing key", secretOf(keys.sign));
    canaries.add("encryption key", secretOf(keys.encrypt));
    canaries.add("root key", secretOf(swarm.root));
    const rootText = readFileSync(await swarm.rootKeyFile(), "utf8");
    const private64 = secretOf(keys.sign).toString("base64url");
    const damages: ((whole: string, secret: string) => string)[] = [
      (whole, secret) => whole.slice(0, whole.indexOf(secret) + 30),
      (whole, secret) => whole.replace(secret, `${secret}"`),
      (whole, secret) => whole.replace(`"${secret}"`, secret),
      (whole, secret) => whole.replace(secret, `${secret}=`),
      (whole, secret) => whole.replace("{", `{"${secret}": 1,`),
      (whole, secret) => whole.replace(`"${secret}"`, `["${secret}"]`),
      (whole, secret) => `${secret}${whole}`,
      (_, secret) => secret,
      (_, secret) => JSON.stringify(secret),
    ];
    for (const [n, damage] of damages.entries()) {
      const keyFile = join(folder.path, `${n}.json`);
      writeFileSync(keyFile, damage(text, private64), { mode: 0o600 });
      await using host = await Watched.start("security", { SWARM_STORE: folder.store, SWARM_KEY_FILE: keyFile }, canaries);
      expect(await host.refuse("whoami", {})).toMatch(/^failed_precondition: \S+ is not an agent.s key file/);
      const rootKeyFile = join(folder.path, `root-${n}.json`);
      writeFileSync(rootKeyFile, damage(rootText, secretOf(swarm.root).toString("base64url")), { mode: 0o600 });
      const env = { SWARM_STORE: folder.store, SWARM_KEY_FILE: swarm.keyFile("a"), SWARM_ROOT_KEY_FILE: rootKeyFile };
      await using keeper = await Watched.start("security", env, canaries);
      expect(await keeper.refuse("revoke_agent", { agentId: "a" })).toMatch(/^failed_precondition: The root key file/);
    }
    for (const wrong of [private64, `${private64}=`, secretOf(swarm.root).toString("hex")]) {
      await using host = await Watched.start("security", { SWARM_STORE: folder.store, SWARM_ROOT_KEY: wrong }, canaries).catch(
        () => ({ refuse: async () => "ended", [Symbol.asyncDispose]: async () => {} }),
      );
      await host.refuse("whoami", {});
      const { code, stdout, stderr } = await runBin("security", ["--where"], {
        env: { SWARM_STORE: folder.store, SWARM_ROOT_KEY: wrong, SWARM_KEY_FILE: "" },
      });
      expect(code === 0 || stderr !== "").toBe(true);
      canaries.look("command line", "a private key for a public one", stdout + stderr);
    }
    const passphrase = secretText();
    canaries.add("passphrase", passphrase);
    const locked = join(folder.path, "locked.json");
    await writeRootKeyFile(locked, swarm.root, passphrase);
    const env = { SWARM_STORE: folder.store, SWARM_KEY_FILE: swarm.keyFile("a"), SWARM_ROOT_KEY_FILE: locked };
    await using keeper = await Watched.start("security", env, canaries);
    await keeper.refuse("revoke_agent", { agentId: "a" });
    canaries.look("files", "a root key under a passphrase", readFileSync(locked));
    expect(canaries.leaks).toEqual([]);
  });
});
