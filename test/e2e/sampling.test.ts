/** A tool that asks the host's model does so in the way of the host's protocol revision, and does without where it may not. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { RawHost, startHttp } from "../support/bin.ts";
import { ERAS, Host, type Model, temporaryFolder } from "../support/host.ts";

const NOTES = join(import.meta.dirname, "..", "support", "notes-server.ts");

interface Sampled {
  offered: boolean;
  answers: (string | null)[];
}

describe.each(ERAS)("to a host of %s", (era) => {
  const start = (store: string, model?: Model) =>
    Host.start({ command: process.execPath, prefix: [NOTES], agent: "asker", era, store, ...(model ? { model } : {}) });

  test("a tool asks again and again, each time with what it was answered", async () => {
    verifies("STATE-13");
    using folder = temporaryFolder();
    const asked: string[] = [];
    await using host = await start(folder.store, ({ prompt, system, maxTokens }) => {
      asked.push(`${system} ${prompt} ${maxTokens}`);
      return `<${asked.length}>`;
    });
    const sampled = await host.call<Sampled>("ask_in_turn", { prompt: "text", times: 3 });
    expect(sampled).toMatchObject({ offered: true, answers: ["<1>", "<2>", "<3>"] });
    expect(asked).toEqual(["You shorten. text 100", "You shorten. text+<1> 100", "You shorten. text+<1>+<2> 100"]);
  });

  test("a tool asks several things at once, each once", async () => {
    using folder = temporaryFolder();
    const asked: string[] = [];
    await using host = await start(folder.store, ({ prompt }) => {
      asked.push(prompt);
      return prompt.toUpperCase();
    });
    const sampled = await host.call<Sampled>("ask_at_once", { prompts: ["a", "b", "c"] });
    expect(sampled.answers).toEqual(["A", "B", "C"]);
    expect(asked.sort()).toEqual(["a", "b", "c"]);
  });

  test("a host that offers no model is asked nothing", async () => {
    using folder = temporaryFolder();
    await using host = await start(folder.store);
    expect(await host.call<Sampled>("ask_in_turn", { prompt: "text", times: 2 })).toMatchObject({ offered: false, answers: [] });
  });

  test("the model's text is cut and freed of what no answer may hold", async () => {
    using folder = temporaryFolder();
    await using host = await start(folder.store, ({ prompt }) => (prompt === "long" ? "x".repeat(100_000) : "a\0b\ud800"));
    const { answers } = await host.call<Sampled>("ask_at_once", { prompts: ["long", "odd"] });
    expect(answers[0]).toBe("x".repeat(8_000));
    expect(answers[1]).toBe("ab\ufffd");
  });

  test("one call asks at most eight times", async () => {
    using folder = temporaryFolder();
    let asked = 0;
    await using host = await start(folder.store, () => {
      asked += 1;
      return "ok";
    });
    const { answers } = await host.call<Sampled>("ask_at_once", { prompts: Array.from({ length: 12 }, (_, at) => `${at}`) });
    expect(asked).toBe(8);
    expect(answers.filter((answer) => answer === "ok").length).toBe(8);
    expect(answers.filter((answer) => answer === null).length).toBe(4);
  });

  test("a tool that writes is not offered the model, because its handler may run again", async () => {
    using folder = temporaryFolder();
    await using host = await start(folder.store, () => "ok");
    expect(await host.call<Sampled>("write_and_ask")).toMatchObject({ offered: false });
  });
});

test.each(["v1", "v2-legacy"] as const)("to a host of %s a refusal means to do without", async (era) => {
  verifies("STATE-13");
  using folder = temporaryFolder();
  const refuse = () => {
    throw new Error("The user said no.");
  };
  await using host = await Host.start({ command: process.execPath, prefix: [NOTES], era, store: folder.store, model: refuse });
  expect(await host.call<Sampled>("ask_in_turn", { prompt: "text", times: 2 })).toMatchObject({ answers: [null, null] });
});

test.each(["v1", "v2-legacy", "v2-modern"] as const)(
  "over HTTP a host of %s is asked where the protocol has a way",
  async (era) => {
    using folder = temporaryFolder();
    await using serving = await startHttp([NOTES, "--http", "0"], { SWARM_STORE: folder.store }, { says: /at (http:\S+)/ });
    await using host = await Host.http(serving.url, { era, agent: "asker", model: ({ prompt }) => `<${prompt}>` });
    const sampled = await host.call<Sampled>("ask_in_turn", { prompt: "text", times: 1 });
    // in the 2025 protocol a request over HTTP says nothing of its host, and there is no connection to ask it over
    expect(sampled).toMatchObject(era === "v2-modern" ? { offered: true, answers: ["<text>"] } : { offered: false, answers: [] });
  },
);

describe("in revision 2026-07-28, written by hand", () => {
  const META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": { name: "raw-host", version: "1.0.0" },
    "io.modelcontextprotocol/clientCapabilities": { sampling: {} },
  };
  const call = (prompt: string, more: Record<string, unknown> = {}) => ({
    _meta: META,
    name: "ask_in_turn",
    arguments: { prompt, times: 1 },
    ...more,
  });
  const answered = (text: string) => ({ role: "assistant", model: "m", content: { type: "text", text } });

  async function needed(host: RawHost, prompt: string): Promise<{ key: string; requestState: string }> {
    const { result } = await host.ask("tools/call", call(prompt));
    expect(result?.resultType).toBe("input_required");
    const [key = ""] = Object.keys(result?.inputRequests as object);
    return { key, requestState: result?.requestState as string };
  }

  test("the host that answers, refuses or answers nonsense gets a result", async () => {
    verifies("STATE-13");
    using folder = temporaryFolder();
    await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store });
    const { key, requestState } = await needed(host, "text");
    const answers = async (inputResponses: unknown) => {
      const { result, error } = await host.ask("tools/call", call("text", { requestState, inputResponses }));
      return error ?? (result?.structuredContent as Sampled | undefined)?.answers;
    };
    expect(await answers({ [key]: answered("short") })).toEqual(["short"]);
    expect(await answers({ [key]: answered("short"), another: answered("other") })).toEqual(["short"]);
    expect(await answers({})).toEqual([null]);
    expect(await answers({ another: answered("other") })).toEqual([null]);
    expect(await answers({ [key]: { action: "decline" } })).toEqual([null]);
    expect(
      await answers({ [key]: { role: "assistant", model: "m", content: { type: "image", data: "", mimeType: "image/png" } } }),
    ).toEqual([null]);
  });

  test("state that was changed, or is another call's, is refused, and the call can be made anew", async () => {
    using folder = temporaryFolder();
    await using host = new RawHost({ file: NOTES }, { SWARM_STORE: folder.store });
    const { key, requestState } = await needed(host, "text");
    const inputResponses = { [key]: answered("short") };
    const changed = `${requestState.slice(0, -2)}${requestState.endsWith("AA") ? "BB" : "AA"}`;
    for (const state of ["", "{}", "v1.e30.AAAA", changed, `${requestState}-more`]) {
      expect((await host.ask("tools/call", call("text", { requestState: state, inputResponses }))).error?.code, state).toBe(
        -32602,
      );
    }
    expect((await host.ask("tools/call", call("another", { requestState, inputResponses }))).error?.code).toBe(-32602);
    expect((await needed(host, "text")).key).toBe(key);
  });
});
