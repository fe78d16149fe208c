/** Every tool of every server in a secured swarm: it does its work for a proven caller, and for nobody else under that caller's hand. */
import { definition as agentComm } from "@mcp-swarm/agent-comm";
import { definition as consensus } from "@mcp-swarm/consensus";
import { definition as distributedExecution } from "@mcp-swarm/distributed-execution";
import { definition as sharedState } from "@mcp-swarm/shared-state";
import { definition as taskCoordination } from "@mcp-swarm/task-coordination";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { temporaryFolder } from "../support/host.ts";
import { SecuredSwarm } from "../support/secured.ts";
import { SERVERS } from "../support/servers.ts";
import { proofOf, Recall } from "./proofs/index.ts";

/** What is alike is written down once, whichever tool it came by: so what a tool has left is looked for by its operation. */
function operationOf(server: string, tool: string): string | undefined {
  const definition = [agentComm, consensus, distributedExecution, sharedState, taskCoordination].find(
    ({ name }) => name === server,
  );
  return definition?.tools.find(({ name }) => name === tool)?.operation;
}

/** Fields that say for which of the caller's own subagents a call is. */
const SPEAKERS = ["agentId", "workerId"];
/** Tools whose field is about whomever they ask, and not about who acts. */
const ABOUT_OTHERS: Readonly<Record<string, readonly string[]>> = {
  "agent-comm": ["get_agent_status", "get_agent_configuration"],
  "distributed-execution": ["list_tasks"],
  "task-coordination": ["estimate_task"],
};
/** Tools of a story in which another agent has a part; other tests prove them in a secured swarm. */
const WITH_ANOTHER: Readonly<Record<string, readonly string[]>> = { "agent-comm": ["request_reply", "get_message"] };
/** The security server's tools are about the swarm itself and name others by right: security.test.ts proves them. */
const WORKING = SERVERS.filter((server) => server !== "security");

describe.each(WORKING)("%s in a secured swarm", (server) => {
  test("does the work of each tool for a proven caller, writes it down, and speaks for no other agent", {
    timeout: 240_000,
  }, async () => {
    verifies("SEC-05", "SEC-06", "SEC-09", "CORE-15");
    using folder = temporaryFolder();
    await using swarm = await SecuredSwarm.secure(folder);
    await swarm.enroll("teller", { roles: ["admin"] });
    await using host = await swarm.host("teller", { server });
    const { tools } = await host.client.listTools();
    const fieldsOf = new Map(
      tools.map(({ name, inputSchema }) => [name, Object.keys((inputSchema.properties as object | undefined) ?? {})]),
    );
    const recall = new Recall();
    const told = new Set<string>();
    const spoken = new Set<string>();
    for (const [tool, given] of proofOf(server).story) {
      if (WITH_ANOTHER[server]?.includes(tool)) continue;
      const args = recall.fill(given);
      const speaker = SPEAKERS.find((field) => fieldsOf.get(tool)?.includes(field));
      if (speaker && !ABOUT_OTHERS[server]?.includes(tool)) {
        const refused = await host.try(tool, { ...args, [speaker]: "stranger/helper" });
        expect(refused.text, tool).toMatch(/^permission_denied: An agent speaks for itself and its own subagents only\./);
        spoken.add(tool);
      }
      const answer = await host.call(tool, args);
      expect(answer, tool).toMatchObject({ caller: { agentId: "teller", verified: true } });
      recall.learn(answer);
      told.add(tool);
    }
    const expected = [...fieldsOf.keys()].filter((tool) => !WITH_ANOTHER[server]?.includes(tool));
    expect(expected.filter((tool) => !told.has(tool))).toEqual([]);
    const entries = await swarm.audited();
    for (const tool of told) {
      expect(entries, tool).toContainEqual(
        expect.objectContaining({
          operation: operationOf(server, tool),
          agentId: "teller",
          verified: true,
          outcome: "permit",
          reason: "permitted",
        }),
      );
    }
    for (const tool of spoken) {
      expect(entries, tool).toContainEqual(
        expect.objectContaining({ operation: operationOf(server, tool), agentId: "teller", reason: "permission_denied" }),
      );
    }
  });
});
