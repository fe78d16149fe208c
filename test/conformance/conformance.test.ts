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
  { what: /^resources-(un)?subscribe$/, why: "over HTTP the 2025 protocol has no connection here that could be told of changes" },
  { what: /^completion-complete$/, why: "arguments of prompts and resources are not completed" },
  { what: /^(logging-set-level|tools-call-with-logging)$/, why: "the log goes to stderr, never to the host" },
  { what: /^(elicitation-|tools-call-elicitation$)/, why: "a server asks its host's user nothing" },
  { what: /^tools-call-sampling$/, why: "over HTTP the 2025 protocol has no connection here over which a host could be asked" },
  {
    what: /^input-required-result-(basic-elicitation|basic-list-roots|multiple-input-requests|non-tool-request|request-state|result-type)$/,
    why: "a server asks its host for a sample of its model and nothing else",
  },
  {
    what: /^tools-call-(audio|embedded-resource|mixed-content)$/,
    why: "answers carry images and links beside their text, and nothing else",
  },
  { what: /^json-schema-2020-12$/, why: "wants a hand-written input schema; not scored yet" },
  { what: /^http-custom-header-server-validation$/, why: "no tool takes input from headers" },
  { what: /^tasks-/, why: "the protocol's tasks extension; a call here is answered or waits" },
  {
    what: /^server-stateless\/.*-(undeclared-capability|missing-capability-http-400)$/,
    why: "no tool needs a capability of its host",
  },
  { what: /^caching\/.*-prompts-list-caching-hints$/, why: "no prompts" },
];

/** What the suite asks of servers that offer resources; not all do. */
const WANTS_RESOURCES: readonly { what: RegExp; why: string }[] = [
  { what: /^resources-list$/, why: "no resources" },
  { what: /^caching\/.*-(resources|resources-templates)-list-caching-hints$/, why: "no resources" },
];

/** Scenarios that ask for tools and resources by name: they run against the fixture. */
const WANTS_FIXTURE: readonly { what: RegExp; why: string }[] = [
  { what: /^tools-call-(simple-text|image|error|with-progress)$/, why: "calls a tool of the fixture" },
  {
    what: /^input-required-result-(basic-sampling|capability-check|multi-round|tampered-state)$/,
    why: "calls a tool of the fixture",
  },
  { what: /^resources-(read-text|read-binary|templates-read)$/, why: "reads a resource of the fixture" },
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
const FIXTURE_MUST_PASS: Record<string, readonly string[]> = {
  "2025-11-25": [
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-error",
    "tools-call-with-progress",
    "resources-list",
    "resources-read-text",
    "resources-read-binary",
    "resources-templates-read",
  ],
  "2026-07-28": [
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-error",
    "tools-call-with-progress",
    "resources-list",
    "resources-read-text",
    "resources-read-binary",
    "resources-templates-read",
    "input-required-result-basic-sampling",
    "input-required-result-capability-check",
    "input-required-result-multi-round",
    "input-required-result-tampered-state",
  ],
};

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

interface Target {
  start(store: string): Promise<HttpServerProcess>;
  fixture: boolean;
  offersResources(): Promise<boolean>;
}

async function offersResources(server: string): Promise<boolean> {
  const { definition } = (await import(join(ROOT, "servers", server, "src", "server.ts"))) as {
    definition: { resources?: readonly unknown[] };
  };
  return (definition.resources?.length ?? 0) > 0;
}

const targets: Record<string, Target> = {
  "the fixture server": {
    start: (store) => startHttp([join(import.meta.dirname, "fixture-server.ts"), "--http", "0"], { SWARM_STORE: store }),
    fixture: true,
    offersResources: async () => true,
  },
  ...Object.fromEntries(
    SERVERS.map((server) => [
      server,
      {
        start: (store: string) => startServerHttp(server, { SWARM_STORE: store }),
        fixture: false,
        offersResources: () => offersResources(server),
      },
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

    const fixtureMustPass = target.fixture ? (FIXTURE_MUST_PASS[revision] ?? []) : [];
    const allowed = [
      ...NOT_OFFERED,
      ...(target.fixture ? [] : WANTS_FIXTURE),
      ...((await target.offersResources()) ? [] : WANTS_RESOURCES),
    ];
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
    for (const scenario of [...(MUST_PASS[revision] ?? []), ...fixtureMustPass]) {
      expect(scenarios.has(scenario), scenario).toBe(true);
    }
    for (const scenario of fixtureMustPass) {
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
