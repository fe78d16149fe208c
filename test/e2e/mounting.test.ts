/** Each server mounts alone, over both transports, with every official client. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { startServerHttp } from "../support/bin.ts";
import { ERAS, Host, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";

/** A call that each server answers, changing something, and one that reads it back from another host. */
const ROUND_TRIPS: Record<string, (writer: Host, reader: Host, mark: string) => Promise<void>> = {
  "task-coordination": async (writer, reader, mark) => {
    await writer.call("add_task", { id: mark, description: `Work of ${mark}` });
    const { task } = await reader.call<{ task: { description: string; createdBy: string } }>("get_task", { taskId: mark });
    expect(task).toMatchObject({ description: `Work of ${mark}`, createdBy: writer.agent });
  },
};

test("every server has a round trip to be proven with", () => {
  expect(SERVERS).toContain("task-coordination");
  expect(Object.keys(ROUND_TRIPS).sort()).toEqual([...SERVERS].sort());
});

describe.each(SERVERS)("%s alone", (server) => {
  test("over stdio and over HTTP, every client of both eras sees the same tools and reads what another wrote", async () => {
    verifies("CORE-02");
    using folder = temporaryFolder();
    const roundTrip = ROUND_TRIPS[server];
    await using serving = await startServerHttp(server, { SWARM_STORE: folder.store });
    const hosts: Host[] = [];
    try {
      for (const era of ERAS) {
        hosts.push(await Host.start({ server, era, agent: `stdio-${era}`, store: folder.store }));
        hosts.push(await Host.http(`${serving.url}/mcp`, { era, agent: `http-${era}` }));
      }
      // a host that does not know the server's era finds the newer one
      hosts.push(await Host.start({ server, era: "v2-auto", agent: "stdio-auto", store: folder.store }));
      hosts.push(await Host.http(`${serving.url}/mcp`, { era: "v2-auto", agent: "http-auto" }));
      const lists = await Promise.all(hosts.map((host) => host.client.listTools()));
      const first = lists[0]?.tools;
      expect(first?.length).toBeGreaterThan(5);
      for (const { tools } of lists) expect(tools).toEqual(first);
      for (const host of hosts) expect(host.client.getInstructions()).toBe(hosts[0]?.client.getInstructions());

      for (const [index, writer] of hosts.entries()) {
        const reader = hosts[(index + 1) % hosts.length] ?? writer;
        await roundTrip?.(writer, reader, `mark-${index}`);
      }
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });
});
