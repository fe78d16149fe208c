/** Each server mounts alone, over both transports, with every official client. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { ERAS, type Host, temporaryFolder } from "../support/host.ts";
import { SERVERS } from "../support/servers.ts";
import { Surroundings } from "../support/surroundings.ts";
import { proofOf } from "./proofs/index.ts";

test("every server has a round trip to be proven with", () => {
  expect(SERVERS).toContain("task-coordination");
  for (const server of SERVERS) expect(proofOf(server).roundTrip, server).toBeTypeOf("function");
});

describe.each(SERVERS)("%s alone", (server) => {
  test("over stdio and over HTTP, every client of both eras sees the same tools and reads what another wrote", async () => {
    verifies("CORE-02");
    using folder = temporaryFolder();
    const proof = proofOf(server);
    await using swarm = await Surroundings.of(
      server,
      folder.store,
      [...ERAS, "auto"].map((era) => `http-${era}`),
    );
    await using serving = await swarm.serve();
    const hosts: Host[] = [];
    try {
      for (const era of ERAS) {
        hosts.push(await swarm.host(`stdio-${era}`, { era }));
        hosts.push(await swarm.httpHost(serving, `http-${era}`, era));
      }
      // a host that does not know the server's era finds the newer one
      hosts.push(await swarm.host("stdio-auto", { era: "v2-auto" }));
      hosts.push(await swarm.httpHost(serving, "http-auto", "v2-auto"));
      const lists = await Promise.all(hosts.map((host) => host.client.listTools()));
      const first = lists[0]?.tools;
      expect(first?.length).toBeGreaterThan(5);
      for (const { tools } of lists) expect(tools).toEqual(first);
      for (const host of hosts) expect(host.client.getInstructions()).toBe(hosts[0]?.client.getInstructions());

      for (const [index, writer] of hosts.entries()) {
        const reader = hosts[(index + 1) % hosts.length] ?? writer;
        await proof.roundTrip(writer, reader, `mark-${index}`);
      }
    } finally {
      await Promise.all(hosts.map((host) => host.close()));
    }
  });
});
