/** Whoever can write to the store forges what the swarm agrees on: servers over stdio do not go by it. */
import type { JsonObject } from "@mcp-swarm/core";
import { BUNDLE_KEY, readKeyFile, writeKeyFile } from "@mcp-swarm/identity/trust";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { JWS_FORGERIES, type JwsGround, signJwsOf } from "../support/forgeries.ts";
import { eventually, temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";

/** All kinds are tried without processes; here each n-th, whatever their order. */
const EVERY = 8;

test("a forged bundle changes nothing for a server that runs, and a fresh one does nothing until the good one is back", async () => {
  verifies("SEC-07", "SEC-05");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure(folder);
  await swarm.enroll("watcher", { roles: ["observer"] });
  const self = await readKeyFile(swarm.keyFile("watcher"));
  const { bundle, jws: good } = await swarm.admin.read();
  const { watcher } = bundle.members;
  const members = { ...bundle.members, watcher: { ...watcher, roles: ["admin"] } };
  const ground: JwsGround = {
    type: "mcp-swarm-bundle+jws",
    otherType: "at+jwt",
    key: swarm.root,
    otherKey: self.sign,
    payload: { ...bundle, members, version: bundle.version + 1 } as unknown as JsonObject,
  };
  const put = (jws: string) => swarm.store.transact((tx) => tx.put(BUNDLE_KEY, { jws }));

  await using running = await swarm.host("watcher");
  await running.call("get_all_tasks");
  const write = () => running.try("add_task", { id: "a", description: "Work" });
  const tried = JWS_FORGERIES.filter((_, at) => at % EVERY === 0);
  expect(tried.length).toBeGreaterThanOrEqual(8);
  for (const { name, make } of tried) {
    await put(make(ground));
    await using fresh = await swarm.host("watcher");
    const refused = await fresh.try("get_all_tasks");
    expect(refused, name).toMatchObject({
      isError: true,
      text: expect.stringMatching(/^unavailable: .*not signed by the pinned/),
    });
    expect((await write()).text, name).toMatch(/^permission_denied: /);
    expect((await running.try("get_all_tasks")).isError, name).toBe(false);
  }
  await put(good);
  await using after = await swarm.host("watcher");
  expect((await after.call("get_all_tasks")).caller).toEqual({ agentId: "watcher", verified: true });
  // what the root key really signs is in force, so the refusals were not for want of looking
  await put(signJwsOf(ground));
  await eventually("the next bundle is in force", async () => !(await write()).isError);
});

test("a forged key file makes nobody another agent", async () => {
  verifies("SEC-07", "SEC-05");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure(folder);
  await swarm.enroll("boss", { roles: ["admin"] });
  const own = await readKeyFile(await swarm.enroll("watcher", { roles: ["observer"] }));
  const boss = await readKeyFile(swarm.keyFile("boss"));
  const forged = {
    "its own keys under another's name": { ...own, agentId: "boss" },
    "another's public keys beside its own secret": {
      ...own,
      agentId: "boss",
      sign: { ...boss.sign, privateKey: own.sign.privateKey },
      encrypt: { ...boss.encrypt, privateKey: own.encrypt.privateKey },
    },
    "another generation": { ...own, generation: own.generation + 1 },
  };
  for (const [name, keys] of Object.entries(forged)) {
    const path = swarm.keyFile("forged");
    await writeKeyFile(path, keys);
    await using host = await swarm.host("forged");
    const { isError, text } = await host.try("add_task", { id: "a", description: "Work" });
    expect(isError, name).toBe(true);
    expect(text, name).toMatch(/^(unauthenticated|permission_denied|failed_precondition): /);
  }
});
