/** What SECURITY.md and the threat model say is so: numbers, files and tests that they name. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { CHECKPOINT_MS, CHECKPOINT_ROWS } from "@mcp-swarm/identity/audit";
import { TOKEN_LIFETIME_MS_MAX, TRUST_AGE_MS_MAX, TRUST_ROUND_MS } from "@mcp-swarm/identity/trust";
import { expect, test } from "vitest";
import { requirements, verifies } from "../requirements.ts";
import { ROOT } from "../support/host.ts";

const SECURITY = readFileSync(join(ROOT, "SECURITY.md"), "utf8");
const MODEL = readFileSync(join(ROOT, "docs", "threat-model.md"), "utf8");

/** The text without its line breaks, so that a sentence is found wherever it is broken. */
const flat = (text: string) => text.replaceAll(/\s+/g, " ");

test("SECURITY.md says who is trusted with what, in open and in secured swarms", () => {
  verifies("SEC-14");
  const table = SECURITY.slice(SECURITY.indexOf("## Who is trusted with what"), SECURITY.indexOf("## What is in force where"));
  const rows = table.split("\n").filter((line) => line.startsWith("| ") && !line.startsWith("| who |"));
  for (const who of ["root key", "store", "agent's key file", "issuer", "**agent**", "host", "other processes"]) {
    const row = rows.find((line) => line.split("|")[1]?.includes(who)) ?? expect.fail(`Nothing is said of ${who}`);
    expect(row.split("|")[3]?.trim(), who).not.toBe("");
  }
});

test("SECURITY.md says what cannot be stopped", () => {
  verifies("SEC-14");
  const limits = flat(SECURITY.slice(SECURITY.indexOf("## What this cannot stop"), SECURITY.indexOf("## In an open swarm")));
  for (const said of [
    /one user of the operating system.*run the gateway.*as another user/,
    /access to the store.*noticed, not prevented/,
    /after the last checkpoint/,
    /Revoking takes nothing back/,
    /Quarantine/,
    /older signed record/,
    /Rates/,
    /TLS is the proxy's/,
    /Text of other agents/,
    /memory and environment/,
  ]) {
    expect(limits).toMatch(said);
  }
});

test("the numbers in SECURITY.md are those that are in force", () => {
  verifies("SEC-14");
  const text = flat(SECURITY);
  const minutes = (ms: number) => ms / 60_000;
  expect(text).toContain(`reads it every ${TRUST_ROUND_MS / 1000} s`);
  expect(text).toContain(`within ${TRUST_ROUND_MS / 1000 + 1} s`);
  expect(text).toContain(`after ${minutes(TRUST_AGE_MS_MAX)} minutes without a good one`);
  expect(text).toContain(`a token of at most ${minutes(TOKEN_LIFETIME_MS_MAX)} minutes`);
  expect(minutes(CHECKPOINT_MS)).toBe(1);
  expect(text).toContain(`at most ${CHECKPOINT_ROWS}, or a minute's`);
});

test("the threat model covers the OWASP MCP Top 10, and each threat names tests that are there and cite a promise", () => {
  verifies("SEC-14", "SEC-15");
  const threats = MODEL.split("\n").filter((line) => /^\| (MCP\d\d )?\|/.test(line) && !line.includes("---"));
  const rows = threats.filter((line) => !line.includes("shown by"));
  expect(rows.length).toBeGreaterThan(15);
  for (let n = 1; n <= 10; n++) {
    const risk = `MCP${String(n).padStart(2, "0")}`;
    expect(
      rows.some((row) => row.startsWith(`| ${risk} |`)),
      risk,
    ).toBe(true);
    const tested = ["owasp.test.ts", "owasp-sharing.test.ts"].map((file) =>
      readFileSync(join(import.meta.dirname, file), "utf8"),
    );
    expect(
      tested.some((source) => source.includes(risk)),
      `${risk} has a test`,
    ).toBe(true);
  }
  for (const row of rows) {
    const [threat, defence, shown] = row.split("|").slice(2, 5);
    expect(threat?.trim() && defence?.trim(), row).toBeTruthy();
    const files = [...(shown ?? "").matchAll(/`([^`]+)`/g)].map(([, file]) => file ?? "");
    expect(files.length, row).toBeGreaterThan(0);
    for (const file of files) {
      expect(existsSync(join(ROOT, file)), file).toBe(true);
      const cited = [...readFileSync(join(ROOT, file), "utf8").matchAll(/verifies\(([^)]*)\)/g)].flatMap(([, ids = ""]) =>
        [...ids.matchAll(/"([A-Z]+-\d+)"/g)].map(([, id]) => id),
      );
      expect(cited.length, `${file} proves nothing`).toBeGreaterThan(0);
      for (const id of cited) expect(Object.keys(requirements)).toContain(id);
    }
  }
});

test.each([
  ["SECURITY.md", SECURITY],
  ["docs/threat-model.md", MODEL],
])("every file that %s links to is there", (path, text) => {
  verifies("SEC-14");
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link]) => link ?? "");
  expect(links.length).toBeGreaterThan(0);
  for (const link of links) expect(existsSync(join(ROOT, dirname(path), link)), link).toBe(true);
});
