/** Values as resources that hosts list, read and are told about, in each way in which a host can be told. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { ERAS, type Era, eventually, Host, temporaryFolder } from "../support/host.ts";

const server = "shared-state";

interface Shown {
  entry: { key: string; rev: number; value?: unknown };
  readOn?: string;
  untrusted: string[];
  caller: { agentId: string; verified: boolean };
}
interface Listed {
  entries: { key: string; value?: unknown; preview?: string }[];
  revision: number;
  more?: true;
  untrusted: string[];
}

const WAYS: readonly { name: string; transport: "stdio" | "http"; era: Era }[] = [
  ...ERAS.map((era) => ({ name: `${era} over stdio`, transport: "stdio" as const, era })),
  { name: "v2-modern over HTTP", transport: "http", era: "v2-modern" },
];

interface Setting extends AsyncDisposable {
  readonly watcher: Host;
  /** Another process. */
  readonly writer: Host;
}

async function setting(transport: "stdio" | "http", era: Era): Promise<Setting> {
  const folder = temporaryFolder();
  const env = { SWARM_STORE: folder.store };
  const serving = transport === "http" ? await startServerHttp(server, env) : undefined;
  const watcher = serving
    ? await Host.http(`${serving.url}/mcp`, { agent: "watcher", era })
    : await Host.start({ server, store: folder.store, agent: "watcher", era });
  const writer = await Host.start({ server, store: folder.store, agent: "writer" });
  return {
    watcher,
    writer,
    async [Symbol.asyncDispose]() {
      await Promise.all([watcher.close(), writer.close()]);
      await serving?.stop();
      folder[Symbol.dispose]();
    },
  };
}

/**
 * Waits until the watcher has twice been told of a write that came after all the others: each write has it look at all that it
 * watches, and it looks at one resource again only when it has spoken about the last look.
 */
async function toldOfLast({ watcher, writer }: Setting, marker: string): Promise<void> {
  const uri = `state://global/${marker}`;
  for (let times = 0; times < 2; times++) {
    const before = watcher.updates(uri);
    await writer.call("patch_state", { key: marker, increment: 1 });
    await eventually("the marker's change is told", () => watcher.updates(uri) > before);
  }
}

async function refusal(asked: Promise<unknown>): Promise<{ code: number; message: string; data?: Record<string, unknown> }> {
  return await asked.then(
    () => expect.fail("The request was granted."),
    (error: { code: number; message: string; data?: Record<string, unknown> }) => error,
  );
}

describe.each(WAYS)("a host of $name", ({ transport, era }) => {
  test("lists and reads values and prefixes; what others wrote is marked as theirs", async () => {
    verifies("STATE-06", "CORE-15", "CORE-11");
    await using here = await setting(transport, era);
    const { watcher, writer } = here;
    await writer.call("set_state", { key: "plan/a", value: { title: "Plan" } });
    await writer.call("set_state", { key: "plan/b", value: "y".repeat(3_000) });
    await writer.call("set_state", { key: "long", value: "x".repeat(30_000) });
    await writer.call("set_state", { key: "note", value: "mine", scope: "agent" });
    const { resources } = await watcher.client.listResources();
    expect(resources).toMatchObject([{ uri: "state://global/*", name: "state" }]);
    const { resourceTemplates } = await watcher.client.listResourceTemplates();
    expect(resourceTemplates).toMatchObject([{ uriTemplate: "state://{scope}/{+key}" }]);

    expect(await watcher.read<Shown>("state://global/plan/a")).toMatchObject({
      entry: { key: "plan/a", rev: 1, value: { title: "Plan" }, by: "writer", verified: false },
      untrusted: ["entry.value"],
      caller: { agentId: "watcher", verified: false },
    });
    expect(await watcher.read<Shown>("state://agent:writer/note")).toMatchObject({ entry: { value: "mine" } });
    for (const uri of ["state://global/plan/*", "state://global/plan/", "state://global/plan*"]) {
      const listed = await watcher.read<Listed>(uri);
      expect(listed.entries.map(({ key }) => key)).toEqual(["plan/a", "plan/b"]);
      expect(listed.untrusted).toEqual(["entries[].value", "entries[].preview"]);
      expect(listed.revision).toBe(3);
    }
    const all = await watcher.read<Listed>("state://global/*");
    expect(all.entries.map(({ key }) => key)).toEqual(["long", "plan/a", "plan/b"]);

    const long = await watcher.read<Shown>("state://global/long");
    expect(long.entry.value).toBeUndefined();
    const [tool = "", ...json] = (long.readOn ?? "").split(" ");
    const { part } = await watcher.call<{ part: { chars: number; text: string } }>(
      tool,
      JSON.parse(json.join(" ")) as Record<string, unknown>,
    );
    expect(part.chars).toBe(30_000);
    const missing = await refusal(watcher.read("state://global/nothing"));
    expect(missing.data).toEqual({ uri: "state://global/nothing" });
    expect((await refusal(watcher.read("state://nowhere/key"))).message).toMatch(/scope/);
  });

  test("is told when a value is set, changed, deleted or ends, and of nothing when only others change", async () => {
    verifies("STATE-06", "STATE-05");
    await using here = await setting(transport, era);
    const { watcher, writer } = here;
    const uri = "state://global/plan/a";
    const subscribed = await watcher.subscribe(uri, "state://global/marker");
    expect(subscribed.uris).toEqual([uri, "state://global/marker"]);
    const told = async (what: string, tool: string, args: Record<string, unknown>) => {
      const before = watcher.updates(uri);
      await writer.call(tool, { key: "plan/a", ...args });
      await eventually(`${what} is told`, () => watcher.updates(uri) > before);
    };
    await told("that it was made", "set_state", { value: 1 });
    expect(await watcher.read<Shown>(uri)).toMatchObject({ entry: { value: 1 } });
    await told("a change in place", "patch_state", { increment: 1 });
    await told("a deletion", "delete_state", {});
    await told("a restoration", "restore_state", { rev: 1 });
    const before = watcher.updates(uri);
    await writer.call("set_state", { key: "plan/a", value: "for a moment", ttlMs: 200 });
    await eventually("that it was set and ended is told", async () => {
      const { changes } = await writer.call<{ changes: { op: string }[] }>("wait_for_state", { key: "plan/a", sinceRev: 0 });
      return changes.at(-1)?.op === "expire" && watcher.updates(uri) > before;
    });
    expect((await refusal(watcher.read(uri))).data).toEqual({ uri });

    await toldOfLast(here, "marker");
    const after = watcher.updates(uri);
    for (const key of ["plan", "plan/aa", "plan/a/b", "other"]) await writer.call("set_state", { key, value: 1 });
    await writer.call("set_state", { key: "plan/a", value: 1, scope: "agent" });
    await writer.call("set_state", { key: "plan/a", value: 1, scope: "workflow", scopeId: "w" });
    await toldOfLast(here, "marker");
    expect(watcher.updates(uri)).toBe(after);
  });

  test("is told of any key below a prefix that it watches, and of no other, until it ends that", async () => {
    verifies("STATE-06");
    await using here = await setting(transport, era);
    const { watcher, writer } = here;
    const uri = "state://global/plan/*";
    const own = "state://agent:watcher/*";
    const subscribed = await watcher.subscribe(uri, own);
    await watcher.subscribe("state://global/marker");
    for (const key of ["plan/a", "plan/b/c"]) {
      const before = watcher.updates(uri);
      await writer.call("transact_state", {
        writes: [
          { key, value: 1 },
          { key: "beside", increment: 1 },
        ],
      });
      await eventually(`${key} is told`, () => watcher.updates(uri) > before);
    }
    await watcher.call("set_state", { key: "mine", value: 1, scope: "agent" });
    await eventually("its own value is told", () => watcher.updates(own) === 1);
    await toldOfLast(here, "marker");
    const before = watcher.updates(uri);
    for (const key of ["plans", "pla", "a/plan/b"]) await writer.call("set_state", { key, value: 1 });
    await toldOfLast(here, "marker");
    expect([watcher.updates(uri), watcher.updates(own)]).toEqual([before, 1]);
    await subscribed.end();
    await toldOfLast(here, "marker");
    await writer.call("set_state", { key: "plan/a", value: 2 });
    await toldOfLast(here, "marker");
    expect(watcher.updates(uri)).toBe(before);
    expect((await watcher.read<Listed>(uri)).entries.map(({ key }) => key)).toEqual(["plan/a", "plan/b/c"]);
  });
});
