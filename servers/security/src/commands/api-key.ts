import { SwarmError } from "@mcp-swarm/core";
import { rootAgent } from "@mcp-swarm/identity";
import { ApiKeys, type ListedApiKey } from "@mcp-swarm/identity/trust";
import { Command } from "commander";
import { type CommandHost, withIssuer } from "./swarm.ts";
import { answer, note, table, whole } from "./terminal.ts";

const DAYS_DEFAULT = 90;
const DAYS_MAX = 366;
const DAY_MS = 24 * 60 * 60_000;
/** Keys read at once. */
const PAGE = 200;

export function apiKeyCommand(host: CommandHost): Command {
  return new Command("api-key")
    .description(
      "Make an API key for a host that can keep a text and sign nothing; run it with the SWARM_KEY_FILE of the server that is to take it",
    )
    .argument("[agent]", "Whom it is for")
    .option("--days <n>", `How long it lives, up to ${DAYS_MAX} (default: ${DAYS_DEFAULT})`)
    .option("--list", "Show the keys that live, without their text")
    .option("--revoke <id>", "End one")
    .action(async (agentId: string | undefined, options: { days?: string; list?: boolean; revoke?: string }) => {
      const days = whole(options.days ?? String(DAYS_DEFAULT), "--days", 1, DAYS_MAX);
      if (options.list) return await listKeys(host);
      if (options.revoke !== undefined) return await revokeKey(host, options.revoke);
      if (agentId === undefined) {
        throw new SwarmError("invalid_argument", "Say whom the API key is for.", { hint: "mcp-swarm-security api-key <agent>" });
      }
      await makeKey(host, agentId, days * DAY_MS);
    });
}

async function makeKey(host: CommandHost, agentId: string, ttlMs: number): Promise<void> {
  await withIssuer(host, async ({ store, trust, self, audit }) => {
    const member = trust.principal(agentId);
    if (!member || member.revoked) {
      throw new SwarmError("not_found", `${rootAgent(agentId)} is no member of this swarm.`, {
        hint: "Enrol it first: mcp-swarm-security enroll <agent>. An API key may be all that it ever uses.",
      });
    }
    const made = new ApiKeys(self).create({ agentId, ttlMs });
    const event = { agentId: self.agentId, verified: true, operation: "token:issue", resource: `agent/${agentId}` } as const;
    const key = await audit.transact<ListedApiKey>(
      (plan) => store.transact(plan),
      (tx, append) => {
        append({ ...event, outcome: "administered", reason: "api_key", details: made.id });
        return made.put(tx);
      },
    );
    answer(made.text);
    note(
      `\nThis key speaks for ${agentId} until ${new Date(key.expiresAt).toISOString()}, at servers that run as ${self.agentId}.`,
    );
    note("It is shown this once. A host sends it as: Authorization: Bearer <key>");
    note(`To end it: mcp-swarm-security api-key --revoke ${key.id}`);
  });
}

async function listKeys(host: CommandHost): Promise<void> {
  await withIssuer(host, async ({ store, self }) => {
    const keys = new ApiKeys(self);
    const rows: string[][] = [];
    for (let after: string | undefined; ; ) {
      const page = await keys.list(store, { limit: PAGE, ...(after === undefined ? {} : { after }) });
      for (const { id, agentId, expiresAt } of page) rows.push([id, agentId, new Date(expiresAt).toISOString()]);
      after = page.at(-1)?.id;
      if (page.length < PAGE) break;
    }
    if (rows.length > 0) answer(table([["ID", "AGENT", "ENDS"], ...rows]));
    else note(`${self.agentId} has made no API keys that live.`);
  });
}

async function revokeKey(host: CommandHost, id: string): Promise<void> {
  await withIssuer(host, async ({ store, self, audit }) => {
    const event = { agentId: self.agentId, verified: true, operation: "token:issue", resource: "agent/*" } as const;
    const ended = await audit.transact(
      (plan) => store.transact(plan),
      (tx, append) => {
        if (!new ApiKeys(self).revoke(tx, id)) return false;
        append({ ...event, outcome: "administered", reason: "api_key_revoked", details: id });
        return true;
      },
    );
    if (ended) return answer(`${id} has ended.`);
    throw new SwarmError("not_found", "There is no API key with this id.", {
      hint: "mcp-swarm-security api-key --list shows those that live.",
    });
  });
}
