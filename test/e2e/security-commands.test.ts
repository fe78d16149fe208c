/** The command line of the security server, as a person uses it, wrongly too. */
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore } from "@mcp-swarm/store";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import type { Outcome } from "../support/bin.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { Person } from "../support/person.ts";
import { freshDatabase } from "../support/postgres.ts";

/** A failure as a person reads it: exit code 1, nothing on stdout, and one line on stderr. */
function refusal({ code, stdout, stderr }: Outcome): string {
  expect({ code, stdout, lines: stderr.trimEnd().split("\n").length }, stderr).toEqual({ code: 1, stdout: "", lines: 1 });
  return stderr;
}

/** The files below a folder. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}

const rootKeyOf = (said: string): string => /root public key +(\S{43})/.exec(said)?.[1] ?? "none";

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  test("init, enroll, redeem: an agent proves its name, and the same token makes no second one", async () => {
    verifies("SEC-01", "SEC-05");
    using person = new Person(engine === "sqlite" ? undefined : await freshDatabase(inject("postgresUrl")));
    const { stdout: said, stderr: next } = await person.secure(["init"]);
    expect(said).not.toContain("swarm:swarm@"); // no password of a store
    expect(next.includes("No server has used this store yet")).toBe(engine === "sqlite"); // a server would have to be asked
    expect(rootKeyOf(said)).toMatch(/^[\w-]{43}$/);
    expect(refusal(await person.secure(["init"]))).toMatch(/^This swarm is secured already: .* Make agents members with/);

    const { stdout: token, stderr } = await person.secure(["enroll", "build-7"]);
    expect(token).toMatch(/^swarm_enrol_[\w-]{86}\n$/);
    expect(stderr).toContain("mcp-swarm-security redeem");
    expect(stderr).not.toContain(token.trim());
    expect(await person.done(["members"])).toMatch(/^build-7 +enrolled +worker$/m);

    using elsewhere = new Person(person.store);
    const redeemed = await elsewhere.done(["redeem"], { input: token });
    const keyFile = /^SWARM_KEY_FILE=(.+)\n$/.exec(redeemed)?.[1] ?? "";
    expect(keyFile.startsWith(elsewhere.home)).toBe(true);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(refusal(await person.secure(["redeem", token.trim()]))).toMatch(/^This one-time token was redeemed already\./);
    expect(await person.done(["members"])).toMatch(/^build-7 +active +worker$/m);
    expect(refusal(await person.secure(["enroll", "build-7"]))).toMatch(
      /^build-7 is enrolled already\. .*`mcp-swarm-security enroll build-7 --replace`/,
    );

    const env = { ...elsewhere.env, SWARM_KEY_FILE: keyFile };
    await using host = await Host.start({ env });
    expect(await host.call("add_task", { id: "t", description: "Work" })).toMatchObject({
      caller: { agentId: "build-7", verified: true },
    });
    await using nobody = await Host.start({ store: person.store, agent: "build-7" });
    expect((await nobody.try("get_all_tasks")).text).toMatch(/^failed_precondition: This swarm is secured.*\n.*SWARM_KEY_FILE/);
    await using reader = await Host.start({
      env: { ...env, SWARM_KEY_FILE: await person.enroll("watcher", "--role", "observer") },
    });
    expect((await reader.try("add_task", { id: "u", description: "Work" })).text).toMatch(
      /^permission_denied: No policy permits task:add on task\/u to watcher \(roles: observer\)\./,
    );
  });
});

test("what a person changes is in force in a running server within 6 s, and in the audit log", { timeout: 120_000 }, async () => {
  verifies("SEC-08", "SEC-09");
  using person = new Person();
  await person.done(["init"]);
  const env = { ...person.env, SWARM_KEY_FILE: await person.enroll("build-7") };
  await using host = await Host.start({ env });
  await host.call("add_task", { id: "t", description: "Work" });
  await host.call("claim_task", { taskId: "t" });
  const reads = async (says: RegExp) =>
    await eventually(String(says), async () => says.test((await host.try("get_task", { taskId: "t" })).text), 8_000);

  await person.done(["quarantine", "build-7"]);
  await reads(/^permission_denied: build-7 is in quarantine/);
  expect(await person.done(["members"])).toMatch(/^build-7 +quarantined/m);
  await person.done(["quarantine", "build-7", "--end"]);
  await reads(/^\{"task":\{"id":"t"/);
  await person.done(["roles", "build-7", "--role", "observer", "--attribute", "team=red"]);
  expect((await person.secure(["policy", "check", "--agent", "build-7", "--operation", "task:claim"])).code).toBe(1);
  await eventually(
    "it may only read",
    async () => (await host.try("claim_next_task")).text.startsWith("permission_denied"),
    8_000,
  );
  await person.done(["revoke", "build-7"]);
  await reads(/^permission_denied: build-7 was revoked/);
  expect(await person.done(["members"])).toMatch(/^build-7 +revoked +observer +team=red$/m);
  await host.close();

  // back with new keys; the old ones are worth nothing, though they lie where they were
  const old = join(person.home, "old.json");
  copyFileSync(env.SWARM_KEY_FILE, old);
  expect(await person.enroll("build-7", "--role", "worker")).toBe(env.SWARM_KEY_FILE);
  await using again = await Host.start({ env });
  expect((await again.call<{ task: unknown }>("get_task", { taskId: "t" })).task).toMatchObject({ status: "available" });
  await using stolen = await Host.start({ env: { ...env, SWARM_KEY_FILE: old } });
  expect((await stolen.try("get_task", { taskId: "t" })).text).toMatch(
    /^unauthenticated: The key in SWARM_KEY_FILE was replaced/,
  );

  const lines = await person.done(["audit", "list", "--agent", "root"]);
  const done = ["init", "enroll", "quarantine", "quarantine --end", "roles", "revoke", "enroll"];
  expect(
    lines
      .trim()
      .split("\n")
      .toReversed()
      .map((line) => line.replace(/.* root_key /, "")),
  ).toEqual(done);
  expect(await person.done(["audit", "list", "--outcome", "deny", "--operation", "task:*"])).toContain("build-7");
  const entries = (await person.done(["audit", "list", "--json", "--limit", "3"])).trim().split("\n");
  expect(entries.map((line) => (JSON.parse(line) as { at: number }).at)).toHaveLength(3);
});

test("policies are set all or none, and what a file holds that is none is named", async () => {
  verifies("SEC-04");
  using person = new Person();
  await person.done(["init"]);
  const file = join(person.project, "policies.json");
  const good = { id: "night", effect: "forbid", operations: ["task:*"], when: { time: { from: "22:00", to: "06:00" } } };
  const write = (json: unknown) => writeFileSync(file, typeof json === "string" ? json : JSON.stringify(json));
  write([good, { id: "x", effect: "forbid", operations: ["task:*"], when: { weather: "rain" } }]);
  expect(refusal(await person.secure(["policy", "set", file]))).toMatch(/^This is not a policy: "when": unknown field "weather"/);
  expect(refusal(await person.secure(["policy", "check", file]))).toContain("weather");
  write("{");
  expect(refusal(await person.secure(["policy", "set", file]))).toMatch(/is not JSON from line 1, column 2 on\. Mend it/);
  write([]);
  expect(refusal(await person.secure(["policy", "set", file]))).toMatch(/holds no policy\./);
  expect(refusal(await person.secure(["policy", "set", join(person.project, "none.json")]))).toMatch(/cannot be read/);
  expect(JSON.parse(await person.done(["policy", "list"]))).toHaveLength(4);

  // what no tool does is no error, and is said
  write({ ...good, operations: ["task:cancell", "task:*"] });
  expect(await person.secure(["policy", "check", file])).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/^Policy night: no tool has the operation task:cancell\. Is it written as you meant\?$/m),
  });
  write({ ...good, operations: Array.from({ length: 50 }, (_, n) => `task:x${n}`) });
  expect((await person.secure(["policy", "check", file])).stderr).toMatch(/x9\. .*\nAnd 40 more operations that no tool has\.$/m);
  write(good);
  expect((await person.secure(["policy", "check", file])).stderr).not.toContain("no tool has");
  expect(await person.done(["policy", "check", file])).toBe("1 policy, all sound.\n");
  expect(await person.done(["policy", "set", file])).toMatch(/^Set night, in force everywhere within 6 s \(bundle 2\)\.$/m);
  expect(JSON.parse(await person.done(["policy", "list"]))).toContainEqual(good);
  expect(refusal(await person.secure(["policy", "delete", "day"]))).toMatch(/^There is no policy with this id\./);
  await person.done(["policy", "delete", "night"]);
  expect(JSON.parse(await person.done(["policy", "list"]))).toHaveLength(4);

  // a decision explained, by arguments, attributes and context
  write([
    { id: "small", effect: "permit", roles: ["worker"], operations: ["task:add"], when: { arguments: { priority: { max: 5 } } } },
    { id: "red", effect: "forbid", operations: ["task:*"], when: { attributes: { team: { equals: "red" } } } },
    { id: "ticket", effect: "forbid", operations: ["task:cancel"], when: { context: { ticket: { equals: false } } } },
  ]);
  const asked = ["policy", "check", file, "--agent", "a", "--role", "worker", "--operation"];
  const decided = async (...args: string[]) => {
    const { code, stdout } = await person.secure([...asked, ...args]);
    return `${code} ${stdout.split("\n")[0]}`;
  };
  expect(await decided("task:add", "--argument", "priority=3", "--attribute", "team=blue")).toBe(
    "0 permitted (permitted): Policy small permits it.",
  );
  expect(await decided("task:add", "--argument", "priority=9", "--attribute", "team=blue")).toMatch(
    /^1 denied \(condition_not_met\)/,
  );
  expect(await decided("task:add", "--argument", "priority=3", "--attribute", "team=red")).toMatch(
    /^1 denied \(forbidden\): Policy red/,
  );
  expect(await decided("task:add", "--argument", "priority=3")).toMatch(/^1 denied \(condition_error\): Policy red/);
  expect(await decided("task:cancel", "--attribute", "team=blue", "--context", "ticket=true")).toMatch(/^1 denied \(no_policy\)/);
  expect(refusal(await person.secure(["policy", "check", file, "--operation", "task:add"]))).toMatch(/^Say who calls\./);
});

test("a root key under a passphrase opens with it alone", { timeout: 60_000 }, async () => {
  verifies("SEC-01");
  using person = new Person();
  expect(refusal(await person.secure(["init", "--passphrase"], { input: "short\n" }))).toMatch(
    /^The passphrase has a wrong length\./,
  );
  const phrase = "correct horse battery staple";
  await person.done(["init", "--passphrase"], { input: `${phrase}\n` });
  expect(refusal(await person.secure(["enroll", "a"], { input: "wrong horse battery\n" }))).toMatch(
    /^The passphrase does not open/,
  );
  expect(refusal(await person.secure(["enroll", "a"]))).toMatch(/^Nothing was typed\./);
  expect(await person.done(["enroll", "a"], { input: `${phrase}\n` })).toMatch(/^swarm_enrol_/);
  // looking needs no passphrase
  expect(await person.done(["members"])).toMatch(/^a +enrolled/m);
  for (const file of filesBelow(person.home)) expect(readFileSync(file, "latin1")).not.toContain(phrase);
});

test("files of keys are for their owner alone, hold the only secrets, and the store holds none", async () => {
  verifies("SEC-01");
  using person = new Person();
  await person.done(["init"]);
  const keyFile = await person.enroll("build-7");
  const { stdout: token } = await person.secure(["enroll", "build-8"]);
  const made = filesBelow(person.home);
  expect(made.length).toBeGreaterThan(3);
  for (const file of made) expect(statSync(file).mode & 0o077, file).toBe(0);
  const { sign, encrypt } = JSON.parse(readFileSync(keyFile, "utf8")) as { sign: string; encrypt: string };
  const rootFile = made.find((file) => file.endsWith("root-key.json")) ?? "none";
  const { secret } = JSON.parse(readFileSync(rootFile, "utf8")) as { secret: string };
  const seed = Buffer.from(token.trim().slice("swarm_enrol_".length), "base64url").subarray(0, 32).toString("base64url");
  await using store = await (async () => {
    const opened = await openStore(person.store);
    return { opened, [Symbol.asyncDispose]: () => opened.close() };
  })();
  const { contentOf } = await import("../support/content.ts");
  const rows = JSON.stringify(await contentOf(store.opened));
  for (const hidden of [sign, encrypt, secret, seed, token.trim()]) expect(rows).not.toContain(hidden);

  chmodSync(rootFile, 0o644);
  expect(refusal(await person.secure(["revoke", "build-7"]))).toMatch(/can be read or written by others\. Run `chmod 600 /);
  chmodSync(rootFile, 0o600);
  // another person has the store and not the root key
  using other = new Person(person.store);
  expect(refusal(await other.secure(["revoke", "build-7"]))).toMatch(
    /^There is no root key file at .* Its root key is somewhere else: set SWARM_ROOT_KEY_FILE/,
  );
  expect(refusal(await other.secure(["init"]))).toMatch(/^This swarm is secured already: .* Its root key is somewhere else:/);
  expect(refusal(await other.secure(["members"]))).toMatch(
    /^Nothing here says which root key this swarm goes by\. Set SWARM_ROOT_KEY/,
  );
  using foreign = new Person();
  await foreign.done(["init"]);
  const foreignRoot = filesBelow(foreign.home).find((file) => file.endsWith("root-key.json")) ?? "none";
  const with_ = { env: { SWARM_ROOT_KEY_FILE: foreignRoot } };
  expect(refusal(await person.secure(["revoke", "build-7"], with_))).toMatch(
    /^The trust bundle in this store is not signed by this root key\./,
  );
});

test("audit verify needs the root public key alone, and names the first row that was changed", async () => {
  verifies("SEC-09");
  using person = new Person();
  const rootKey = rootKeyOf(await person.done(["init"]));
  const env = { ...person.env, SWARM_KEY_FILE: await person.enroll("build-7") };
  await using host = await Host.start({ env });
  for (let n = 0; n < 5; n++) await host.call("add_task", { id: `t${n}`, description: "Work" });
  await host.close();
  using auditor = new Person(person.store);
  const verify = ["audit", "verify", "--root-key", rootKey];
  expect(await auditor.done(verify)).toMatch(/^sound: \d+ entries in \d+ chains, \d+ signed checkpoints, 0 copies of them\.$/m);
  const copies = filesBelow(person.home).filter((file) => file.endsWith(".checkpoints"));
  expect(copies.length).toBeGreaterThan(0);
  const compared = [...verify, ...copies.flatMap((file) => ["--checkpoints", file])];
  expect(await auditor.done(compared)).toMatch(/, [1-9]\d* copies of them\.$/m);
  expect(await person.done(["audit", "verify"])).toMatch(/, [1-9]\d* copies of them\.$/m);

  const path = person.store.slice("sqlite:".length);
  const saved = join(person.project, "saved.db");
  const changes: Record<string, { sql: string; says: RegExp; needsCopies?: true }> = {
    edited: {
      sql: `UPDATE keyv SET value = replace(value, '"task/t3"', '"task/t9"') WHERE namespace = 'audit'`,
      says: /^changed: edited: /,
    },
    deleted: { sql: `DELETE FROM keyv WHERE namespace = 'audit' AND value LIKE '%task/t2%'`, says: /^changed: missing: / },
    emptied: {
      sql: `DELETE FROM keyv WHERE namespace IN ('audit', 'audit-checkpoint')`,
      says: /^changed: copy_lost: /,
      needsCopies: true,
    },
  };
  const db = new DatabaseSync(path);
  db.exec(`VACUUM INTO '${saved}'`);
  db.close();
  for (const [what, { sql, says, needsCopies }] of Object.entries(changes)) {
    const changed = join(person.project, `${what}.db`);
    copyFileSync(saved, changed);
    const other = new DatabaseSync(changed);
    other.exec("DROP TRIGGER IF EXISTS keyv_foreign_write");
    expect(Number(other.prepare(sql).run().changes), what).toBeGreaterThan(0);
    other.exec("UPDATE keyv SET sum = NULL");
    other.close();
    const { code, stdout } = await auditor.secure(needsCopies ? compared : verify, { env: { SWARM_STORE: `sqlite:${changed}` } });
    expect({ what, code }).toEqual({ what, code: 1 });
    expect(stdout).toMatch(says);
    if (!needsCopies) expect(stdout).toMatch(/^first bad row: audit\//m);
  }
});

test("a bundle that was put back is refused, until its keeper signs it anew", async () => {
  verifies("SEC-05");
  using person = new Person();
  await person.done(["init"]);
  await person.enroll("build-7");
  const path = person.store.slice("sqlite:".length);
  const row = "SELECT value FROM keyv WHERE namespace = 'trust' AND key = 'bundle'";
  const look = new DatabaseSync(path);
  const before = String(look.prepare(row).get()?.value);
  look.close();
  await person.done(["revoke", "build-7"]);
  const db = new DatabaseSync(path);
  db.prepare("UPDATE keyv SET value = ?, sum = NULL WHERE namespace = 'trust' AND key = 'bundle'").run(before);
  db.close();
  expect(refusal(await person.secure(["enroll", "build-8"]))).toMatch(/older than one seen before\. .*renew --after-restore/);
  const { stdout, stderr } = await person.secure(["renew", "--after-restore"]);
  expect(stdout).toMatch(/^The bundle is signed anew \(bundle 4\)\.$/m);
  expect(stderr).toContain("Revoke again");
  expect(await person.done(["members"])).toMatch(/^build-7 +active/m);
  await person.done(["renew", "--end-tokens"]);
});

test("API keys are made by an issuer, shown once, kept as hashes, listed and ended", async () => {
  verifies("SEC-01");
  using person = new Person();
  await person.done(["init"]);
  await person.enroll("build-7");
  const gate = { env: { SWARM_KEY_FILE: await person.enroll("gate") } };
  expect(refusal(await person.secure(["api-key", "build-7"]))).toMatch(
    /^API keys are made by the key of the server that takes them\./,
  );
  expect(refusal(await person.secure(["api-key", "build-7"], gate))).toMatch(/^gate is no issuer of this swarm\. Make it one: /);
  await person.done(["roles", "gate", "--issuer"]);
  const { stdout, stderr } = await person.secure(["api-key", "build-7", "--days", "2"], gate);
  const [, id = "", secret = ""] = /^swarm_(key-[0-9a-z]{12})_([\w-]{43})\n$/.exec(stdout) ?? [];
  expect(stderr).toContain(`api-key --revoke ${id}`);
  expect(stderr).not.toContain(secret);
  expect(await person.done(["api-key", "--list"], gate)).toMatch(new RegExp(`^${id} +build-7 +20`, "m"));
  for (const file of filesBelow(dirname(person.home))) expect(readFileSync(file, "latin1"), file).not.toContain(secret);
  expect(refusal(await person.secure(["api-key", "stranger"], gate))).toMatch(/^stranger is no member of this swarm\./);
  expect(refusal(await person.secure(["api-key", "build-7", "--days", "367"], gate))).toMatch(
    /^--days takes a whole number from 1 to 366\./,
  );
  expect(await person.done(["api-key", "--revoke", id], gate)).toBe(`${id} has ended.\n`);
  expect(refusal(await person.secure(["api-key", "--revoke", id], gate))).toMatch(/^There is no API key with this id\./);
  expect(await person.done(["audit", "list", "--operation", "token:issue"])).toMatch(
    /administered +gate +token:issue +agent\/build-7 +api_key key-/,
  );
});

test("every command has help, and says in a line what was wrong", async () => {
  verifies("SEC-01", "CORE-13");
  using person = new Person();
  const { stdout } = await person.secure(["--help"]);
  const named = ["init", "enroll", "redeem", "members", "roles", "revoke", "quarantine", "renew", "api-key", "policy", "audit"];
  for (const command of named) {
    expect(stdout, command).toMatch(new RegExp(`^ {2}${command}\\b`, "m"));
    const help = await person.secure([command, "--help"]);
    expect(help, command).toMatchObject({
      code: 0,
      stderr: "",
      stdout: expect.stringContaining(`mcp-swarm-security ${command}`),
    });
  }
  for (const [group, names] of [
    ["policy", ["list", "set", "delete", "check"]],
    ["audit", ["list", "verify"]],
  ] as const) {
    for (const name of names) expect((await person.secure([group, name, "--help"])).code, name).toBe(0);
  }
  // nothing is there yet: each says so, and makes nothing
  for (const args of [
    ["members"],
    ["enroll", "a"],
    ["redeem", "x"],
    ["revoke", "a"],
    ["policy", "list"],
    ["audit", "verify"],
    ["audit", "list"],
  ]) {
    expect(refusal(await person.secure(args)), args.join(" ")).toMatch(/^There is no store at sqlite:.*SWARM_STORE/);
  }
  expect(existsSync(person.store.slice("sqlite:".length))).toBe(false);
  expect(filesBelow(person.home)).toEqual([]);
  await person.done(["init"]);
  const wrong: [args: string[], says: RegExp][] = [
    [["whoami"], /^There is no command whoami\. The commands are store, init, enroll, .*--help/],
    [["enroll", "../a"], /^Not an agent id\./],
    [["enroll", "a/b"], /^A subagent is not enrolled/],
    [["enroll", "self"], /^No agent can be enrolled as self/],
    [["enroll", "root"], /^No agent can be enrolled as root/],
    [["enroll", "a", "--role", "no spaces"], /^Not a role/],
    [["enroll", "a", "--attribute", "team"], /^--attribute takes name=value\./],
    [["enroll", "a", "--replace"], /^There is no member with this id\./],
    [["redeem", "swarm_enrol_x"], /^This is not a one-time token\./],
    [["roles", "a", "--role", "worker"], /^There is no member with this id\./],
    [["roles", "a"], /^Say what a is to have\./],
    [["audit", "list", "--outcome", "bad"], /^--outcome takes another word\./],
    [["audit", "list", "--since", "soon"], /^--since takes a time\./],
    [["audit", "list", "--limit", "0"], /^--limit takes a whole number/],
    [["members", "--root-key", "x"], /^The pinned root key is not an Ed25519 public key\./],
    [["policy", "check", "--agent", "a", "--operation", "x:y"], /^a is no member of this swarm\./],
  ];
  for (const [args, says] of wrong) expect(refusal(await person.secure(args)), args.join(" ")).toMatch(says);
  expect(refusal(await person.secure(["init"], { env: { SWARM_STORE: "memory:" } }))).toMatch(/^A store in memory ends/);
  expect(await person.done(["members"])).toBe("");
});

test("an init that was interrupted before the store knew of it goes on with the same root key", async () => {
  verifies("SEC-01");
  using person = new Person();
  const rootKey = rootKeyOf(await person.done(["init"]));
  using folder = temporaryFolder();
  const path = person.store.slice("sqlite:".length);
  for (const file of readdirSync(dirname(path)).filter((name) => name.startsWith("swarm.db"))) {
    copyFileSync(join(dirname(path), file), join(folder.path, file));
    writeFileSync(join(dirname(path), file), "");
  }
  expect(rootKeyOf(await person.done(["init"]))).toBe(rootKey);
});
