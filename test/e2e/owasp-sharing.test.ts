/** OWASP MCP Top 10 (2025), MCP10 context injection and over-sharing: what one agent may not read reaches it by no tool and no resource. */
import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ENGINES } from "../faults/engines.ts";
import { verifies } from "../requirements.ts";
import { Canaries } from "../support/canaries.ts";
import { eventually, Host, temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";
import { SERVERS } from "../support/servers.ts";

/** Most combinations of fields that one tool is tried with. */
const TRIES_MAX = 60;

const words = () => `moon${randomBytes(18).toString("hex")}`;

/** Values for the fields of tools, by their names: all that an agent could guess, hear of or list. */
type Guesses = Readonly<Record<string, readonly unknown[]>>;

interface Field {
  readonly type?: string;
  readonly enum?: readonly unknown[];
}

/** Inputs for a tool: each field that is there with each guess, alone and with the first of the others. */
function inputsFor(schema: { properties?: Record<string, Field>; required?: readonly string[] }, guesses: Guesses): object[] {
  const fields = Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const values = guesses[name] ?? field.enum;
    return values ? [[name, values] as const] : [];
  });
  const required = fields.filter(([name]) => schema.required?.includes(name));
  const base = Object.fromEntries(required.map(([name, [first]]) => [name, first]));
  const all = Object.fromEntries(fields.map(([name, [first]]) => [name, first]));
  const inputs: object[] = [base, all];
  for (const [name, values] of fields) {
    for (const value of values) {
      inputs.push({ ...base, [name]: value });
      for (const [other, [first]] of fields) if (other !== name) inputs.push({ ...base, [name]: value, [other]: first });
    }
  }
  return [...new Map(inputs.map((input) => [JSON.stringify(input), input])).values()].slice(0, TRIES_MAX);
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  test("messages, threads, values, tasks, secrets, sealed ballots and the audit log of others stay theirs, whichever tool or resource asks", {
    timeout: 240_000,
  }, async () => {
    verifies("SEC-15", "SEC-06", "COMM-09");
    using meeting = await meet();
    await using swarm = await SecuredSwarm.secure(meeting);
    for (const agent of ["ann", "bob"]) await swarm.enroll(agent, { roles: ["worker", "keeper"] });
    await swarm.enroll("eve");
    await swarm.admin.setPolicies([
      { id: "secrets", effect: "permit", roles: ["keeper"], operations: ["secret:*"] },
      { id: "private-values", effect: "forbid", agents: ["eve"], operations: ["state:*"], resources: ["state/agent:ann/*"] },
      { id: "private-tasks", effect: "forbid", agents: ["eve"], operations: ["task:*"], resources: ["task/private-*"] },
      { id: "private-topics", effect: "forbid", agents: ["eve"], operations: ["topic:*"], resources: ["topic/inner"] },
      { id: "private-flows", effect: "forbid", agents: ["eve"], operations: ["workflow:*"], resources: ["workflow/private-*"] },
    ]);
    const canaries = new Canaries();
    const private_ = Object.fromEntries(
      ["message", "sealed message", "topic", "dead letter", "value", "task", "workflow", "secret"].map((what) => {
        const text = words();
        canaries.add(what, text);
        return [what, text];
      }),
    );
    const asAnn = (server: string) => swarm.host("ann", { server });
    const asBob = (server: string) => swarm.host("bob", { server });
    await using mail = await asAnn("agent-comm");
    await using mailOfBob = await asBob("agent-comm");
    await using state = await asAnn("shared-state");
    await using stateOfBob = await asBob("shared-state");
    await using tasks = await asAnn("task-coordination");
    await using secrets = await asAnn("security");
    await using secretsOfBob = await asBob("security");
    await using votes = await asAnn("consensus");

    const note = { targetAgent: "bob", messageType: "note", mailbox: true, correlationId: "job" };
    const send = async (payload: unknown, more: object = {}) =>
      (await mail.call<{ message: { id: string } }>("send_message", { ...note, payload, ...more })).message.id;
    const ids = [await send(private_.message), await send(private_["sealed message"], { encrypt: true })];
    const rejected = await send(private_["dead letter"]);
    await mailOfBob.call("get_messages", {});
    await mailOfBob.call("acknowledge_messages", { messageIds: [rejected], outcome: "reject", reason: "No" });
    await mailOfBob.call("subscribe", { topics: ["inner"] });
    await mail.call("broadcast_message", {
      scope: "topic",
      name: "inner",
      messageType: "note",
      payload: private_.topic,
      ...{ correlationId: "job" },
    });
    await state.call("set_state", { key: "plan", value: { text: private_.value }, scope: "agent" });
    await tasks.call("add_task", { id: "private-1", description: private_.task });
    await tasks.call("create_workflow", {
      id: "private-flow",
      name: "Flow",
      metadata: { note: private_.workflow },
      tasks: [{ id: "private-2", description: private_.workflow }],
    });
    await tasks.call("execute_workflow", { workflowId: "private-flow" });
    await secrets.call("put_secret", { name: "db", value: private_.secret });
    const { vote } = await votes.call<{ vote: { id: string } }>("initiate_vote", {
      ...{ proposal: "Shall we?", participants: ["ann", "bob", "eve"] },
      ...{ sealed: true, timeout: 3_600_000, revealMs: 3_600_000 },
    });
    const sealed = await votes.call<{ commitment: string; opening: string }>("seal_ballot", {
      voteId: vote.id,
      choice: { vote: "no" },
    });
    const nonce = (JSON.parse(sealed.opening) as { nonce: string }).nonce;
    canaries.add("opening of a ballot", nonce);
    await votes.call("cast_vote", { voteId: vote.id, commitment: sealed.commitment });

    // the search finds all of it where it may be read
    const seen = new Set<string>();
    const readers: [Host, string, object][] = [
      [mailOfBob, "get_thread", { correlationId: "job" }],
      [mailOfBob, "list_dead_letters", {}],
      [mailOfBob, "get_messages", { limit: 25 }],
      [mailOfBob, "search_messages", { text: private_.message }],
      [stateOfBob, "get_state", { key: "plan", scope: "agent", scopeId: "ann" }],
      [
        stateOfBob,
        "get_context",
        { taskId: "private-1", keys: [{ key: "plan", scope: "agent", scopeId: "ann" }], correlationId: "job" },
      ],
      [stateOfBob, "get_context", { workflowId: "private-flow" }],
      [secretsOfBob, "get_secret", { name: "db" }],
      [tasks, "get_task", { taskId: "private-flow.private-2" }],
    ];
    for (const [host, tool, args] of readers) {
      for (const found of canaries.find((await host.try(tool, args as Record<string, unknown>)).text).keys()) seen.add(found);
    }
    expect([...seen].sort()).toEqual(
      ["dead letter", "message", "sealed message", "secret", "task", "topic", "value", "workflow"].sort(),
    );

    const guesses: Guesses = {
      messageId: [...ids, rejected],
      messageIds: [ids, [rejected]],
      correlationId: ["job"],
      agentId: ["bob", "ann", "eve/bob"],
      workerId: ["ann", "eve"],
      from: ["ann"],
      text: [private_.message, private_["dead letter"], "note", "No"],
      topics: [["inner"], ["inner*"], ["*"]],
      replayFrom: ["start"],
      prefix: ["", "pl", "inner", "private"],
      key: ["plan"],
      path: ["/text", ""],
      offset: [0, 1],
      scope: ["agent", "global"],
      scopeId: ["ann", "bob"],
      sinceRev: [0],
      rev: [1],
      keys: [[{ key: "plan", scope: "agent", scopeId: "ann" }]],
      taskId: ["private-1", "private-flow.private-2"],
      workflowId: ["private-flow"],
      field: ["description", "parameters"],
      status: ["available", "pending"],
      task: [{ description: "Work", dependencies: ["private-1"] }],
      tasks: [[{ description: "Work", dependencies: ["private-1"] }]],
      name: ["db"],
      sealed: [sealed.commitment],
      voteId: [vote.id],
      commitment: [sealed.commitment],
      choice: [{ vote: "yes" }],
      operation: ["task:read", "*"],
      resource: ["task/private-1", "*"],
      sent: [true, false],
      mine: [true, false],
      limit: [25],
      waitMs: [0],
      maxTokens: [4_000],
      mailbox: [true],
      targetAgent: ["eve"],
      messageType: ["note"],
      payload: ["x"],
      checks: [[{ key: "plan", scope: "agent", scopeId: "ann", exists: true }]],
      writes: [[{ key: "plan", value: 1 }]],
      value: ["x"],
      recipients: [["eve"]],
    };
    let calls = 0;
    let answered = 0;
    for (const server of SERVERS) {
      await using eve = await swarm.host("eve", { server });
      const { tools } = await eve.client.listTools();
      for (const { name, inputSchema, annotations } of tools) {
        // what ends or changes things of eve's own could only take from the rest of the test
        if (annotations?.readOnlyHint !== true && !/^(get|subscribe|claim|redeliver|transact|patch)/.test(name)) continue;
        for (const input of inputsFor(inputSchema as Parameters<typeof inputsFor>[0], guesses)) {
          const answer = await eve.try(name, input as Record<string, unknown>);
          canaries.look(server, `${name} ${JSON.stringify(input).slice(0, 120)}`, withoutInput(answer.text, input));
          calls += 1;
          if (!answer.isError) answered += 1;
        }
      }
      for (const uri of [
        "inbox://bob",
        "inbox://ann",
        "state://agent/plan",
        "state://agent/ann/plan",
        "state://agent:ann/plan",
        `vote://${vote.id}`,
      ]) {
        const read = await eve.client.readResource({ uri }).then(JSON.stringify, String);
        canaries.look(server, uri, read);
      }
      canaries.look(server, "its log", eve.stderr);
      if (server !== "consensus") continue;
      const { ballots } = await eve.call<{ ballots: { voter: string; choice?: unknown }[] }>("list_ballots", { voteId: vote.id });
      expect(ballots.find(({ voter }) => voter === "ann")).not.toHaveProperty("choice");
    }
    expect(canaries.leaks).toEqual([]);
    expect(calls).toBeGreaterThan(400);
    expect(answered).toBeGreaterThan(50);
  });
});

test("a topic that a policy closes to an agent is closed to its subscription from before, and opens where it was closed", async () => {
  verifies("SEC-06", "SEC-08");
  using folder = temporaryFolder();
  await using swarm = await SecuredSwarm.secure(folder);
  for (const agent of ["ann", "eve"]) await swarm.enroll(agent);
  await using ann = await swarm.host("ann", { server: "agent-comm" });
  await using eve = await swarm.host("eve", { server: "agent-comm" });
  type Got = { messages: { payload: string }[] };
  const publish = async (payload: string) =>
    (
      await ann.call<{ message: { id: string } }>("broadcast_message", {
        scope: "topic",
        name: "inner",
        messageType: "note",
        payload,
      })
    ).message.id;
  const take = async () => (await eve.call<Got>("get_messages", { acknowledge: true })).messages.map(({ payload }) => payload);
  await eve.call("subscribe", { topics: ["inn*"] });
  await publish("before");
  expect(await take()).toEqual(["before"]);
  await swarm.admin.setPolicy({
    ...{ id: "closed", effect: "forbid", agents: ["eve"], operations: ["topic:read"], resources: ["topic/inner"] },
  });
  await eventually("the policy is in force", async () => (await eve.try("list_topics")).isError);
  const messageId = await publish("meanwhile");
  expect(await take()).toEqual([]);
  for (const [tool, args] of [
    ["get_message", { messageId }],
    ["search_messages", { text: "meanwhile" }],
  ] as const) {
    expect((await eve.try(tool, args)).text.replaceAll(messageId, ""), tool).not.toMatch(/"payload"/);
  }
  await swarm.admin.deletePolicy("closed");
  await eventually("it is open again", async () => !(await eve.try("list_topics")).isError);
  expect(await take()).toEqual(["meanwhile"]);
});

/** The answer but for what was asked: a search may repeat its words. */
function withoutInput(text: string, input: object): string {
  return Object.values(input).reduce<string>(
    (rest, value) => (typeof value === "string" ? rest.replaceAll(value, "") : rest),
    text,
  );
}

test("in an open swarm an inbox and its threads are given to the agent they belong to alone", async () => {
  verifies("SEC-15");
  using folder = temporaryFolder();
  const text = words();
  await using ann = await Host.start({ server: "agent-comm", store: folder.store, agent: "ann" });
  await using eve = await Host.start({ server: "agent-comm", store: folder.store, agent: "eve" });
  await using context = await Host.start({ server: "shared-state", store: folder.store, agent: "eve" });
  const { message } = await ann.call<{ message: { id: string } }>("send_message", {
    ...{ targetAgent: "bob", messageType: "note", payload: text, mailbox: true, correlationId: "job" },
  });
  const asked: [Host, string, Record<string, unknown>][] = [
    [eve, "get_message", { messageId: message.id }],
    [eve, "get_messages", { agentId: "bob" }],
    [eve, "get_thread", { correlationId: "job" }],
    [eve, "search_messages", { text: "note" }],
    [context, "get_context", { correlationId: "job" }],
  ];
  for (const [host, tool, args] of asked) expect((await host.try(tool, args)).text, tool).not.toContain(text);
  expect((await ann.try("get_message", { messageId: message.id })).text).toContain(text);
});
