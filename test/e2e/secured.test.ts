/** Real server processes in a secured swarm: who is let in, who is not, and what becomes of those who no longer are. */
import { chmodSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemClock } from "@mcp-swarm/core";
import { defaultPolicies } from "@mcp-swarm/identity/policy";
import { BUNDLE_KEY, readKeyFile, rotateOwn, Trust } from "@mcp-swarm/identity/trust";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { ERAS, eventually, Host, type ToolAnswer, temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

const WAIT_MS = 50_000;
/** Longer than any test: what is free sooner was given back. */
const LONG_LEASE = { env: { SWARM_LEASE_MS: "600000" } };
/** Processes that work while their agent is revoked. */
const WORKERS = 8;

type Call = [tool: string, args: Record<string, unknown>];
/** Of each server a call that a worker may make and an observer may not, and one that both may. */
const SERVERS: Readonly<Record<string, { write: Call; read: Call }>> = {
  "task-coordination": { write: ["add_task", { id: "a", description: "Work" }], read: ["get_all_tasks", {}] },
  "agent-comm": { write: ["register_agent", { agentType: "tester", capabilities: [] }], read: ["list_agents", {}] },
  "shared-state": { write: ["set_state", { key: "a", value: 1 }], read: ["get_state", { key: "a" }] },
};

const codeOf = ({ isError, text }: ToolAnswer) => (isError ? text.slice(0, text.indexOf(":")) : "permitted");

// side by side: most of their time they wait for a round of the processes they look at
describe.each(ENGINES)("in a secured swarm on $name", { concurrent: true }, ({ meet }) => {
  test.each(Object.keys(SERVERS))("%s lets in whom the policies permit, and writes down whom it refuses", async (server) => {
    verifies("SEC-05", "CORE-15");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    await swarm.enroll("watcher", { roles: ["observer"] });
    const { write, read } = SERVERS[server] as { write: Call; read: Call };
    await using worker = await swarm.host("worker-1", { server });
    expect(await worker.call(...write)).toMatchObject({ caller: { agentId: "worker-1", verified: true } });
    expect(await worker.call(...read)).toMatchObject({ caller: { agentId: "worker-1", verified: true } });
    await using watcher = await swarm.host("watcher", { server, era: "v1" });
    expect(await watcher.call(...read)).toMatchObject({ caller: { agentId: "watcher", verified: true } });
    const refused = await watcher.try(...write);
    expect(refused.text).toMatch(
      /^permission_denied: No policy permits \w+:\w+ on \S+ to watcher \(roles: observer\)\.\n.*root key/,
    );
    const audited = await swarm.audited();
    expect(audited).toContainEqual(
      expect.objectContaining({ agentId: "worker-1", verified: true, outcome: "permit", tool: write[0], policyIds: ["worker"] }),
    );
    expect(audited).toContainEqual(
      expect.objectContaining({ agentId: "watcher", outcome: "deny", reason: "insufficient_permissions", tool: write[0] }),
    );
    expect(audited).toContainEqual(expect.objectContaining({ agentId: "watcher", outcome: "permit", tool: read[0] }));
  });

  test("whoever has no key, a key of no member or of another swarm, a readable key file or another name is refused, and told why", async () => {
    verifies("SEC-05");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    using elsewhere = temporaryFolder();
    await using other = await SecuredSwarm.secure(elsewhere);
    await other.enroll("worker-1");
    using open = temporaryFolder(); // whose swarm nobody secured
    const readable = chmodded(await swarm.enroll("careless"), 0o644);
    const noKeyFile = join(elsewhere.path, "empty.json");
    writeFileSync(noKeyFile, "{}", { mode: 0o600 });
    const attempts: [env: Record<string, string>, code: string, hint: RegExp][] = [
      [{}, "failed_precondition", /SWARM_KEY_FILE/],
      [{ SWARM_ROOT_KEY: swarm.rootKey }, "unauthenticated", /SWARM_KEY_FILE/],
      [
        { SWARM_KEY_FILE: other.keyFile("worker-1") },
        "unavailable",
        /not signed by .*\nCheck that SWARM_KEY_FILE.*--where[^\n]*$/,
      ],
      [
        { SWARM_KEY_FILE: swarm.keyFile("worker-1"), SWARM_STORE: open.store },
        "unavailable",
        /holds none\.\nCheck.*--where[^\n]*$/,
      ],
      [{ SWARM_KEY_FILE: readable }, "failed_precondition", /chmod 600/],
      [{ SWARM_KEY_FILE: noKeyFile }, "failed_precondition", /one-time token/],
      [{ SWARM_KEY_FILE: join(elsewhere.path, "none.json") }, "not_found", /redeem/],
      [{ SWARM_KEY_FILE: swarm.keyFile("worker-1"), SWARM_AGENT: "worker-2" }, "failed_precondition", /SWARM_AGENT/],
      [{ SWARM_KEY_FILE: swarm.keyFile("worker-1"), SWARM_ROOT_KEY: other.rootKey }, "failed_precondition", /SWARM_ROOT_KEY/],
    ];
    for (const [env, code, hint] of attempts) {
      await using host = await Host.start({ store: swarm.url, env });
      const answer = await host.try("add_task", { id: "a", description: "Work" });
      expect([codeOf(answer), answer.text], JSON.stringify(env)).toEqual([code, expect.stringMatching(hint)]);
      expect((await host.client.listTools()).tools.length).toBeGreaterThan(10); // what there is does not depend on who asks
      await expect(host.client.readResource({ uri: "task://a" })).rejects.toThrow();
    }
    await using worker = await swarm.host("worker-1");
    expect(await worker.call("get_all_tasks")).toMatchObject({ tasks: [] });
  });

  test("a revocation is in force in all processes of the agent, and what they held is free for others", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    await swarm.enroll("worker-2");
    await using other = await swarm.host("worker-2");
    for (let i = 0; i < WORKERS; i++) await other.call("add_task", { id: `task-${i}`, description: "Work" });
    const hosts = await Promise.all(Array.from({ length: WORKERS }, () => swarm.host("worker-1", LONG_LEASE)));
    try {
      await Promise.all(hosts.map((host, i) => host.call("claim_task", { taskId: `task-${i}` })));
      let stop = false;
      // each goes on working until it is refused; what it is then told is looked at below
      const working = hosts.map(async (host) => {
        for (;;) {
          const answer = await host.try("get_all_tasks", { limit: 1 });
          if (answer.isError || stop) return codeOf(answer);
        }
      });
      await swarm.admin.revoke("worker-1");
      const ended = eventually("all are refused", async () => (await Promise.all(working)).length === WORKERS);
      await ended.finally(() => {
        stop = true;
      });
      expect(new Set(await Promise.all(working))).toEqual(new Set(["permission_denied"]));
      for (let i = 0; i < WORKERS; i++) {
        await eventually(`task-${i} is free`, async () => !(await other.try("claim_task", { taskId: `task-${i}` })).isError);
      }
      await using late = await swarm.host("worker-1");
      expect(codeOf(await late.try("get_all_tasks"))).toBe("permission_denied");
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });

  test("an agent in quarantine is refused and holds nothing, and the same process works again when that ends", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    await swarm.enroll("worker-2");
    await using host = await swarm.host("worker-1", LONG_LEASE);
    await using other = await swarm.host("worker-2");
    await host.call("add_task", { id: "a", description: "Work" });
    await host.call("claim_task", { taskId: "a" });
    expect(codeOf(await other.try("claim_task", { taskId: "a" }))).not.toBe("permitted");
    await swarm.admin.quarantine("worker-1", true);
    await eventually("it is refused", async () => codeOf(await host.try("get_all_tasks")) === "permission_denied");
    await eventually("its task is free", async () => codeOf(await other.try("claim_task", { taskId: "a" })) === "permitted");
    await swarm.admin.quarantine("worker-1", false);
    await eventually("it is let in again", async () => codeOf(await host.try("get_all_tasks")) === "permitted");
    await host.call("add_task", { id: "b", description: "Work" });
    expect(await host.call("claim_task", { taskId: "b" })).toMatchObject({ caller: { verified: true } });
  });

  test("keys that one process of an agent replaced are taken up by its others; the old ones are dead", async () => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    const keyFile = await swarm.enroll("worker-1");
    await using host = await swarm.host("worker-1", { server: "security" });
    const keyOfHost = async () => (await host.call<{ agent: { keyId: string } }>("whoami")).agent.keyId;
    expect(await keyOfHost()).toBe((await readKeyFile(keyFile)).sign.kid);
    using elsewhere = temporaryFolder();
    const stolen = join(elsewhere.path, "stolen.json");
    copyFileSync(keyFile, stolen); // with its mode
    const fresh = await rotate(swarm, keyFile);
    await using thief = await Host.start({ store: swarm.url, env: { SWARM_KEY_FILE: stolen } });
    expect(codeOf(await thief.try("get_all_tasks"))).toBe("unauthenticated");
    // none of its calls is refused until then
    await eventually("it has taken up the new keys", async () => (await keyOfHost()) === fresh);
  });

  test("a bundle that was taken away, put back to an older one or signed by nobody changes nothing for running processes, and lets no fresh one in", async () => {
    verifies("SEC-05");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    const older = (await swarm.store.get(BUNDLE_KEY))?.value as { jws: string };
    await swarm.admin.setPolicy({ id: "no-cancel", effect: "forbid", operations: ["task:cancel"] });
    await using host = await swarm.host("worker-1");
    await host.call("add_task", { id: "a", description: "Work" });
    const good = (await swarm.store.get(BUNDLE_KEY))?.value as { jws: string };
    const unsigned = good.jws.replace(/\.[^.]+$/, `.${"A".repeat(86)}`);
    for (const jws of [older.jws, unsigned, undefined]) {
      await swarm.store.transact((tx) => (jws === undefined ? tx.delete(BUNDLE_KEY) : tx.put(BUNDLE_KEY, { jws })));
      await using fresh = await swarm.host("worker-1");
      expect(codeOf(await fresh.try("get_all_tasks"))).toBe("unavailable");
      expect(codeOf(await host.try("get_task", { taskId: "a" }))).toBe("permitted");
      expect(codeOf(await host.try("cancel_task", { taskId: "a" }))).toBe("permission_denied");
    }
    await swarm.store.transact((tx) => tx.put(BUNDLE_KEY, good));
    await using fresh = await swarm.host("worker-1");
    await eventually("a fresh one is let in again", async () => codeOf(await fresh.try("get_all_tasks")) === "permitted");
  });

  test("calls that wait are ended by a revocation, and by a policy that forbids them", async () => {
    verifies("SEC-08", "CORE-10");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agentId of ["worker-1", "worker-2", "worker-3"]) await swarm.enroll(agentId);
    await using other = await swarm.host("worker-2");
    await using revoked = await swarm.host("worker-1");
    await using forbidden = await swarm.host("worker-3");
    const waiting = [revoked, forbidden].map((host) => host.try("claim_next_task", { waitMs: WAIT_MS }));
    for (const host of [revoked, forbidden]) await host.call("get_all_tasks"); // the waiting calls are in the servers' hands
    const startedAt = await swarm.store.now();
    await swarm.admin.setPolicy({ id: "stop", effect: "forbid", agents: ["worker-3"], operations: ["task:claim"] });
    await swarm.admin.revoke("worker-1");
    expect((await Promise.all(waiting)).map(codeOf)).toEqual(["permission_denied", "permission_denied"]);
    expect((await swarm.store.now()) - startedAt).toBeLessThan(WAIT_MS / 2); // ended, and not over
    expect(codeOf(await forbidden.try("get_all_tasks"))).toBe("permitted");
    await other.call("add_task", { id: "a", description: "Work" });
    expect(await other.call("claim_task", { taskId: "a" })).toMatchObject({ caller: { agentId: "worker-2" } });
  });

  test.each(ERAS)("a subscription (%s) says nothing while its agent is in quarantine, and speaks again after", async (era) => {
    verifies("SEC-08");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    await swarm.enroll("worker-2");
    const server = "shared-state";
    await using watcher = await swarm.host("worker-1", { server, era });
    await using writer = await swarm.host("worker-2", { server });
    const uri = "state://global/plan";
    await watcher.subscribe(uri);
    let value = 0;
    const set = async () => void (await writer.call("set_state", { key: "plan", value: ++value }));
    await set();
    await eventually("it is told", () => watcher.updates(uri) > 0);
    await swarm.admin.quarantine("worker-1", true);
    await eventually(
      "it is refused",
      async () => codeOf(await watcher.try("get_state", { key: "plan" })) === "permission_denied",
    );
    const before = watcher.updates(uri);
    for (let i = 0; i < 5; i++) await set();
    await expect(watcher.read(uri)).rejects.toThrow(/quarantine/);
    expect(watcher.updates(uri)).toBe(before);
    await swarm.admin.quarantine("worker-1", false);
    await eventually("it is told again", () => watcher.updates(uri) > before);
    expect(await watcher.read<{ entry: { value: number } }>(uri)).toMatchObject({ entry: { value } });
  });

  test("a process that was started before the swarm was secured refuses all calls, and what it held is free", async () => {
    verifies("SEC-05");
    using meeting = await meet();
    await using early = await Host.start({ ...LONG_LEASE, store: meeting.store, agent: "early" });
    await early.call("add_task", { id: "a", description: "Work" });
    await early.call("claim_task", { taskId: "a" });
    await using swarm = await SecuredSwarm.secure({ store: meeting.store, policies: defaultPolicies() });
    await swarm.enroll("worker-1");
    await eventually("it is refused", async () => codeOf(await early.try("get_all_tasks")) === "failed_precondition");
    await using worker = await swarm.host("worker-1");
    await eventually("its task is free", async () => codeOf(await worker.try("claim_task", { taskId: "a" })) === "permitted");
  });

  test("a call that the domain refuses or that is repeated is written down too", async () => {
    verifies("SEC-09");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    await swarm.enroll("worker-1");
    await using host = await swarm.host("worker-1");
    const add = { id: "a", description: "Work", idempotencyKey: "once" };
    await host.call("add_task", add);
    await host.call("add_task", add);
    expect(codeOf(await host.try("claim_task", { taskId: "none" }))).toBe("not_found");
    const audited = (await swarm.audited()).map(({ tool, reason, outcome }) => ({ tool, reason, outcome }));
    expect(audited).toEqual([
      { tool: "claim_task", reason: "not_found", outcome: "permit" },
      { tool: "add_task", reason: "permitted", outcome: "permit" },
      { tool: "add_task", reason: "permitted", outcome: "permit" },
    ]);
  });
});

function chmodded(path: string, mode: number): string {
  chmodSync(path, mode);
  return path;
}

/** Replaces the agent's keys as another process of it does; answers the id of the new signing key. */
async function rotate({ store, rootKey }: SecuredSwarm, keyFile: string): Promise<string> {
  const onError = (error: unknown) => {
    throw error;
  };
  const trust = await Trust.open({ store, clock: systemClock, rootKey, self: await readKeyFile(keyFile), onError });
  try {
    return await rotateOwn({ store, trust, keyFile });
  } finally {
    await trust.close();
  }
}
