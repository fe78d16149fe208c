/** What deciding costs: one question to a set of policies, in memory, without the call around it. */
import { seededRandom } from "@mcp-swarm/core";
import { type Policy, type PolicyRequest, PolicySet } from "@mcp-swarm/identity/policy";
import type { Options, Row } from "./row.ts";
import { median, percentile } from "./stats.ts";

const US_MAX = 10;
const REQUESTS = 2_000;
/** Decisions timed as one, because one is shorter than a clock tells. */
const BATCH = 10;
const ROUNDS = 20;
const NOW = 1_750_000_000_000;

const NOUNS = ["task", "workflow", "slot", "message", "topic", "state", "lock", "files", "vote", "agent"];
const VERBS = ["read", "add", "update", "cancel", "claim", "release", "write"];
const TEAMS = 25;
const ROLES = 20;

/** As a swarm of many teams has them: by role, kind of thing and team; each fifth bounds an argument, each tenth forbids. */
function rules(count: number): Policy[] {
  return Array.from({ length: count }, (_, at) => {
    const noun = NOUNS[at % NOUNS.length] ?? "task";
    const verb = at % 3 === 0 ? "*" : (VERBS[at % VERBS.length] ?? "*");
    return {
      id: `rule-${at}`,
      effect: at % 10 === 9 ? "forbid" : "permit",
      roles: [`role-${at % ROLES}`, "worker"],
      operations: [`${noun}:${verb}`],
      resources: [`${noun}/team-${at % TEAMS}/*`, `${noun}/shared-*`],
      ...(at % 5 === 4 ? { when: { arguments: { priority: { max: 7 } }, attributes: { team: { like: "team-*" } } } } : {}),
    };
  });
}

/** All about one operation of one role, each about another thing. */
function rulesOfOneOperation(count: number): Policy[] {
  return Array.from({ length: count }, (_, at) => ({
    id: `rule-${at}`,
    effect: "permit",
    roles: ["worker"],
    operations: ["task:claim"],
    resources: [`task/team-${at % TEAMS}/part-${at}-*`],
  }));
}

function requests(count: number, make: (at: number, pick: (below: number) => number) => Partial<PolicyRequest>): PolicyRequest[] {
  const random = seededRandom(16);
  return Array.from({ length: count }, (_, at) => ({
    agentId: `agent-${random.integer(100)}`,
    roles: ["worker"],
    attributes: { team: `team-${at % TEAMS}` },
    operation: "task:claim",
    resource: "task/x",
    arguments: { taskId: "x", priority: at % 10 },
    now: NOW + at,
    ...make(at, (below) => random.integer(below)),
  }));
}

const anyOperation = (_: number, pick: (below: number) => number): Partial<PolicyRequest> => {
  const noun = NOUNS[pick(NOUNS.length)] ?? "task";
  return {
    operation: `${noun}:${VERBS[pick(VERBS.length)]}`,
    resource: `${noun}/team-${pick(TEAMS)}/item-${pick(1_000)}`,
  };
};

/** Microseconds a decision takes, one figure a batch. */
function measure(set: PolicySet, asked: readonly PolicyRequest[], rounds: number): number[] {
  const times: number[] = [];
  let authorized = 0;
  for (let round = -1; round < rounds; round++) {
    for (let at = 0; at + BATCH <= asked.length; at += BATCH) {
      const from = process.hrtime.bigint();
      for (let next = at; next < at + BATCH; next++) {
        const request = asked[next];
        if (request && set.decide(request).authorized) authorized++;
      }
      if (round >= 0) times.push(Number(process.hrtime.bigint() - from) / 1_000 / BATCH); // the first round warms up
    }
  }
  if (authorized === 0) throw new Error("Nothing was permitted: these policies do not mean what they should");
  return times;
}

export async function decision({ quick }: Options): Promise<Row[]> {
  const rounds = quick ? 4 : ROUNDS;
  const rows: Row[] = [];
  const say = (what: string, times: readonly number[]) => {
    const p50 = median(times);
    rows.push({
      what,
      subject: `p50 ${p50.toFixed(2)} µs, p99 ${percentile(times, 0.99).toFixed(2)} µs`,
      goal: { atMost: US_MAX, value: p50 },
    });
  };
  for (const count of [10, 500]) {
    say(`a decision, ${count} rules`, measure(new PolicySet(rules(count)), requests(REQUESTS, anyOperation), rounds));
  }
  const oneOperation = requests(REQUESTS, (at) => ({ resource: `task/team-${at % TEAMS}/part-${at % 500}-7` }));
  say(
    "a decision, 500 rules that all are about this agent and operation",
    measure(new PolicySet(rulesOfOneOperation(500)), oneOperation, rounds),
  );
  const refused = oneOperation.map((request, at) =>
    at % BATCH === 0 ? request : { ...request, agentId: `guest-${at % 100}`, roles: ["guest"] },
  );
  say(
    "a refusal, 500 rules that permit this operation to others",
    measure(new PolicySet(rulesOfOneOperation(500)), refused, rounds),
  );
  return rows;
}
