/** The protocol's own conformance suite, over HTTP, for both eras: what each requirement set asks of a server. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { type HttpServerProcess, run, startHttp, startServerHttp } from "../support/bin.ts";
import { ROOT, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

const SUITE = join(ROOT, "node_modules", ".bin", "conformance");

/**
 * What the suite asks and no server here offers, with the reason. A scenario, or one check of it; nothing else may fail, and
 * what stands here and passes is an error too, so the table stays true.
 */
const NOT_OFFERED: readonly { what: RegExp; why: string }[] = [
  { what: /^prompts-/, why: "no prompts" },
  { what: /^resources-/, why: "no resources" },
  { what: /^completion-complete$/, why: "no prompts or resources to complete arguments of" },
  { what: /^(logging-set-level|tools-call-with-logging)$/, why: "the log goes to stderr, never to the host" },
  { what: /^(elicitation-|tools-call-(elicitation|sampling)$)/, why: "a server asks its host nothing" },
  { what: /^input-required-result-/, why: "a server asks its host nothing" },
  { what: /^tools-call-(image|audio|embedded-resource|mixed-content)$/, why: "answers are structured data and the same as text" },
  { what: /^json-schema-2020-12$/, why: "wants a hand-written input schema; not scored yet" },
  { what: /^http-custom-header-server-validation$/, why: "no tool takes input from headers" },
  { what: /^tasks-/, why: "the protocol's tasks extension; a call here is answered or waits" },
  {
    what: /^server-stateless\/.*-(undeclared-capability|missing-capability-http-400)$/,
    why: "no tool needs a capability of its host",
  },
  { what: /^caching\/.*-(prompts|resources|resources-templates)-list-caching-hints$/, why: "no prompts or resources" },
];

/** Scenarios that call tools by name: they run against the fixture. */
const WANTS_FIXTURE: readonly { what: RegExp; why: string }[] = [
  { what: /^tools-call-(simple-text|error|with-progress)$/, why: "calls a tool of the fixture" },
  {
    what: /^server-stateless\/.*-(no-independent-requests-on-stream|no-log-without-loglevel)$/,
    why: "calls a tool of the fixture",
  },
];

/** Scenarios that must be there and pass: a suite that ran nothing proves nothing. */
const MUST_PASS: Record<string, readonly string[]> = {
  "2025-11-25": ["server-initialize", "ping", "tools-list", "dns-rebinding-protection", "server-sse-multiple-streams"],
  "2026-07-28": [
    "server-stateless",
    "tools-list",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
    "sep-2164-resource-not-found",
  ],
};
const FIXTURE_MUST_PASS = ["tools-call-simple-text", "tools-call-error", "tools-call-with-progress"];

interface Check {
  id: string;
  status: string;
  errorMessage?: string;
}

/** Runs what a revision requires and answers the checks of each scenario. */
async function conformance(url: string, revision: string, folder: string): Promise<Map<string, Check[]>> {
  const output = join(folder, revision);
  const outcome = await run(SUITE, ["server", "--url", `${url}/mcp`, "--requirements", revision, "-o", output], {
    env: { HOME: folder },
  });
  const scenarios = new Map<string, Check[]>();
  for (const name of readdirSync(output)) {
    const scenario = /^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/.exec(name)?.[1];
    if (scenario === undefined) throw new Error(`What is ${name}?\n${outcome.stdout}`);
    scenarios.set(scenario, JSON.parse(readFileSync(join(output, name, "checks.json"), "utf8")) as Check[]);
  }
  return scenarios;
}

const targets: Record<string, { start(store: string): Promise<HttpServerProcess>; fixture: boolean }> = {
  "the fixture server": {
    start: (store) => startHttp([join(import.meta.dirname, "fixture-server.ts"), "--http", "0"], { SWARM_STORE: store }),
    fixture: true,
  },
  ...Object.fromEntries(
    SERVERS.map((server) => [
      server,
      { start: (store: string) => startServerHttp(server, { SWARM_STORE: store }), fixture: false },
    ]),
  ),
};

describe.each(Object.keys(targets))("%s", (name) => {
  test.each(Object.keys(MUST_PASS))("keeps revision %s of the protocol, but for what it does not offer", async (revision) => {
    verifies("CORE-02");
    const target = targets[name];
    if (!target) throw new Error("No such target");
    using folder = temporaryFolder();
    await using serving = await target.start(folder.store);
    const scenarios = await conformance(serving.url, revision, folder.path);

    const allowed = target.fixture ? NOT_OFFERED : [...NOT_OFFERED, ...WANTS_FIXTURE];
    const used = new Set<RegExp>();
    const surprises: string[] = [];
    for (const [scenario, checks] of scenarios) {
      for (const { id, status, errorMessage } of checks) {
        if (status !== "FAILURE") continue;
        const reason = allowed.find(({ what }) => what.test(scenario) || what.test(`${scenario}/${id}`));
        if (reason) used.add(reason.what);
        else surprises.push(`${scenario}/${id}: ${errorMessage}`);
      }
    }
    expect(surprises).toEqual([]);
    for (const scenario of [...(MUST_PASS[revision] ?? []), ...(target.fixture ? FIXTURE_MUST_PASS : [])]) {
      expect(scenarios.has(scenario), scenario).toBe(true);
    }
    for (const scenario of target.fixture ? FIXTURE_MUST_PASS : []) {
      expect(scenarios.get(scenario)?.filter(({ status }) => status === "SUCCESS").length, scenario).toBeGreaterThan(0);
    }
    // what is excused and did not fail, though the revision has it, is no longer true
    const stale = allowed.filter(
      ({ what }) =>
        !used.has(what) &&
        [...scenarios].some(
          ([scenario, checks]) => what.test(scenario) || checks.some(({ id }) => what.test(`${scenario}/${id}`)),
        ),
    );
    expect(stale).toEqual([]);
    // every message of ours fits the revision's own JSON schema
    const wire = [...scenarios.values()].flat().filter(({ id }) => id === "wire-schema-valid");
    expect(wire.length).toBeGreaterThan(10);
    expect(wire.filter(({ status }) => status !== "SUCCESS")).toEqual([]);
  });
});
