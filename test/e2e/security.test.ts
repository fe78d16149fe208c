/** The tools of the security server, between real processes. */
import { randomUUID } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "@mcp-swarm/core";
import { ApiKeys, generateKeyPair, issueToken, readKeyFile, redeem, sealSecret, signJws, Trust } from "@mcp-swarm/identity/trust";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { contentOf } from "../support/content.ts";
import { eventually, Host, type HostOptions, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import { SecuredSwarm } from "../support/secured.ts";

const AUDIENCE = "http://127.0.0.1:3335/agent-comm/mcp";
/** In force everywhere within 6 s, and some time for a slow machine. */
const IN_FORCE_MS = 12_000;

const security = (swarm: SecuredSwarm, agentId: string, options: Omit<HostOptions, "agent" | "store"> = {}) =>
  swarm.host(agentId, { ...options, server: "security" });

/** A security server that has the root key. */
async function administrator(swarm: SecuredSwarm, agentId = "admin"): Promise<Host> {
  await swarm.enroll(agentId, { roles: ["admin"] });
  return await security(swarm, agentId, { env: { SWARM_ROOT_KEY_FILE: await swarm.rootKeyFile() } });
}

/** Why a call failed; the answer itself when it did not. */
const said = async (host: Host, tool: string, args: Record<string, unknown> = {}) => (await host.try(tool, args)).text;

const MEMBER = { agentId: "a1" };
/** Valid arguments for each tool. */
const CALLS: Record<string, Record<string, unknown>> = {
  authenticate_agent: { ...MEMBER, audience: AUDIENCE },
  list_policies: {},
  set_policy: { id: "x", effect: "permit", operations: ["a:b"] },
  delete_policy: { policyId: "x" },
  list_members: {},
  set_roles: { ...MEMBER, roles: ["worker"] },
  quarantine_agent: MEMBER,
  revoke_agent: MEMBER,
  rotate_keys: {},
  get_audit_log: {},
  verify_audit_log: {},
  encrypt_message: { payload: 1, recipients: ["a1"] },
  decrypt_message: { sealed: "x" },
  list_secrets: {},
  get_secret: { name: "x" },
  put_secret: { name: "x", value: "y" },
  delete_secret: { name: "x" },
};

test("in an open swarm every tool says that nothing is enforced, and how a person secures it", async () => {
  verifies("SEC-02", "SEC-03");
  using folder = temporaryFolder();
  await using host = await Host.start({ server: "security", store: folder.store, agent: "a1" });
  expect(await host.call("whoami")).toEqual({
    agent: { id: "a1" },
    swarm: { secured: false },
    caller: { agentId: "a1", verified: false },
  });
  expect(await host.call("authorize_operation", { operation: "task:cancel", resource: "task/x" })).toMatchObject({
    authorized: true,
    reason: "not_enforced",
    details: expect.stringContaining("open"),
  });
  const names = (await host.client.listTools()).tools.map(({ name }) => name);
  expect(names.toSorted()).toEqual(["whoami", "authorize_operation", ...Object.keys(CALLS)].toSorted());
  for (const [tool, args] of Object.entries(CALLS)) {
    expect(await said(host, tool, args), tool).toMatch(/^failed_precondition: This swarm is open: .*\n.*mcp-swarm-security init/);
  }
});

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  const meet = async () => {
    const folder = temporaryFolder();
    const store = engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
    return { store, [Symbol.dispose]: () => folder[Symbol.dispose]() };
  };

  test("an administrator's policy binds another server's calls within 6 s, and authorize_operation says what is missing", async () => {
    verifies("SEC-03", "SEC-04", "SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("build-7");
    await using admin = await administrator(swarm);
    await using worker = await security(swarm, "build-7");
    await using tasks = await swarm.host("build-7", { server: "task-coordination" });
    const asked = { operation: "task:add", resource: "task/release-1" };
    expect(await worker.call("authorize_operation", asked)).toMatchObject({
      authorized: true,
      reason: "permitted",
      policyIds: ["worker"],
    });
    const policy = {
      id: "no-releases",
      effect: "forbid",
      roles: ["worker"],
      operations: ["task:*"],
      resources: ["task/release-*"],
    };
    expect(await admin.call("set_policy", policy)).toMatchObject({ policyId: "no-releases", version: expect.any(Number) });
    expect(await admin.call("authorize_operation", { ...asked, agentId: "build-7" })).toMatchObject({
      authorized: false,
      reason: "forbidden",
      policyIds: ["no-releases"],
    });
    await eventually(
      "the other server refuses",
      async () => (await said(tasks, "add_task", { id: "release-1", description: "Work" })).startsWith("permission_denied"),
      IN_FORCE_MS,
    );
    expect(await said(tasks, "add_task", { id: "release-2", description: "Work" })).toMatch(
      /^permission_denied: Policy no-releases forbids task:add on task\/release-2 to build-7 \(roles: worker\)\./,
    );
    await tasks.call("add_task", { id: "notes", description: "Work" });
    const { policies } = await admin.call<{ policies: { id: string }[] }>("list_policies");
    expect(policies.map(({ id }) => id)).toEqual(["admin", "worker", "own-keys", "observer", "no-releases"]);
    await admin.call("delete_policy", { policyId: "no-releases" });
    await eventually(
      "it is permitted again",
      async () => !(await tasks.try("add_task", { id: "release-3", description: "Work" })).isError,
      IN_FORCE_MS,
    );
    // reasons, each by its word
    const reason = async (args: Record<string, unknown>) =>
      (await admin.call<{ reason: string }>("authorize_operation", args)).reason;
    const about = { agentId: "build-7", resource: "x/y" };
    expect(await reason({ ...about, operation: "policy:write" })).toBe("insufficient_permissions");
    expect(await reason({ ...about, agentId: "stranger", operation: "task:add" })).toBe("unknown_agent");
    await admin.call("set_policy", {
      id: "office-hours",
      effect: "permit",
      agents: ["build-7"],
      operations: ["door:open"],
      when: { context: { badge: { equals: true } } },
    });
    expect(await reason({ ...about, operation: "door:open" })).toBe("condition_error");
    expect(await reason({ ...about, operation: "door:open", context: { badge: false } })).toBe("condition_not_met");
    expect(await reason({ ...about, operation: "door:open", context: { badge: true } })).toBe("permitted");
    expect(await said(admin, "set_policy", { id: "x", effect: "permit", operations: ["nonsense"] })).toMatch(
      /^invalid_argument: This is not a policy: "operations\.0": use \*/,
    );
    expect(await said(worker, "authorize_operation", { ...asked, agentId: "admin" })).toMatch(
      /^permission_denied: What another agent may do/,
    );
    expect(await said(worker, "set_policy", policy)).toMatch(/^permission_denied: No policy permits policy:write/);
  });

  test("members are listed, get roles, are quarantined and revoked; another's keys are replaced without a model seeing the token", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("build-7");
    await swarm.admin.enroll("build-8", { roles: ["worker"] });
    await using admin = await administrator(swarm);
    const { members } = await admin.call<{ members: unknown[] }>("list_members");
    expect(members).toMatchObject([
      { agentId: "admin", standing: "active", roles: ["admin"] },
      { agentId: "build-7", standing: "active", roles: ["worker"], generation: 1 },
      { agentId: "build-8", standing: "enrolled", enrolledUntil: expect.any(Number) },
    ]);
    const first = await admin.call<{ members: unknown[]; nextCursor: string }>("list_members", { limit: 2 });
    const rest = await admin.call<{ members: unknown[] }>("list_members", { limit: 2, cursor: first.nextCursor });
    expect([...first.members, ...rest.members]).toEqual(members);
    expect(rest).not.toHaveProperty("nextCursor");

    await using worker = await security(swarm, "build-7");
    await admin.call("set_roles", { agentId: "build-7", roles: ["worker", "observer"], attributes: { team: "red" } });
    await eventually(
      "the worker has its new roles",
      async () =>
        JSON.stringify(await worker.call("whoami")).includes('"roles":["worker","observer"],"attributes":{"team":"red"}'),
      IN_FORCE_MS,
    );
    await admin.call("quarantine_agent", { agentId: "build-7" });
    await eventually("it is refused", async () => (await said(worker, "whoami")).includes("in quarantine"), IN_FORCE_MS);
    await admin.call("quarantine_agent", { agentId: "build-7", on: false });
    await eventually("it is let in", async () => !(await worker.try("whoami")).isError, IN_FORCE_MS);

    const ended = await admin.call<{ tokenFile: string }>("rotate_keys", { agentId: "build-7" });
    await eventually(
      "its key is dead",
      async () => /^unauthenticated: .*replaced/.test(await said(worker, "whoami")),
      IN_FORCE_MS,
    );
    expect(statSync(ended.tokenFile).mode & 0o777).toBe(0o600);
    const token = readFileSync(ended.tokenFile, "utf8").trim();
    expect(JSON.stringify(ended)).not.toContain(token);
    expect((await redeem({ store: swarm.store, token, keyFile: swarm.keyFile("build-7") })).generation).toBe(2);
    await using again = await security(swarm, "build-7");
    expect(await again.call("whoami")).toMatchObject({ agent: { id: "build-7" } });
    await admin.call("revoke_agent", { agentId: "build-7" });
    await eventually("it is revoked", async () => (await said(again, "whoami")).includes("was revoked"), IN_FORCE_MS);
    expect(
      await admin.call("authorize_operation", { agentId: "build-7", operation: "task:add", resource: "task/x" }),
    ).toMatchObject({
      reason: "revoked",
    });
    for (const tool of ["revoke_agent", "quarantine_agent", "rotate_keys"]) {
      expect(await said(admin, tool, { agentId: "stranger" }), tool).toMatch(/^not_found: There is no member with this id\./);
    }
  });

  test("an agent replaces its own keys and goes on; the key it had proves nothing any more", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    const before = await readKeyFile(await swarm.enroll("build-7"));
    await using worker = await security(swarm, "build-7");
    await using tasks = await swarm.host("build-7", { server: "task-coordination" });
    await tasks.call("add_task", { id: "t", description: "Work" });
    expect(await said(worker, "rotate_keys", { agentId: "build-7" })).toMatch(
      /^permission_denied: No policy permits key:rotate on key\/build-7/,
    );
    const { keyId } = await worker.call<{ keyId: string }>("rotate_keys");
    expect(keyId).not.toBe(before.sign.kid);
    expect((await readKeyFile(swarm.keyFile("build-7"))).sign.kid).toBe(keyId);
    expect(await worker.call("whoami")).toMatchObject({ agent: { keyId } });
    await tasks.call("get_task", { taskId: "t" }); // its other servers find the new key in the file
    const trust = await Trust.open({
      store: swarm.store,
      clock: systemClock,
      rootKey: swarm.rootKey,
      self: before,
      onError: () => {},
    });
    expect(trust.selfStatus()).toBe("replaced");
    await trust.close();
  });

  test("what is sealed is read once, by its recipients alone, who know who said it", async () => {
    verifies("SEC-10");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agentId of ["alice", "bob", "carol"]) await swarm.enroll(agentId);
    await using alice = await security(swarm, "alice");
    await using bob = await security(swarm, "bob");
    await using carol = await security(swarm, "carol");
    const payload = { text: "Meet at noon", numbers: [1, null] };
    const { sealed } = await alice.call<{ sealed: string }>("encrypt_message", { payload, recipients: ["bob", "alice"] });
    expect(sealed).not.toContain("noon");
    expect(await said(carol, "decrypt_message", { sealed })).toMatch(/^failed_precondition: It was not sealed to a key/);
    const changed = sealed.replace(/"ciphertext":"(.)/, (_, first: string) => `"ciphertext":"${first === "A" ? "B" : "A"}`);
    expect(await said(bob, "decrypt_message", { sealed: changed })).toMatch(/^unauthenticated: The sealed message is refused/);
    expect(await bob.call("decrypt_message", { sealed, idempotencyKey: "once" })).toMatchObject({
      message: { from: "alice", to: ["bob", "alice"], payload },
      untrusted: ["message.payload"],
    });
    expect(await bob.call("decrypt_message", { sealed, idempotencyKey: "once" })).toMatchObject({ message: { payload } });
    expect(await said(bob, "decrypt_message", { sealed })).toMatch(
      /^unauthenticated: .*you have opened it before, so this is a replay/,
    );
    expect(await alice.call("decrypt_message", { sealed })).toMatchObject({ message: { from: "alice", payload } });
    expect(await said(alice, "encrypt_message", { payload, recipients: ["stranger"] })).toMatch(
      /^not_found: No key of stranger is known/,
    );
    const large = { payload: "x".repeat(12_000), recipients: ["bob"] };
    expect(await said(alice, "encrypt_message", large)).toMatch(/^limit_exceeded: The sealed message would be longer/);
    // what was sealed before a rotation opens after it, in each of the agent's processes
    const kept = await alice.call<{ sealed: string }>("encrypt_message", { payload, recipients: ["bob"] });
    await using other = await security(swarm, "bob");
    await other.call("whoami");
    await bob.call("rotate_keys");
    await bob.call("decrypt_message", { sealed: kept.sealed });
    await eventually(
      "alice seals to the new key",
      async () => {
        const next = await alice.call<{ sealed: string }>("encrypt_message", { payload, recipients: ["bob"] });
        return (
          next.sealed.includes((await readKeyFile(swarm.keyFile("bob"))).encrypt.kid) &&
          !(await other.try("decrypt_message", { sealed: next.sealed })).isError
        );
      },
      IN_FORCE_MS,
    );
    expect(JSON.stringify(await contentOf(swarm.store))).not.toContain("noon");
  });

  test("a secret is read by those whom policy permits; who is permitted later gets it when it is shared again", async () => {
    verifies("SEC-11");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("deploy-1", { roles: ["worker", "deployer"] });
    await swarm.enroll("deploy-2", { roles: ["worker"] });
    await using admin = await administrator(swarm);
    await swarm.admin.setPolicy({
      id: "deployers",
      effect: "permit",
      roles: ["deployer"],
      operations: ["secret:read"],
      resources: ["secret/deploy/*"],
    });
    await using one = await security(swarm, "deploy-1");
    await using two = await security(swarm, "deploy-2");
    await eventually(
      "the policy is known",
      async () => (await admin.call<{ swarm: { version: number } }>("whoami")).swarm.version === 5,
      IN_FORCE_MS,
    );
    const value = `hunter2-${randomUUID()}`;
    const put = { name: "deploy/key", value, idempotencyKey: "put" };
    expect(await admin.call("put_secret", put)).toMatchObject({ name: "deploy/key", version: 1 });
    expect(await one.call("get_secret", { name: "deploy/key" })).toMatchObject({
      secret: { value, version: 1, putBy: "admin", readers: 2 },
      untrusted: ["secret.value"],
    });
    expect(await said(two, "get_secret", { name: "deploy/key" })).toMatch(/^permission_denied: /);
    expect(await said(one, "get_secret", { name: "other" })).toMatch(/^permission_denied: /);
    expect(await said(one, "put_secret", { name: "deploy/key", value: "mine" })).toMatch(/^permission_denied: /);
    expect(await said(admin, "get_secret", { name: "other" })).toMatch(/^not_found: There is no secret of this name/);

    await admin.call("set_roles", { agentId: "deploy-2", roles: ["deployer"] });
    await eventually(
      "it is permitted",
      async () => !(await said(two, "get_secret", { name: "deploy/key" })).startsWith("permission_denied"),
      IN_FORCE_MS,
    );
    expect(await said(two, "get_secret", { name: "deploy/key" })).toMatch(
      /^failed_precondition: This secret was put before you were permitted to read it\.\n.*put_secret with its name and without a value/,
    );
    expect(await admin.call("put_secret", { name: "deploy/key" })).toMatchObject({ version: 2 });
    expect(await two.call("get_secret", { name: "deploy/key" })).toMatchObject({ secret: { value, version: 2, readers: 3 } });
    expect(await admin.call("list_secrets")).toMatchObject({
      secrets: [{ name: "deploy/key", version: 2, putBy: "admin", readers: 3, readable: true }],
    });
    // for some of those who may
    await admin.call("put_secret", { name: "deploy/one", value: "for one", readers: ["deploy-1"] });
    expect(await one.call("get_secret", { name: "deploy/one" })).toMatchObject({ secret: { value: "for one", readers: 1 } });
    expect(await said(two, "get_secret", { name: "deploy/one" })).toMatch(/^failed_precondition: /);
    expect(await said(admin, "put_secret", { name: "deploy/one", value: "x", readers: ["deploy-1", "stranger"] })).toMatch(
      /^permission_denied: [\w-]+ may not read this secret\./,
    );
    expect(await said(admin, "put_secret", { name: "big", value: "\u0001".repeat(4_000) })).toMatch(
      /^limit_exceeded: A secret has at most/,
    );

    // neither the value nor a hash of it is kept: under one idempotencyKey another value is the same call
    expect(await admin.call("put_secret", { ...put, value: "another" })).toMatchObject({ version: 1 });
    expect(await two.call("get_secret", { name: "deploy/key" })).toMatchObject({ secret: { value } });
    const rows = JSON.stringify(
      await swarm.store.snapshot(async (view) => {
        const found = [];
        for (const namespace of await view.namespaces()) {
          found.push(await view.scan({ from: `${namespace}/`, before: `${namespace}0`, limit: 1_000 }));
        }
        return found;
      }),
    );
    expect(rows).toContain("secret/deploy/key"); // the log names it
    expect(rows).not.toContain(value);
    for (const host of [admin, one, two]) expect(host.stderr).not.toContain(value);

    await admin.call("delete_secret", { name: "deploy/key" });
    expect(await said(one, "get_secret", { name: "deploy/key" })).toMatch(/^not_found: /);
  });

  test("a secret that was planted, moved to another name, or put by a revoked agent is not taken for one", async () => {
    verifies("SEC-11");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    const keyFile = await swarm.enroll("mallory");
    await using admin = await administrator(swarm);
    await admin.call("put_secret", { name: "good", value: "good one" });
    await admin.call("put_secret", { name: "old", value: "old one" });

    // a worker with its own key and the store, who may put no secrets
    const mallory = await readKeyFile(keyFile);
    const trust = await Trust.open({
      store: swarm.store,
      clock: systemClock,
      rootKey: swarm.rootKey,
      self: mallory,
      onError: () => {},
    });
    const row = (await swarm.store.get("secret/good"))?.value as Record<string, unknown>;
    const planted = await sealSecret(
      { name: "good", version: 7, value: "evil", readers: ["admin"], iat: Date.now() },
      "mallory",
      { signatures: trust, keysOf: (agentId) => trust.keysOf(agentId) },
    );
    await trust.close();
    const write = (key: string, value: Record<string, unknown>) =>
      swarm.store.transact((tx) => tx.put(key, JSON.parse(JSON.stringify(value)) as never));
    await write("secret/good", { ...row, version: 7, sealed: planted });
    expect(await said(admin, "get_secret", { name: "good" })).toMatch(
      /^failed_precondition: This secret was put by mallory, who may not put it/,
    );
    const old = (await swarm.store.get("secret/old"))?.value as Record<string, unknown>;
    await write("secret/good", { ...old, name: "good" });
    expect(await said(admin, "get_secret", { name: "good" })).toMatch(/^unauthenticated: /);
    await write("secret/good", { ...row, version: 2 });
    expect(await said(admin, "get_secret", { name: "good" })).toMatch(/^unauthenticated: /);
    await write("secret/good", { nonsense: true });
    expect(await said(admin, "get_secret", { name: "good" })).toMatch(/^unauthenticated: The record of this secret/);
    expect(await admin.call("list_secrets")).toMatchObject({
      secrets: [
        { name: "good", damaged: true },
        { name: "old", version: 1 },
      ],
    });
    await admin.call("delete_secret", { name: "good" });

    await using second = await administrator(swarm, "second");
    expect(await said(second, "get_secret", { name: "old" })).toMatch(/^failed_precondition: This secret was put before/);
    await second.call("put_secret", { name: "new", value: "of the second" });
    await eventually("the second is known", async () => !(await admin.try("get_secret", { name: "new" })).isError, IN_FORCE_MS);
    await admin.call("revoke_agent", { agentId: "second" });
    expect(await said(admin, "get_secret", { name: "new" })).toMatch(
      /^failed_precondition: This secret was put by second, who may not put it/,
    );
  });
});

test("session tokens: for one's own process, by a signed assertion, by an API key; never by another token or for another agent", async () => {
  verifies("SEC-02", "SEC-07");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure({ store: folder.store });
  await swarm.enroll("gate", { roles: ["worker"], issuer: true });
  const agent = await readKeyFile(await swarm.enroll("build-7"));
  await using serving = await startServerHttp("security", { SWARM_STORE: folder.store, SWARM_KEY_FILE: swarm.keyFile("gate") });
  const audience = `${serving.url}/mcp`;
  await using worker = await security(swarm, "build-7");
  await using gate = await security(swarm, "gate");

  const own = await worker.call<{ token: string; tokenId: string; expiresAt: number }>("authenticate_agent", {
    agentId: "build-7/child",
    audience,
  });
  expect(own.expiresAt - Date.now()).toBeLessThanOrEqual(15 * 60_000);
  await using remote = await Host.http(audience, { token: own.token });
  expect(await remote.call("whoami")).toMatchObject({
    agent: { id: "build-7/child" },
    caller: { agentId: "build-7/child", verified: true },
  });
  expect(await worker.call("whoami")).toMatchObject({ sessions: [{ id: own.tokenId, audience, agentId: "build-7/child" }] });
  // a token makes no other token, and over HTTP nobody's keys are at hand
  expect(await said(remote, "authenticate_agent", { agentId: "build-7/child", audience })).toMatch(
    /^unauthenticated: Nothing proves/,
  );
  expect(await said(remote, "rotate_keys")).toMatch(/^failed_precondition: This server does not hold your keys/);
  expect(await said(remote, "encrypt_message", { payload: 1, recipients: ["gate"] })).toMatch(
    /^failed_precondition: This server holds no key of yours/,
  );
  expect(await said(remote, "decrypt_message", { sealed: "{}" })).toMatch(
    /^failed_precondition: This server holds no key of build-7\/child/,
  );

  // an issuer, for whoever proves itself
  const assertion = async (claims: Record<string, unknown> = {}) => {
    const now = Math.floor(Date.now() / 1000);
    const all = { iss: "build-7", sub: "build-7", aud: "gate", jti: randomUUID(), iat: now, exp: now + 60, ...claims };
    return await signJws(agent.sign, "JWT", all as never);
  };
  const good = await assertion();
  const issued = await gate.call<{ token: string }>("authenticate_agent", {
    agentId: "build-7",
    audience,
    credentials: { assertion: good },
  });
  await using byAssertion = await Host.http(audience, { token: issued.token });
  expect(await byAssertion.call("whoami")).toMatchObject({ caller: { agentId: "build-7", verified: true } });
  const gateKeys = await readKeyFile(swarm.keyFile("gate"));
  const apiKey = new ApiKeys(gateKeys).create({ agentId: "build-7" });
  await swarm.store.transact((tx) => apiKey.put(tx));
  const byKey = { agentId: "build-7", audience, credentials: { apiKey: apiKey.text } };
  const exchanged = await gate.call<{ token: string }>("authenticate_agent", byKey);
  await using withKey = await Host.http(audience, { token: exchanged.token });
  expect(await withKey.call("whoami")).toMatchObject({ caller: { agentId: "build-7", verified: true } });
  expect(await said(worker, "authenticate_agent", byKey)).toMatch(/^unauthenticated: This API key is not one of this server's/);
  const refused: [credentials: Record<string, unknown> | undefined, agentId: string, says: RegExp][] = [
    [{ assertion: good }, "build-7", /^unauthenticated: .*it was used before/],
    [{ assertion: await assertion({ aud: "another" }) }, "build-7", /^unauthenticated: .*it is for another issuer/],
    [{ assertion: await assertion({ exp: 1 }) }, "build-7", /^unauthenticated: .*it has ended/],
    [{ assertion: await assertion() }, "gate", /^unauthenticated: The credentials are another agent's/],
    [{ assertion: "x.y.z" }, "build-7", /^unauthenticated: /],
    [{ apiKey: `swarm_key-000000000000_${"A".repeat(43)}` }, "build-7", /^unauthenticated: This API key is not one/],
    [{ apiKey: "a", assertion: "b" }, "build-7", /^unauthenticated: Nothing proves/],
    [{}, "build-7", /^unauthenticated: Nothing proves/],
    [undefined, "build-7", /^unauthenticated: Nothing proves/],
  ];
  for (const [credentials, agentId, says] of refused) {
    const args = { agentId, audience, ...(credentials ? { credentials } : {}) };
    expect(await said(gate, "authenticate_agent", args), JSON.stringify(args)).toMatch(says);
  }
  // who is no issuer signs for itself alone
  expect(await said(worker, "authenticate_agent", { agentId: "gate", audience })).toMatch(
    /^failed_precondition: This server may not make tokens/,
  );
  expect(await said(worker, "authenticate_agent", { agentId: "build-7" })).toMatch(
    /^invalid_argument: Field audience is missing/,
  );
  // a repetition under one key is the same token; the store holds none of it
  const once = { agentId: "build-7", audience, scope: "identity:read", idempotencyKey: "one" };
  const [first, second] = [await said(worker, "authenticate_agent", once), await said(worker, "authenticate_agent", once)];
  expect(second).toBe(first);
  const { token } = JSON.parse(first) as { token: string };
  expect(JSON.stringify(await contentOf(swarm.store))).not.toContain(token.split(".")[2]);
  // another key's token is none
  const foreign = { agentId: "build-7", sign: generateKeyPair("Ed25519") };
  const forged = await issueToken(foreign, { epoch: 0 }, { agentId: "build-7", audience }, { now: Date.now() });
  await expect(Host.http(audience, { token: forged.token })).rejects.toThrow(/HTTP 401/);
});

test("without the root key a server changes neither policies nor members, and says who can", async () => {
  verifies("SEC-04", "SEC-05");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure({ store: folder.store });
  await swarm.enroll("admin", { roles: ["admin"] });
  await using other = await SecuredSwarm.secure({ store: `sqlite:${folder.path}/other.db` });
  await using without = await security(swarm, "admin");
  await using foreign = await security(swarm, "admin", { env: { SWARM_ROOT_KEY_FILE: await other.rootKeyFile() } });
  const changes = ["set_policy", "delete_policy", "set_roles", "quarantine_agent", "revoke_agent"];
  for (const tool of changes) {
    expect(await said(without, tool, CALLS[tool]), tool).toMatch(
      /^failed_precondition: This server was not given the root key.*\n.*SWARM_ROOT_KEY_FILE/,
    );
    expect(await said(foreign, tool, CALLS[tool]), tool).toMatch(
      /^failed_precondition: SWARM_ROOT_KEY_FILE holds the root key of another swarm/,
    );
  }
  expect(await said(without, "rotate_keys", MEMBER)).toMatch(/^failed_precondition: This server was not given the root key/);
  expect((await swarm.admin.read()).bundle.version).toBe(2);
});

test("the audit log is read page by page with filters, and verify_audit_log names the first row that was changed", async () => {
  verifies("SEC-09");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure({ store: folder.store });
  await swarm.enroll("build-7");
  await using admin = await administrator(swarm);
  await using tasks = await swarm.host("build-7", { server: "task-coordination" });
  for (let n = 0; n < 7; n++) await tasks.call("add_task", { id: `t${n}`, description: "Work" });
  await using worker = await security(swarm, "build-7");
  await worker.try("list_policies");
  type Page = { entries: { resource: string; outcome: string; agentId: string; tool: string }[]; nextCursor?: string };
  const added: string[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < 10; page++) {
    const args = { agentId: "build-7", operation: "task:*", outcome: "permit", limit: 3, ...(cursor ? { cursor } : {}) };
    const found = await admin.call<Page>("get_audit_log", args);
    added.push(...found.entries.map(({ resource }) => resource));
    cursor = found.nextCursor;
    if (!cursor) break;
  }
  expect(added).toEqual([6, 5, 4, 3, 2, 1, 0].map((n) => `task/t${n}`));
  expect(await admin.call<Page>("get_audit_log", { outcome: "deny" })).toMatchObject({
    entries: [
      {
        agentId: "build-7",
        operation: "policy:read",
        outcome: "deny",
        reason: "insufficient_permissions",
        tool: "list_policies",
      },
    ],
  });
  expect((await admin.call<Page>("get_audit_log", { since: Date.now() + 60_000 })).entries).toEqual([]);
  expect(await said(admin, "get_audit_log", { cursor: "x", limit: 3 })).toMatch(/^invalid_argument: This cursor does not belong/);
  expect(await said(worker, "get_audit_log")).toMatch(/^permission_denied: /);

  await tasks.close();
  const sound = await admin.call("verify_audit_log");
  expect(sound).toMatchObject({ ok: true, rows: expect.any(Number), checkpoints: expect.any(Number) });
  expect(sound).not.toHaveProperty("firstBad");
  const db = new DatabaseSync(folder.store.slice("sqlite:".length));
  db.exec("DROP TRIGGER keyv_foreign_write");
  const { key } = db.prepare("SELECT key FROM keyv WHERE namespace = 'audit' AND value LIKE '%task/t3%'").get() as {
    key: string;
  };
  db.prepare(
    "UPDATE keyv SET value = replace(value, 'task/t3', 'task/t9'), sum = NULL WHERE namespace = 'audit' AND key = ?",
  ).run(key);
  db.close();
  expect(await admin.call("verify_audit_log")).toMatchObject({ ok: false, firstBad: { what: "edited", key: `audit/${key}` } });
});
