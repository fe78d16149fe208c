/** Values as hosts have them: real server processes over one store, driven by official clients. */
import { VALUE_BYTES_MAX } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { ERAS, eventually, Host } from "../../../test/support/host.ts";
import { checkLinearizable, type Operation } from "../../../test/support/linearizability.ts";
import { type RegisterInput, type RegisterOutput, register } from "../../../test/support/state-register.ts";

const server = "shared-state";
const WAIT_MS = 50_000;
const HOSTS = 8;

interface Entry {
  key: string;
  rev: number;
  value?: unknown;
}
interface Waited {
  changes: { key: string; rev: number; op: string; value?: unknown; oldValue?: unknown; by: string }[];
  revision: number;
  nextRev: number;
  nextCursor?: string;
}

/** A value as its reader puts it together from parts, each by the call that the part before named. */
async function readWhole(host: Host, args: Record<string, unknown>): Promise<{ value: unknown; parts: number }> {
  let text = "";
  let next: Record<string, unknown> | undefined = args;
  for (let parts = 1; next; parts++) {
    const { entry, part }: { entry: Entry; part?: { of: string; text: string; readOn?: string } } = await host.call(
      "get_state",
      next,
    );
    if (!part) return { value: entry.value, parts };
    text += part.text;
    if (part.readOn === undefined) return { value: part.of === "string" ? text : JSON.parse(text), parts };
    const [tool, ...rest] = part.readOn.split(" ");
    expect(tool).toBe("get_state");
    next = JSON.parse(rest.join(" ")) as Record<string, unknown>;
  }
  throw new Error("Not reached");
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  test("a wait wakes on another process's write, with what it was and what it is", async () => {
    verifies("STATE-05", "STATE-06", "CORE-10");
    using meeting = await meet();
    await using writer = await Host.start({ server, store: meeting.store, agent: "writer" });
    await using waiter = await Host.start({ server, store: meeting.store, agent: "waiter" });
    await writer.call("set_state", { key: "plan", value: "draft" });
    let since = (await waiter.call<{ revision: number }>("list_state")).revision;
    for (const value of ["one", "two", "three"]) {
      const waiting = waiter.call<Waited>("wait_for_state", { key: "plan", sinceRev: since, waitMs: WAIT_MS });
      await waiter.call("list_state"); // the waiting call is in the server's hands
      await writer.call("set_state", { key: "other", value });
      await writer.call("set_state", { key: "plan", value });
      const { changes, nextRev } = await waiting;
      expect(changes).toMatchObject([{ key: "plan", op: "set", value, by: "writer" }]);
      since = nextRev;
    }
    await writer.call("delete_state", { key: "plan" });
    const { changes } = await waiter.call<Waited>("wait_for_state", { prefix: "pl", sinceRev: since, waitMs: WAIT_MS });
    expect(changes).toMatchObject([{ op: "delete", oldValue: "three" }]);
  });

  test("a value that ends by itself is gone for readers, and those who wait hear of it", async () => {
    verifies("STATE-01", "STATE-05");
    using meeting = await meet();
    await using host = await Host.start({ server, store: meeting.store, agent: "a" });
    const { entry } = await host.call<{ entry: Entry }>("set_state", { key: "k", value: 1, ttlMs: 300 });
    const { changes } = await host.call<Waited>("wait_for_state", { key: "k", sinceRev: entry.rev, waitMs: WAIT_MS });
    expect(changes).toMatchObject([{ op: "expire", oldValue: 1 }]);
    expect((await host.try("get_state", { key: "k" })).text).toMatch(/^not_found: Key k of global has no value/);
  });

  test("a value of 1 MiB is kept and read back whole, in parts that name the next", async () => {
    verifies("STATE-15", "CORE-11");
    using meeting = await meet();
    await using host = await Host.start({ server, store: meeting.store, agent: "a" });
    const text = Array.from({ length: 200_000 }, (_, at) => String.fromCodePoint(0x1f300 + (at % 200))).join("");
    const one = { text: text.slice(0, 60_000), list: [1, null, { odd: '"\\\u2028' }] };
    await host.call("set_state", { key: "odd", value: one });
    expect(await readWhole(host, { key: "odd" })).toMatchObject({ value: one });
    expect(await readWhole(host, { key: "odd", path: "/text" })).toMatchObject({ value: one.text });
    expect((await readWhole(host, { key: "odd", path: "/list/2" })).parts).toBe(1);
    const largest = "m".repeat(VALUE_BYTES_MAX - 2);
    await host.call("set_state", { key: "large", value: largest });
    const { entry, part } = await host.call<{ entry: Entry & { size: number }; part: { chars: number; nextOffset: number } }>(
      "get_state",
      { key: "large" },
    );
    expect([entry.size, part.chars]).toEqual([VALUE_BYTES_MAX, largest.length]);
    const end = await host.call<{ part: { text: string; nextOffset?: number } }>("get_state", {
      key: "large",
      offset: largest.length - 5,
    });
    expect(end.part).toMatchObject({ text: "mmmmm" });
    const tooLarge = await host.try("set_state", { key: "large", value: `${largest}m` });
    expect(tooLarge.text).toMatch(/^limit_exceeded: A value may have at most 1048576 bytes/);
  });

  test("histories of a key from eight processes are linearizable", async () => {
    verifies("STATE-11");
    using meeting = await meet();
    const hosts = await Promise.all(
      Array.from({ length: HOSTS }, (_, at) => Host.start({ server, store: meeting.store, agent: `agent-${at}` })),
    );
    const histories = new Map<string, Operation<RegisterInput, RegisterOutput>[]>();
    try {
      await Promise.all(
        hosts.map(async (host, at) => {
          const known = new Map<string, number>();
          for (let calls = 0; calls < 40; calls++) {
            const key = `k${(at + calls) % 3}`;
            const turn = (at * 7 + calls * 3) % 10;
            const input: RegisterInput =
              turn < 3
                ? { call: "get" }
                : turn < 5
                  ? { call: "set", value: at * 1_000 + calls }
                  : turn < 8
                    ? { call: "set", value: at * 1_000 + calls, ifRev: known.get(key) ?? 0 }
                    : turn < 9
                      ? { call: "increment", by: 1 }
                      : { call: "delete" };
            const invoked = performance.now();
            const output = await make(host, key, input);
            const returned = performance.now();
            if (output.ok) known.set(key, input.call === "delete" ? 0 : output.rev);
            histories.set(key, [...(histories.get(key) ?? []), { by: host.agent ?? "", invoked, returned, input, output }]);
          }
        }),
      );
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
    const outcomes = [...histories.values()].flat().map(({ input, output }) => `${input.call} ${output?.ok ? "ok" : "refused"}`);
    for (const outcome of ["get ok", "set ok", "set refused", "increment ok", "delete ok"]) expect(outcomes).toContain(outcome);
    for (const [key, history] of histories) {
      const verdict = checkLinearizable(history, register);
      expect(verdict, `key ${key}: ${JSON.stringify(verdict).slice(0, 2_000)}`).toEqual({ linearizable: true });
    }
  });

  test("counting by eight processes loses nothing, and one that follows sees every step once", async () => {
    verifies("STATE-03", "STATE-05");
    using meeting = await meet();
    const hosts = await Promise.all(
      Array.from({ length: HOSTS }, (_, at) => Host.start({ server, store: meeting.store, agent: `agent-${at}` })),
    );
    const each = 15;
    try {
      const [reader] = hosts;
      if (!reader) throw new Error("There are no hosts");
      const following = (async () => {
        const seen: unknown[] = [];
        let sinceRev = 0;
        while (seen.length < HOSTS * each) {
          const { changes, nextRev } = await reader.call<Waited>("wait_for_state", {
            key: "count",
            sinceRev,
            waitMs: WAIT_MS,
            limit: 7,
          });
          if (changes.length === 0) throw new Error(`Only ${seen.length} changes came`);
          seen.push(...changes.map(({ rev }) => rev));
          sinceRev = nextRev;
        }
        return seen;
      })();
      await Promise.all(
        hosts.map(async (host) => {
          for (let step = 0; step < each; step++) await host.call("patch_state", { key: "count", increment: 1 });
        }),
      );
      expect((await reader.call<{ entry: Entry }>("get_state", { key: "count" })).entry.value).toBe(HOSTS * each);
      expect(await following).toEqual(Array.from({ length: HOSTS * each }, (_, at) => at + 1));
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });
});

async function make(host: Host, key: string, input: RegisterInput): Promise<RegisterOutput> {
  const answer =
    input.call === "get"
      ? await host.try("get_state", { key })
      : input.call === "set"
        ? await host.try("set_state", { key, value: input.value, ...(input.ifRev === undefined ? {} : { ifRev: input.ifRev }) })
        : input.call === "increment"
          ? await host.try("patch_state", { key, increment: input.by })
          : await host.try("delete_state", { key });
  if (answer.isError) return { ok: false, code: answer.text.split(":")[0] ?? "" };
  const { entry, deleted } = answer.structured as { entry?: { rev: number; value?: number }; deleted?: { rev: number } };
  return { ok: true, rev: entry?.rev ?? deleted?.rev ?? 0, ...(entry?.value === undefined ? {} : { value: entry.value }) };
}

test.concurrent.each(ERAS)("a host of %s is told that a value it watches has changed, and reads the new one", async (era) => {
  verifies("STATE-06");
  const engine = ENGINES[0];
  if (!engine) throw new Error("There is no engine");
  using meeting = await engine.meet();
  await using watcher = await Host.start({ server, store: meeting.store, agent: "watcher", era });
  await using writer = await Host.start({ server, store: meeting.store, agent: "writer" });
  await writer.call("set_state", { key: "area/plan", value: 1 });
  const { subscription } = await watcher.call<{ subscription: { uri: string } }>("subscribe_to_state_changes", {
    key: "area/plan",
  });
  const prefixed = await watcher.call<{ subscription: { uri: string } }>("subscribe_to_state_changes", { prefix: "area/" });
  const uris = [subscription.uri, prefixed.subscription.uri, "state://agent:writer/own"];
  expect(uris.slice(0, 2)).toEqual(["state://global/area/plan", "state://global/area/*"]);
  const told = await watcher.subscribe(...uris);
  expect([...told.uris].sort()).toEqual([...uris].sort());
  const updates = () => uris.map((uri) => watcher.updates(uri) > 0);
  await writer.call("set_state", { key: "elsewhere", value: 1 });
  await writer.call("set_state", { key: "area/other", value: 1 });
  await eventually("the prefix is told of", () => updates()[1]);
  expect(updates()).toEqual([false, true, false]);
  await writer.call("set_state", { key: "area/plan", value: 2 });
  await writer.call("set_state", { key: "own", scope: "agent", value: 3 });
  await eventually("all are told of", () => updates().every(Boolean));
  expect(await watcher.read(subscription.uri)).toMatchObject({
    entry: { key: "area/plan", value: 2 },
    untrusted: ["entry.value"],
  });
  expect(await watcher.read("state://agent:writer/own")).toMatchObject({
    entry: { scope: "agent", scopeId: "writer", value: 3 },
  });
  const { entries } = await watcher.read<{ entries: Entry[] }>("state://global/area/");
  expect(entries.map(({ key }) => key)).toEqual(["area/other", "area/plan"]);
  await told.end();
});

test("a change that is larger than an answer comes in several, and a list too", async () => {
  verifies("CORE-11", "STATE-05");
  const engine = ENGINES[0];
  if (!engine) throw new Error("There is no engine");
  using meeting = await engine.meet();
  await using host = await Host.start({ server, store: meeting.store, agent: "a" });
  const keys = Array.from({ length: 100 }, (_, at) => `${"k".repeat(120)}/${String(at).padStart(3, "0")}`);
  await host.call("transact_state", { writes: keys.map((key) => ({ key, value: "v".repeat(500) })) });
  const seen: string[] = [];
  let from: Record<string, unknown> = { sinceRev: 0 };
  let answers = 0;
  while (seen.length < keys.length) {
    const { changes, nextRev, nextCursor } = await host.call<Waited>("wait_for_state", { ...from, limit: 200 });
    expect(changes.length).toBeGreaterThan(0);
    seen.push(...changes.map(({ key }) => key));
    from = nextCursor === undefined ? { sinceRev: nextRev } : { cursor: nextCursor };
    answers += 1;
  }
  expect(answers).toBeGreaterThan(1);
  expect(seen).toEqual(keys);
  const listed: string[] = [];
  let cursor: string | undefined;
  do {
    const page: { entries: Entry[]; nextCursor?: string } = await host.call("list_state", {
      limit: 200,
      ...(cursor ? { cursor } : {}),
    });
    listed.push(...page.entries.map(({ key }) => key));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  expect(listed).toEqual(keys);
});
