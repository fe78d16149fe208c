/** What goes on after it was let in, and what is read without a tool: resources, subscriptions, channels and stopped processes of a secured swarm. */
import type { Policy } from "@mcp-swarm/identity/policy";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, type Host, temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

const STATE = "shared-state";
/** Longer than any test: what is free sooner was given back. */
const LONG_LEASE = { SWARM_LEASE_MS: "600000" };

/** Readers may read what is public, and whatever their own policy says. */
const POLICIES: Policy[] = [
  { id: "writer", effect: "permit", roles: ["writer"], operations: ["*"] },
  { id: "public", effect: "permit", roles: ["reader"], operations: ["state:read"], resources: ["state/global/public/*"] },
  { id: "not-this", effect: "forbid", roles: ["reader"], operations: ["state:*"], resources: ["state/global/public/hidden"] },
];

const pushed = (host: Host) => host.notifications.filter(({ method }) => method === "notifications/claude/channel");

describe("resources of a secured swarm", { concurrent: true }, () => {
  test("are read and watched as policy permits, and one that is forbidden is not shown by way of what is around it", async () => {
    verifies("SEC-05", "SEC-06");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure({ store: folder.store, policies: POLICIES });
    await swarm.enroll("writer-1", { roles: ["writer"] });
    await swarm.enroll("reader-1", { roles: ["reader"] });
    await using writer = await swarm.host("writer-1", { server: STATE });
    for (const key of ["public/a", "public/hidden", "private"]) await writer.call("set_state", { key, value: `of ${key}` });
    await using reader = await swarm.host("reader-1", { server: STATE });
    expect(await reader.read("state://global/public/a")).toMatchObject({
      entry: { value: "of public/a" },
      caller: { agentId: "reader-1", verified: true },
    });
    for (const uri of ["public/hidden", "public/*", "public/", "public/h*", "private", "*"].map(
      (key) => `state://global/${key}`,
    )) {
      await expect(reader.read(uri), uri).rejects.toThrow(/forbids|No policy permits/);
    }
    expect((await reader.client.listResources()).resources).toEqual([]); // what it lists is all values
    expect((await writer.client.listResources()).resources).toHaveLength(1);
    const subscribed = await reader.subscribe(
      "state://global/public/a",
      "state://global/private",
      "state://global/public/hidden",
    );
    expect(subscribed.uris).toEqual(["state://global/public/a"]);
    for (const key of ["private", "public/hidden", "public/a"]) await writer.call("set_state", { key, value: 2 });
    await eventually("it is told of what it may read", () => reader.updates("state://global/public/a") > 0);
    expect(reader.updates("state://global/private") + reader.updates("state://global/public/hidden")).toBe(0);
    const denied = (await swarm.audited({ outcome: "deny" })).map(({ resource }) => resource);
    expect(denied).toEqual(
      expect.arrayContaining(["state/global/private", "state/global/public/hidden", "state/global/public/*"]),
    );
  });

  test("have one name each: what is forbidden is not read by an address that leaves its owner out, nor by a subscription", async () => {
    verifies("SEC-05", "SEC-06");
    using folder = temporaryFolder();
    const policies: Policy[] = [
      { id: "all", effect: "permit", roles: ["worker"], operations: ["*"] },
      { id: "no-key", effect: "forbid", agents: ["ann"], operations: ["state:read"], resources: ["state/agent:ann/key"] },
      { id: "no-plan", effect: "forbid", agents: ["ann"], operations: ["state:read"], resources: ["state/workflow:w/plan/*"] },
    ];
    await using swarm = await SecuredSwarm.secure({ store: folder.store, policies });
    for (const agentId of ["ann", "bob"]) await swarm.enroll(agentId);
    await using ann = await swarm.host("ann", { server: STATE });
    await using bob = await swarm.host("bob", { server: STATE });
    await ann.call("set_state", { scope: "agent", key: "key", value: "hidden" });
    for (const uri of ["state://agent:ann/key", "state://agent/key", "state://agent/*", "state://session/key"]) {
      await expect(ann.read(uri), uri).rejects.toThrow(/forbids|whole/);
    }
    expect(await ann.try("get_state", { scope: "agent", key: "key" })).toMatchObject({ isError: true });
    const watched = { scope: "workflow", scopeId: "w", prefix: "plan/" };
    const { subscription } = await ann.call<{ subscription: { id: string } }>("subscribe_to_state_changes", watched);
    await bob.call("set_state", { scope: "workflow", scopeId: "w", key: "plan/1", value: "hidden" });
    for (const input of [watched, { subscriptionId: subscription.id }]) {
      expect((await ann.try("wait_for_state", input)).text).toMatch(/^permission_denied/);
    }
    const own = await bob.call<{ subscription: { id: string } }>("subscribe_to_state_changes", { ...watched, fromRev: 0 });
    const seen = await bob.call<{ changes: unknown[] }>("wait_for_state", { subscriptionId: own.subscription.id });
    expect(seen.changes).toHaveLength(1);
  });

  test("that a new policy forbids are no longer told of in a stream that is open", async () => {
    verifies("SEC-05");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure({ store: folder.store, policies: POLICIES });
    await swarm.enroll("writer-1", { roles: ["writer"] });
    await swarm.enroll("reader-1", { roles: ["reader"] });
    await using writer = await swarm.host("writer-1", { server: STATE });
    await using reader = await swarm.host("reader-1", { server: STATE });
    const [closed, open] = ["state://global/public/a", "state://global/public/b"];
    await reader.subscribe(closed, open);
    await swarm.admin.setPolicy({
      id: "closed",
      effect: "forbid",
      roles: ["reader"],
      operations: ["state:read"],
      resources: ["state/global/public/a"],
    });
    await eventually("it is forbidden", () =>
      reader.read(closed).then(
        () => false,
        (error: Error) => /forbids/.test(error.message),
      ),
    );
    const before = reader.updates(closed);
    for (let value = 0; value < 3; value++) {
      const told = reader.updates(open);
      for (const key of ["public/a", "public/b"]) await writer.call("set_state", { key, value });
      await eventually("it is told of the other", () => reader.updates(open) > told);
    }
    expect(reader.updates(closed)).toBe(before);
    await swarm.admin.deletePolicy("closed");
    await eventually("it is told again", () => reader.updates(closed) > before);
  });
});

describe("a session of a secured swarm", { concurrent: true }, () => {
  test("is shown messages as they come, none while its agent is in quarantine, and what came meanwhile stays in its inbox", async () => {
    verifies("SEC-08", "COMM-10");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    for (const agentId of ["ann", "bob"]) await swarm.enroll(agentId);
    const server = "agent-comm";
    await using ann = await swarm.host("ann", { server, era: "v1", args: ["--channel"] });
    await using bob = await swarm.host("bob", { server });
    await ann.call("register_agent", { agentType: "tester", capabilities: [] });
    const send = (payload: string) =>
      bob.call("send_message", { targetAgent: "ann", messageType: "note", payload, mailbox: true });
    const shows = (text: string) => pushed(ann).some(({ params }) => JSON.stringify(params).includes(text));
    await send("before");
    await eventually("the first is shown", () => shows("before"));
    await swarm.admin.quarantine("ann", true);
    await eventually("ann is refused", async () => (await ann.try("get_messages")).isError);
    await send("meanwhile");
    await bob.call("get_agent_status", {}); // and something after it
    await swarm.admin.quarantine("ann", false);
    await eventually("ann is let in again", async () => !(await ann.try("get_agent_status", {})).isError);
    await send("after");
    await eventually("the last is shown", () => shows("after"));
    expect(shows("meanwhile")).toBe(false);
    expect(JSON.stringify(await ann.call("get_messages"))).toContain("meanwhile");
  });

  test("that was stopped while its agent was revoked does nothing more when it goes on", async () => {
    verifies("SEC-08");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    for (const agentId of ["ann", "bob"]) await swarm.enroll(agentId);
    await using ann = await swarm.host("ann", { env: LONG_LEASE });
    await using bob = await swarm.host("bob");
    await ann.call("add_task", { id: "a", description: "Work" });
    await ann.call("claim_task", { taskId: "a" });
    process.kill(ann.pid, "SIGSTOP");
    await swarm.admin.revoke("ann");
    // longer than a round: what it read last is then too old to go by
    const revokedAt = await swarm.store.now();
    await eventually("a round is over", async () => (await swarm.store.now()) > revokedAt + 7_000);
    const late = ann.try("update_task", { taskId: "a", status: "done" });
    process.kill(ann.pid, "SIGCONT");
    expect((await late).text).toMatch(/^permission_denied: ann was revoked/);
    expect(await bob.call("get_task", { taskId: "a" })).not.toMatchObject({ task: { status: "done" } });
    await eventually("its task is free", async () => !(await bob.try("claim_task", { taskId: "a" })).isError);
  });
});
