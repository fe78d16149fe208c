/** The guide is what a person does: its lines run as they stand there. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, ROOT } from "../support/host.ts";
import { Person } from "../support/person.ts";

const GUIDE = readFileSync(join(ROOT, "docs", "guides", "secure-your-swarm.md"), "utf8");
const DENIED = "# exit code 1";

test("the lines of the guide to a secured swarm do what it says, one after the other", { timeout: 180_000 }, async () => {
  verifies("SEC-01", "SEC-04", "SEC-08", "SEC-09");
  using person = new Person();
  const [setup = "", ...blocks] = [...GUIDE.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block ?? "");
  expect(blocks.length).toBeGreaterThan(10);
  // PATH begins with this Node, as the guide's reader has one that fits
  const env = { CLONE: ROOT, PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
  const said: string[] = [];
  for (const block of blocks) {
    const { code, stdout, stderr } = await person.shell(`${setup}\n${block}`, env);
    expect(code, `${block}\n${stdout}\n${stderr}`).toBe(block.includes(DENIED) ? 1 : 0);
    said.push(stdout);
  }
  const all = said.join("\n");
  for (const words of [
    "This swarm is secured",
    "root public key",
    "SWARM_KEY_FILE=",
    "2 policies, all sound.",
    "denied (forbidden): Policy releases-are-reviewed forbids task:cancel",
    "permitted (permitted): Policy worker permits it.",
    "build-1 is in quarantine",
    "sound: ",
  ]) {
    expect(all, words).toContain(words);
  }

  const keyFile = /^SWARM_KEY_FILE=(.+build-1\.json)$/m.exec(all)?.[1] ?? "none";
  await using host = await Host.start({ server: "security", store: person.store, env: { SWARM_KEY_FILE: keyFile } });
  expect(await host.call("whoami")).toMatchObject({
    agent: { id: "build-1", roles: ["worker"] },
    swarm: { secured: true },
    caller: { agentId: "build-1", verified: true },
  });
  const members = JSON.parse(await person.done(["members", "--json"])) as { agentId: string; standing: string }[];
  expect(members).toMatchObject([
    { agentId: "build-1", standing: "active", generation: 2 },
    { agentId: "build-2", standing: "active", roles: ["worker", "deployer"], attributes: { team: "release" } },
    { agentId: "gateway", standing: "active", issuer: true },
    { agentId: "watcher", standing: "active", roles: ["observer"], generation: 2 },
  ]);
});
