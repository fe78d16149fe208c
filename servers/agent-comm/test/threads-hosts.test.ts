/** Threads and search as hosts have them: real servers over one store. */
import { describe, expect, test } from "vitest";
import { ENGINES } from "../../../test/faults/engines.ts";
import { verifies } from "../../../test/requirements.ts";
import { Host } from "../../../test/support/host.ts";

interface Found {
  messages: { id: string; from: string; payload: unknown; cut?: { missingChars: number; readOn: string } }[];
  nextCursor?: string;
  untrusted?: string[];
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  test("what was said in other processes is found by whom it concerns, after its sender was killed", async () => {
    verifies("COMM-09", "CORE-09", "CORE-14", "CORE-15");
    using meeting = await meet();
    const start = (agent: string) => Host.start({ server: "agent-comm", store: meeting.store, agent });
    const ann = await start("ann");
    await using bob = await start("bob");
    await using cat = await start("cat");
    const say = async (targetAgent: string, payload: unknown) =>
      (
        await ann.call<{ message: { id: string } }>("send_message", {
          ...{ targetAgent, messageType: "result_sharing", payload, correlationId: "release-7", mailbox: true },
        })
      ).message.id;
    const long = `Überlänge ${"x".repeat(60_000)} end`;
    const said = [await say("bob", { text: "Deploy café_v2.ts on Friday" }), await say("bob", long)];
    await say("cat", "Friday is off");
    await ann.kill();

    const search = (host: Host, args: object) => host.call<Found>("search_messages", { ...args });
    const ids = ({ messages }: Found) => messages.map(({ id }) => id);
    const found = await search(bob, { text: "CAFE friday", from: "ann" });
    expect(ids(found)).toEqual([said[0]]);
    expect(found.messages[0]).toMatchObject({ from: "ann", payload: { text: "Deploy café_v2.ts on Friday" } });
    expect(found.untrusted).toContain("messages[].payload");
    expect(ids(await search(bob, { text: "result_sharing", limit: 1 }))).toEqual([said[1]]);
    expect(ids(await search(cat, { text: "deploy" }))).toEqual([]);
    expect(ids(await search(cat, { text: "friday" }))).toHaveLength(1);

    const thread = await bob.call<Found>("get_thread", { correlationId: "release-7" });
    expect(ids(thread)).toEqual(said);
    const cut = thread.messages[1]?.cut;
    expect(cut?.missingChars).toBeGreaterThan(0);
    const [tool = "", args = ""] = cut?.readOn.split(/ (.*)/) ?? [];
    const { part } = await bob.call<{ part: { text: string } }>(tool, JSON.parse(args));
    expect(long).toContain(part.text);
    expect((await bob.try("search_messages", { text: "?!" })).text).toMatch(/^invalid_argument: .*no word/);
  });
});
