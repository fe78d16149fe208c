/** What proof, policy and audit cost a call: the same calls by an agent of a secured swarm with 500 policies, and of an open one. */
import { defaultPolicies, type Policy } from "@mcp-swarm/identity/policy";
import { SecuredSwarm } from "../test/support/secured.ts";
import { LineClient } from "./drivers/line-client.ts";
import type { Options, Row } from "./row.ts";
import { type Engine, onEachEngine, type ServerName, swarmServer } from "./servers.ts";
import { median } from "./stats.ts";

const CALLS = 300;
const ROUNDS = 9;
/** Calls of each side that are not counted. */
const WARM_UP = 200;
const POLICIES = 500;
const GOAL = 1.15;
const AGENT = "agent-1";
const KEYS = 100;
const TEXT = "x".repeat(100);

interface Operation {
  server: ServerName;
  tool: string;
  args: (n: number) => Record<string, unknown>;
  before?: readonly [tool: string, args: Record<string, unknown>];
}

const task = { id: "bench", description: TEXT };
const OPERATIONS: readonly Operation[] = [
  { server: "task-coordination", tool: "get_task", args: () => ({ taskId: task.id }), before: ["add_task", task] },
  {
    server: "task-coordination",
    tool: "update_task",
    args: (n) => ({ taskId: task.id, progress: { percent: n % 100 } }),
    before: ["claim_task", { taskId: task.id }],
  },
  { server: "shared-state", tool: "set_state", args: (n) => ({ key: `bench/${n % KEYS}`, value: { n, text: TEXT } }) },
  { server: "shared-state", tool: "get_state", args: (n) => ({ key: `bench/${n % KEYS}` }) },
];

export async function securedCall({ quick }: Options): Promise<Row[]> {
  return await onEachEngine((engine) => measure(engine, quick ? 3 : ROUNDS));
}

/** The default policies, and others that are about the same operations and other agents. */
function policies(): Policy[] {
  const others = Array.from({ length: POLICIES - defaultPolicies().length }, (_, n): Policy => {
    return {
      id: `rule-${n}`,
      effect: n % 2 === 0 ? "permit" : "forbid",
      agents: [`other-${n}-*`],
      operations: ["task:*", "state:*"],
    };
  });
  return [...defaultPolicies(), ...others];
}

async function measure({ name, durability, freshStore }: Engine, rounds: number): Promise<Row[]> {
  const secured = await freshStore("secured");
  const open = { store: await freshStore("open"), durability, agent: AGENT };
  await using swarm = await SecuredSwarm.secure({ store: secured, policies: policies() });
  await swarm.enroll(AGENT);
  const key = { SWARM_KEY_FILE: swarm.keyFile(AGENT) };
  const rows: Row[] = [];
  for (const server of new Set(OPERATIONS.map((operation) => operation.server))) {
    const subject = new LineClient(swarmServer(server, { ...open, store: secured }, key));
    const control = new LineClient(swarmServer(server, open));
    try {
      for (const host of [subject, control]) await host.open();
      for (const operation of OPERATIONS.filter((one) => one.server === server)) {
        for (const host of [subject, control]) if (operation.before) await host.ask(...operation.before);
        const measured = await pairs(rounds * CALLS, operation, { subject, control });
        rows.push({
          what: `${operation.tool}, secured against open, ${name}`,
          subject: `${Math.round(measured.subject)} µs`,
          control: `${Math.round(measured.control)} µs`,
          ratio: measured.ratio,
          goal: { atMost: GOAL },
          note: `${POLICIES} policies`,
        });
      }
    } finally {
      await Promise.all([subject.close(), control.close()]);
    }
  }
  return rows;
}

/**
 * One call of each side after the other, the first to go alternating, so that whatever else the machine does meets both alike; the
 * middle of each.
 */
async function pairs(
  calls: number,
  { tool, args }: Operation,
  sides: { subject: LineClient; control: LineClient },
): Promise<{ subject: number; control: number; ratio: number }> {
  const took = { subject: [] as number[], control: [] as number[] };
  for (let call = 0; call < calls + WARM_UP; call++) {
    for (const side of call % 2 === 0 ? (["subject", "control"] as const) : (["control", "subject"] as const)) {
      const start = performance.now();
      await sides[side].ask(tool, args(call));
      if (call >= WARM_UP) took[side].push((performance.now() - start) * 1_000);
    }
  }
  const subject = median(took.subject);
  const control = median(took.control);
  return { subject, control, ratio: subject / control };
}
