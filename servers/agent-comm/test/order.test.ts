/** What one agent publishes and sends while another reads: at whatever moment it comes, it is read in the order it was said. */
import { manualClock } from "@mcp-swarm/core";
import type { Store } from "@mcp-swarm/store";
import { MemoryStore } from "@mcp-swarm/store/memory";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { type CommProcess, commOn } from "./support/comm.ts";

/** More calls of the store than one reading makes. */
const CALLS_MAX = 40;
const CALLS = new Set<string | symbol>(["scan", "get", "getMany", "transact", "now"]);

/** A store before whose `at`th call, counted from `begin` on, something else happens. */
function interrupted(store: Store, at: number, meanwhile: () => Promise<void>) {
  let calls = Number.NEGATIVE_INFINITY;
  const proxy = new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      if (!CALLS.has(name)) return member.bind(target);
      return async (...args: unknown[]) => {
        calls += 1;
        if (calls === at) await meanwhile();
        return Reflect.apply(member, target, args);
      };
    },
  });
  return {
    store: proxy,
    begin: () => {
      calls = 0;
    },
    happened: () => calls >= at,
  };
}

type Way = "publish" | "send";

async function say(by: CommProcess, way: Way, payload: number): Promise<void> {
  const message = { messageType: "note", payload };
  if (way === "send") await by.sending.send(by.call, { targetAgent: "bob", ...message });
  else await by.broadcasts.send(by.call, { scope: "topic", name: "news", ...message });
}

test.each<{ before: readonly Way[]; meanwhile: readonly Way[] }>([
  { before: [], meanwhile: ["publish", "send"] },
  { before: [], meanwhile: ["send", "publish"] },
  { before: ["send"], meanwhile: ["publish", "send", "publish", "send"] },
  { before: ["publish"], meanwhile: ["send", "publish", "send"] },
])("said before: $before, said while the inbox is read: $meanwhile", async ({ before, meanwhile }) => {
  verifies("COMM-05", "COMM-07");
  let moments = 0;
  for (let at = 1; at <= CALLS_MAX; at++) {
    const clock = manualClock();
    const plain = new MemoryStore({ clock });
    const ann = await commOn(plain, clock, "ann", { process: 1 });
    let said = 0;
    const sayAll = async (ways: readonly Way[]) => {
      for (const way of ways) await say(ann, way, ++said);
    };
    const { store, begin, happened } = interrupted(plain, at, () => sayAll(meanwhile));
    const bob = await commOn(store, clock, "bob", { process: 2 });
    await bob.subscriptions.subscribe(bob.call, { topics: ["news"] });
    await sayAll(before);
    begin();
    const read = (await bob.readAll()).map(({ message }) => message.payload);
    if (!happened()) break;
    moments += 1;
    // what came after the last look is there for the next reading
    read.push(...(await bob.readAll()).map(({ message }) => message.payload));
    expect(read, `before call ${at}`).toEqual(Array.from({ length: said }, (_, n) => n + 1));
  }
  expect(moments).toBeGreaterThan(3);
  expect(moments).toBeLessThan(CALLS_MAX);
});

test("what two agents publish is read in the order of the topic, though one of them sends a message as well", async () => {
  verifies("COMM-05", "COMM-07");
  let moments = 0;
  for (let at = 1; at <= CALLS_MAX; at++) {
    const clock = manualClock();
    const plain = new MemoryStore({ clock });
    const [ann, cat] = [await commOn(plain, clock, "ann", { process: 1 }), await commOn(plain, clock, "cat", { process: 3 })];
    const { store, begin, happened } = interrupted(plain, at, async () => {
      await say(ann, "send", 2);
      await say(ann, "publish", 3);
      await say(cat, "publish", 4);
      await say(cat, "send", 5);
    });
    const bob = await commOn(store, clock, "bob", { process: 2 });
    await bob.subscriptions.subscribe(bob.call, { topics: ["news"] });
    await say(cat, "send", 1); // so that there is something to hand out
    begin();
    const read = (await bob.readAll()).map(({ message }) => message.payload);
    if (!happened()) break;
    moments += 1;
    read.push(...(await bob.readAll()).map(({ message }) => message.payload));
    for (const inOrder of [
      [2, 3],
      [3, 4],
      [1, 4, 5],
    ]) {
      expect(
        read.filter((payload) => inOrder.includes(payload as number)),
        `before call ${at}: ${read.join()}`,
      ).toEqual(inOrder);
    }
  }
  expect(moments).toBeGreaterThan(3);
});
