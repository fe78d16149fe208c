/** Resources and their updates, over both transports and in both eras, on a server of the same making as all others. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { type HttpServerProcess, RawHost, startHttp } from "../support/bin.ts";
import { ERAS, type Era, eventually, Host, temporaryFolder } from "../support/host.ts";

const NOTES = join(import.meta.dirname, "..", "support", "notes-server.ts");

/** A server of notes over one store, which hosts reach in one way. */
interface Setting {
  /** A host of the server that the test is about. */
  host(agent: string): Promise<Host>;
  /** A host of another process on the same store. */
  other(agent: string): Promise<Host>;
  [Symbol.asyncDispose](): Promise<void>;
}

async function setting(transport: "stdio" | "http", era: Era, args: readonly string[] = []): Promise<Setting> {
  const folder = temporaryFolder();
  const hosts: Host[] = [];
  let serving: HttpServerProcess | undefined;
  const keep = async (starting: Promise<Host>) => {
    const host = await starting;
    hosts.push(host);
    return host;
  };
  const stdio = (agent: string, of: Era) =>
    Host.start({ command: process.execPath, prefix: [NOTES], args, agent, era: of, store: folder.store });
  return {
    async host(agent) {
      if (transport === "stdio") return keep(stdio(agent, era));
      serving ??= await startHttp([NOTES, "--http", "0", ...args], { SWARM_STORE: folder.store }, { says: /at (http:\S+)/ });
      return keep(Host.http(serving.url, { agent, era }));
    },
    other: (agent) => keep(stdio(agent, "v2-modern")),
    async [Symbol.asyncDispose]() {
      for (const host of hosts) await host.close();
      await serving?.stop();
      folder[Symbol.dispose]();
    },
  };
}

const SETTINGS = (["stdio", "http"] as const).flatMap((transport) => ERAS.map((era) => ({ transport, era })));
const TOLD = SETTINGS.filter(({ transport, era }) => transport === "stdio" || era === "v2-modern");

/** What HTTP answers when the header that repeats a URI cannot hold it. */
const HEADER_MISMATCH = -32_020;

/** What a request was refused with. */
async function refusal(asked: Promise<unknown>): Promise<{ code: number; message: string; data?: Record<string, unknown> }> {
  return await asked.then(
    () => expect.fail("The request was granted."),
    (error: { code: number; message: string; data?: Record<string, unknown> }) => error,
  );
}

describe.each(SETTINGS)("resources over $transport to a host of $era", ({ transport, era }) => {
  test("are listed, found by their template and read, with who asked and what others wrote", async () => {
    verifies("CORE-02", "CORE-15");
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    await host.call("write_note", { owner: "ann", key: "plans/day one", text: "Ship it." });

    const { resources } = await host.client.listResources();
    expect(resources).toMatchObject([
      { uri: "note://ann/plans/day%20one", name: "note", title: "Note plans/day one", mimeType: "application/json" },
      ...(era === "v1" ? [] : [{ uri: "notes://count" }]), // this client follows the pages by itself
    ]);
    const { resourceTemplates } = await host.client.listResourceTemplates();
    expect(resourceTemplates.map(({ uriTemplate }) => uriTemplate)).toEqual(["note://{owner}/{+key}"]);
    expect(await host.read(resources[0]?.uri ?? "")).toEqual({
      note: { owner: "ann", key: "plans/day one", text: "Ship it." },
      caller: { agentId: "reader", verified: false },
      untrusted: ["note.text"],
    });
    expect(await host.read("notes://count")).toMatchObject({ notes: 1 });
  });

  test("are listed a page at a time, each once", async () => {
    verifies("CORE-11");
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    for (let at = 0; at < 45; at++) await host.call("write_note", { owner: "ann", key: `note-${at}`, text: "x" });

    const seen: string[] = [];
    let cursor: string | undefined;
    let pages = 0;
    do {
      const page = await host.client.listResources(cursor === undefined ? undefined : { cursor });
      seen.push(...page.resources.map(({ uri }) => uri));
      cursor = page.nextCursor;
      pages += 1;
    } while (cursor !== undefined && pages < 10);
    expect(seen.length).toBe(46);
    if (era === "v1") expect(pages).toBe(4); // the other client follows the pages by itself
    expect(new Set(seen).size).toBe(46);
    expect(await refusal(host.client.listResources({ cursor: "eyJpbmRleCI6OTl9" }))).toMatchObject({ code: -32602 });
  });

  test("that cannot be read say why and what to do, and an accident shows its id alone", async () => {
    verifies("CORE-06");
    await using here = await setting(transport, era);
    const host = await here.host("reader");

    const missing = await refusal(host.read("note://ann/nothing"));
    expect(missing.data).toEqual({ uri: "note://ann/nothing" });
    expect(missing.message).toContain("There is no such note. Write it first.");
    const foreign = await refusal(host.read("note://private-bob/secret"));
    expect(foreign.data).toMatchObject({ code: "permission_denied", hint: "Read your own.", retryable: false });
    const accident = await refusal(host.read("note://broken/it"));
    expect(accident.data).toMatchObject({ code: "internal" });
    expect(JSON.stringify(accident)).not.toContain("the-cause-nobody-should-read");
    expect(accident.message).toMatch(/error-[0-9a-z]{12}/);
    await host.call("write_note", { owner: "ann", key: "long", text: "x".repeat(20_000) });
    const long = await refusal(host.read("note://ann/long"));
    expect(long.data).toMatchObject({ code: "limit_exceeded" });
  });

  test("whose URI is none change nothing and end nothing", async () => {
    verifies("CORE-05");
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    await host.call("write_note", { owner: "ann", key: "a", text: "kept" });
    const before = await host.client.listResources();

    const uris = [
      "",
      "note://",
      "note://ann",
      "note://ann/",
      "note:///a",
      "NOTE://ann/a",
      "file:///etc/passwd",
      "http://127.0.0.1/a",
      "note://ann\0/a",
      "note://ann/a\0",
      "note://ann/%00",
      "note://ann/%",
      "note://ann/%ff",
      "note://ann/%ED%A0%80",
      "note://ann/\ud800",
      "note://ann/a\nb",
      "note://ann/../../a",
      "note://../ann/a",
      "note://ann%2Fa/b",
      "note://__proto__/constructor",
      `note://ann/${"a".repeat(3_000)}`,
      `note://ann/${"%C3%A4".repeat(300)}`,
      `note://${"a/".repeat(1_000)}`,
      "{owner}",
      "note://{owner}/{+key}",
      "notes://count?x=1",
    ];
    for (const uri of uris) {
      const { code } = await refusal(host.client.readResource({ uri }));
      expect([-32602, HEADER_MISMATCH], uri).toContain(code);
      expect(await host.read("note://ann/a"), uri).toMatchObject({ note: { text: "kept" } });
    }
    expect(await host.client.listResources()).toEqual(before);
  });

  test("are mounted by their toolset", async () => {
    verifies("CORE-17");
    await using here = await setting(transport, era, ["--toolsets", "counts"]);
    const host = await here.host("reader");
    expect((await host.client.listResources()).resources.map(({ uri }) => uri)).toEqual(["notes://count"]);
    expect((await host.client.listResourceTemplates()).resourceTemplates).toEqual([]);
    expect(await refusal(host.read("note://ann/a"))).toMatchObject({ data: { uri: "note://ann/a" } });
  });
});

describe.each(TOLD)("updates over $transport to a host of $era", ({ transport, era }) => {
  test("come when the resource is another than before, whichever process changed it, until they are ended", async () => {
    verifies("COMM-10", "STATE-06");
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    const other = await here.other("writer");
    expect(host.client.getServerCapabilities()).toMatchObject({ resources: { subscribe: true } });
    const uri = "note://ann/a";

    const subscribed = await host.subscribe(uri);
    expect(subscribed.uris).toEqual([uri]);
    await host.call("write_note", { owner: "ann", key: "a", text: "one" });
    await eventually("a change by this process is told", () => host.updates(uri) === 1);
    await other.call("write_note", { owner: "ann", key: "a", text: "two" });
    await eventually("a change by another process is told", () => host.updates(uri) === 2);
    expect(await host.read(uri)).toMatchObject({ note: { text: "two" } });

    await subscribed.end();
    await eventually("nothing is watched", async () => (await host.call<Watches>("count_watches")).watches === 0);
    await other.call("write_note", { owner: "ann", key: "a", text: "three" });
    await knownElsewhere(host, "ann/marker");
    expect(host.updates(uri)).toBe(2);
  });

  test("do not come when only something beside the resource changed", async () => {
    verifies("COMM-10", "STATE-06");
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    const other = await here.other("writer");
    const uri = "note://ann/a";
    const marker = "note://ann/last";

    await host.subscribe(uri, marker);
    for (let at = 0; at < 20; at++) await other.call("write_note", { owner: "ann", key: `b-${at}`, text: "x" });
    await other.call("write_note", { owner: "ann", key: "last", text: "x" });
    await eventually("the last change is told", () => host.updates(marker) === 1);
    expect(host.updates(uri)).toBe(0);
  });

  test("of many changes at once are fewer than the changes, and the last one is never missed", async () => {
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    const uri = "note://ann/a";
    await host.subscribe(uri);
    const writes = 60;
    let seen = "";
    await Promise.all(
      Array.from({ length: writes }, (_, at) => host.call("write_note", { owner: "ann", key: "a", text: `text ${at}` })),
    );
    const last = (await host.read<{ note: { text: string } }>(uri)).note.text;
    await eventually("the host that reads after each update has the last text", async () => {
      const told = host.updates(uri);
      seen = (await host.read<{ note: { text: string } }>(uri)).note.text;
      return told > 0 && seen === last;
    });
    await knownElsewhere(host, "ann/marker");
    expect(host.updates(uri)).toBeLessThan(writes);
  });

  test("are refused for what does not exist or belongs to another, and the rest of a subscription stands", async () => {
    await using here = await setting(transport, era);
    const host = await here.host("bob");
    const mine = "note://private-bob/a";
    const foreign = ["note://private-eve/a", "file:///etc/passwd", "note://ann/%00"];
    if (era === "v2-modern") {
      expect((await host.subscribe(mine, ...foreign)).uris).toEqual([mine]);
    } else {
      await host.subscribe(mine);
      for (const uri of foreign) expect([-32602, -32603]).toContain((await refusal(host.subscribe(uri))).code);
    }
    await host.call("write_note", { owner: "private-bob", key: "a", text: "x" });
    await host.call("write_note", { owner: "private-eve", key: "a", text: "x" });
    await eventually("its own note's change is told", () => host.updates(mine) === 1);
    expect(host.notifications.map(({ params }) => params?.uri)).toEqual([mine]);
    expect((await host.call<Watches>("count_watches")).watches).toBe(1);
  });

  test("are bounded: a hundred resources for one connection", async () => {
    await using here = await setting(transport, era);
    const host = await here.host("reader");
    const uris = Array.from({ length: 101 }, (_, at) => `note://ann/${at}`);
    expect((await refusal(host.subscribe(...uris))).message).toContain("at most 100 resources");
    expect(await host.read("notes://count")).toMatchObject({ notes: 0 });
  });
});

describe.each(SETTINGS.filter(({ transport, era }) => transport === "http" && era !== "v2-modern"))(
  "updates over $transport to a host of $era",
  ({ transport, era }) => {
    test("are not offered, and who asks for them reads what to do instead", async () => {
      verifies("CORE-02");
      await using here = await setting(transport, era);
      const host = await here.host("reader");
      expect(host.client.getServerCapabilities()).toMatchObject({ resources: {} });
      expect(host.client.getServerCapabilities()).not.toMatchObject({ resources: { subscribe: true } });
      const { message } = await refusal(host.subscribe("notes://count"));
      if (era === "v1") expect(message).toContain("Read the resource again"); // the other client does not even ask
    });
  },
);

describe("listen streams", () => {
  const transports = ["stdio", "http"] as const;

  test.each(transports)("over %s that name the same resource are each told, and each ends by itself", async (transport) => {
    await using here = await setting(transport, "v2-modern");
    const host = await here.host("reader");
    const uri = "note://ann/a";
    const first = await host.subscribe(uri);
    const second = await host.subscribe(uri);
    await host.call("write_note", { owner: "ann", key: "a", text: "one" });
    await eventually("both streams are told", () => host.updates(uri) === 2);
    await first.end();
    await host.call("write_note", { owner: "ann", key: "a", text: "two" });
    await eventually("the stream that is left is told", () => host.updates(uri) === 3);
    await second.end();
    await eventually("nothing is watched", async () => (await host.call<Watches>("count_watches")).watches === 0);
  });

  test("over HTTP end with their connection, however it ended", async () => {
    await using here = await setting("http", "v2-modern");
    const observer = await here.host("observer");
    for (let round = 0; round < 3; round++) {
      const host = await here.host("reader");
      await host.subscribe("note://ann/a", "notes://count");
      expect((await observer.call<Watches>("count_watches")).watches).toBe(2);
      await host.close();
      await eventually("nothing is watched", async () => (await observer.call<Watches>("count_watches")).watches === 0);
    }
  });

  test("over HTTP are not all for one agent and its subagents", async () => {
    await using here = await setting("http", "v2-modern");
    const [greedy, child, other] = [await here.host("greedy"), await here.host("greedy/child"), await here.host("other")];
    const uri = "note://ann/a";
    const opened = await Promise.all(Array.from({ length: 50 }, (_, n) => (n % 2 ? greedy : child).subscribe(uri)));
    for (const host of [greedy, child]) await expect(host.subscribe(uri)).rejects.toThrow(/One agent has at most 50/);
    await other.subscribe(uri);
    await opened[0]?.end();
    await eventually("there is room again", () =>
      greedy.subscribe(uri).then(
        () => true,
        () => false,
      ),
    );
  });

  test("over HTTP end in good order when the server stops", async () => {
    verifies("CORE-07");
    using folder = temporaryFolder();
    const serving = await startHttp([NOTES, "--http", "0"], { SWARM_STORE: folder.store }, { says: /at (http:\S+)/ });
    await using host = await Host.http(serving.url, { agent: "reader" });
    const stream = await host.subscribe("note://ann/a");
    await serving.stop();
    expect(await stream.ended).toBe("graceful");
  });

  describe("written by hand over stdio", () => {
    const META = {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": { name: "raw-host", version: "1.0.0" },
      "io.modelcontextprotocol/clientCapabilities": {},
    };
    const listen = (uris: unknown) => ({ _meta: META, notifications: { resourceSubscriptions: uris } });
    const watches = async (host: RawHost) => {
      const { result } = await host.ask("tools/call", { _meta: META, name: "count_watches", arguments: {} });
      return (result?.structuredContent as Watches | undefined)?.watches;
    };
    const acknowledged = (host: RawHost, id: number) =>
      host.messages.some(
        ({ method, params }) =>
          method === "notifications/subscriptions/acknowledged" &&
          (params?._meta as Record<string, unknown> | undefined)?.["io.modelcontextprotocol/subscriptionId"] === id,
      );

    test("may be cancelled before they are open: nothing is then told and nothing stays watched", async () => {
      using folder = temporaryFolder();
      await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "reader" });
      await host.ask("server/discover", { _meta: META });
      const lines = [
        { jsonrpc: "2.0", id: 900, method: "subscriptions/listen", params: listen(["note://ann/a"]) },
        { jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 900 } },
        { jsonrpc: "2.0", id: 901, method: "subscriptions/listen", params: listen(["note://ann/b"]) },
      ];
      host.write(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
      await eventually("the stream that was not cancelled is open", () => acknowledged(host, 901));
      await eventually("one watch is held", async () => (await watches(host)) === 1);
      expect(acknowledged(host, 900)).toBe(false);
      host.write(`${JSON.stringify({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: 901 } })}\n`);
      await eventually("nothing is watched", async () => (await watches(host)) === 0);
    });

    test("that ask for nonsense are refused or told of nothing, and the server lives on", async () => {
      verifies("CORE-05");
      using folder = temporaryFolder();
      await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "reader" });
      await host.ask("server/discover", { _meta: META });
      const refused: unknown[] = [
        listen("note://ann/a"),
        listen([1, 2]),
        listen({}),
        { _meta: META },
        { _meta: META, notifications: 7 },
      ];
      for (const params of refused)
        expect((await host.ask("subscriptions/listen", params)).error?.code, JSON.stringify(params)).toBe(-32602);
      expect(
        (await host.ask("subscriptions/listen", { notifications: { resourceSubscriptions: ["note://ann/a"] } })).error,
      ).toBeDefined();
      const many = Array.from({ length: 101 }, (_, at) => `note://ann/${at}`);
      expect((await host.ask("subscriptions/listen", listen(many))).error?.data).toEqual({ code: "limit_exceeded" });
      expect(await watches(host)).toBe(0);
      expect(host.strays).toEqual([]);
    });

    test("are bounded in number", async () => {
      using folder = temporaryFolder();
      await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store, SWARM_AGENT: "reader" });
      await host.ask("server/discover", { _meta: META });
      const line = (id: number) => ({ jsonrpc: "2.0", id, method: "subscriptions/listen", params: listen(["notes://count"]) });
      for (let id = 1_000; id < 1_100; id++) host.write(`${JSON.stringify(line(id))}\n`);
      await eventually("a hundred are open", () => acknowledged(host, 1_099));
      expect((await host.ask("subscriptions/listen", listen(["notes://count"]))).error?.data).toEqual({ code: "limit_exceeded" });
      expect(await watches(host)).toBe(1);
      await host.ask("tools/call", { _meta: META, name: "write_note", arguments: { owner: "ann", key: "a", text: "x" } });
      const told = () => host.messages.filter(({ method }) => method === "notifications/resources/updated").length;
      await eventually("each is told", () => told() === 100);
    });
  });
});

interface Watches {
  watches: number;
}

/**
 * Changes another note and waits until that was told: whatever was to be told before it has been told by then, since a host's
 * notifications and answers arrive in order.
 */
async function knownElsewhere(host: Host, note: string): Promise<void> {
  const [owner = "", key = ""] = note.split("/");
  const uri = `note://${note}`;
  const marker = await host.subscribe(uri);
  const before = host.updates(uri);
  await host.call("write_note", { owner, key, text: "x" });
  await eventually("the marker's change is told", () => host.updates(uri) > before);
  await marker.end();
}
