/** A write that is repeated: by a model that is not sure, by a host that lost the answer, by two hosts at once. */
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost } from "../support/bin.ts";
import { lookInto } from "../support/content.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import { proofOf, Recall, type WriteProof } from "./proofs/index.ts";

/** So long that no renewal comes between two looks at the store. */
const ENV = { SWARM_LEASE_MS: "3600000" };
const AT_ONCE = 6;

describe.each(["sqlite", "postgres"])("on %s", (engine) => {
  describe.each(SERVERS)("%s", (server) => {
    test("every write tool, repeated under its idempotencyKey, gives the first outcome and changes nothing more", {
      timeout: 120_000,
    }, async () => {
      verifies("CORE-12");
      using folder = temporaryFolder();
      const store = engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
      // two hosts of one agent, as after a host was started anew
      await using swarm = await Surroundings.of(server, store);
      await using first = await swarm.host("a", { env: ENV });
      await using second = await swarm.host("a", { env: ENV });
      await using look = await lookInto(store);
      const { tools } = await first.client.listTools();
      const writes = tools.filter(({ annotations }) => annotations?.readOnlyHint === false).map(({ name }) => name);
      const known = proofOf(server).writes;
      expect(writes.filter((name) => !(name in known))).toEqual([]);
      for (const [index, tool] of writes.entries()) {
        const write = JSON.parse(JSON.stringify(known[tool]).replaceAll("@", `w${index}-`)) as WriteProof;
        const recall = new Recall();
        for (const [name, args] of write.before) recall.learn(await first.call(name, recall.fill(args)));
        await using _ = await known[tool]?.meanwhile?.(store, server);
        const start = JSON.stringify(await look.content());
        const args = { ...recall.fill(write.args), idempotencyKey: `once only \u{1f511} ${tool}` };

        const atOnce = await Promise.all(
          Array.from({ length: AT_ONCE }, (_, index) => (index % 2 === 0 ? first : second).try(tool, args)),
        );
        for (const answer of atOnce) expect(answer.isError, `${tool}: ${answer.text}`).toBe(false);
        const texts = new Set(atOnce.map(({ text }) => text));
        expect([...texts], tool).toHaveLength(1);
        const after = JSON.stringify(await look.content());
        expect(after, tool).not.toBe(start);

        const reordered = Object.fromEntries(Object.entries(args).reverse());
        expect((await second.try(tool, reordered)).text, tool).toBe([...texts][0]);
        const misused = await first.try(tool, { ...recall.fill(write.other), idempotencyKey: args.idempotencyKey });
        expect(misused, tool).toMatchObject({
          isError: true,
          text: expect.stringMatching(/^invalid_argument: This idempotencyKey was used for another call\.\n/),
        });
        expect(JSON.stringify(await look.content()) === after, `${tool} changed something more`).toBe(true);
      }
    });
  });

  test("after a kill between commit and answer, the retry from a new process gets the first outcome", async () => {
    verifies("CORE-12", "CORE-09");
    using folder = temporaryFolder();
    const store = engine === "sqlite" ? folder.store : await freshDatabase(inject("postgresUrl"));
    await using look = await lookInto(store);
    const KILLS = 5;
    for (let kill = 0; kill < KILLS; kill++) {
      const raw = new RawHost("task-coordination", { ...ENV, SWARM_STORE: store, SWARM_AGENT: "a" });
      await raw.initialize();
      await raw.callText("get_all_tasks", "{}");
      const json = JSON.stringify({ description: `Work ${kill}`, idempotencyKey: `key-${kill}` });
      const written = async () => (await look.store.scan({ from: "task/", before: "task0", limit: 100 })).length > kill;
      raw.write(`{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"add_task","arguments":${json}}}\n`);
      await eventually("the commit", written);
      raw.child.kill("SIGKILL");
      await raw.end();
      const before = JSON.stringify(await look.content());
      await using again = await Host.start({ store, agent: "a", env: ENV });
      const retried = await again.call<{ task: { id: string } }>("add_task", JSON.parse(json) as Record<string, unknown>);
      expect(JSON.stringify(await look.content())).toBe(before);
      const { task } = await again.call<{ task: { description: string } }>("get_task", { taskId: retried.task.id });
      expect(task.description).toBe(`Work ${kill}`);
    }
  });
});

test("each agent has keys of its own, and a call that failed may be tried again under its key", async () => {
  verifies("CORE-12");
  using folder = temporaryFolder();
  await using a = await Host.start({ store: folder.store, agent: "a" });
  await using b = await Host.start({ store: folder.store, agent: "b" });
  const idempotencyKey = "same";
  const byA = await a.call<{ task: { id: string } }>("add_task", { description: "Work", idempotencyKey });
  const byB = await b.call<{ task: { id: string } }>("add_task", { description: "Work", idempotencyKey });
  expect(byA.task.id).not.toBe(byB.task.id);
  const missing = { taskId: "later", idempotencyKey: "claim-later" };
  expect((await a.try("claim_task", missing)).text).toMatch(/^not_found: /);
  await a.call("add_task", { id: "later", description: "Work" });
  expect(await a.call("claim_task", missing)).toMatchObject({ task: { id: "later" } });
  const empty = { type: "nothing", idempotencyKey: "claim-none" };
  expect(await a.call("claim_next_task", empty)).toMatchObject({ task: null });
  await a.call("add_task", { id: "now", description: "Work", type: "nothing" });
  expect(await a.call("claim_next_task", empty)).toMatchObject({ task: { id: "now" } });
});
