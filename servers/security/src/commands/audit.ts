import { SwarmError } from "@mcp-swarm/core";
import { type AuditEntry, type AuditFilter, copiesIn, OUTCOMES, type Outcome, readAudit } from "@mcp-swarm/identity/audit";
import { Command } from "commander";
import { copiesOf, verify } from "../audit-trail.ts";
import { type CommandHost, withStore, withTrust } from "./swarm.ts";
import { answer, each, note, plain, readText, whole } from "./terminal.ts";

const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 10_000;
/** Pages read for one list. */
const PAGES_MAX = 1_000;

export function auditCommand(host: CommandHost): Command {
  return new Command("audit")
    .description("Who did what: list, verify")
    .addCommand(listCommand(host))
    .addCommand(verifyCommand(host));
}

interface ListOptions {
  agent?: string;
  operation?: string;
  resource?: string;
  outcome?: string;
  since?: string;
  until?: string;
  limit?: string;
  json?: boolean;
}

function listCommand(host: CommandHost): Command {
  return new Command("list")
    .description("Print what was permitted, refused and changed, the newest first")
    .option("--agent <agent>", "Of this agent and its subagents")
    .option("--operation <operation>", "Of this operation; may end in *")
    .option("--resource <resource>", "About this resource; may end in *")
    .option("--outcome <outcome>", `One of ${OUTCOMES.join(", ")}`)
    .option("--since <time>", "From then on, for example 2026-01-31 or 2026-01-31T12:00Z")
    .option("--until <time>", "Before then")
    .option("--limit <n>", `How many (default: ${LIMIT_DEFAULT})`)
    .option("--json", "One entry of JSON a line")
    .action(async (options: ListOptions) => {
      const limit = whole(options.limit ?? String(LIMIT_DEFAULT), "--limit", 1, LIMIT_MAX);
      const filter = filterOf(options);
      const print = (entry: AuditEntry) => answer(options.json ? JSON.stringify(entry) : line(entry));
      await withStore(host, async (store) => {
        let left = limit;
        let before: string | undefined;
        for (let page = 0; page < PAGES_MAX && left > 0; page++) {
          const { entries, next, unreadable } = await readAudit(store, filter, {
            limit: left,
            ...(before === undefined ? {} : { before }),
          });
          for (const entry of entries) print(entry);
          if (unreadable > 0) note(`${unreadable} rows are not as they were written: mcp-swarm-security audit verify`);
          left -= entries.length;
          before = next;
          if (next === undefined) break;
        }
        if (left === limit) note("Nothing of this kind was written down.");
      });
    });
}

function filterOf({ agent, operation, resource, outcome, since, until }: ListOptions): AuditFilter {
  return {
    ...(agent === undefined ? {} : { agentId: agent }),
    ...(operation === undefined ? {} : { operation }),
    ...(resource === undefined ? {} : { resource }),
    ...(outcome === undefined ? {} : { outcome: outcomeOf(outcome) }),
    ...(since === undefined ? {} : { since: timeOf(since, "--since") }),
    ...(until === undefined ? {} : { until: timeOf(until, "--until") }),
  };
}

function outcomeOf(text: string): Outcome {
  const outcome = OUTCOMES.find((one) => one === text);
  if (outcome) return outcome;
  throw new SwarmError("invalid_argument", "--outcome takes another word.", { hint: `One of ${OUTCOMES.join(", ")}.` });
}

function timeOf(text: string, option: string): number {
  const time = Date.parse(text);
  if (time >= 0) return time;
  throw new SwarmError("invalid_argument", `${option} takes a time.`, { hint: "For example 2026-01-31T12:00Z." });
}

function line({ at, outcome, agentId, verified, operation, resource, reason, policyIds, count, details }: AuditEntry): string {
  const who = verified ? agentId : `${agentId} (not proven)`;
  const why = [reason, ...(policyIds ? [`[${policyIds.join(" ")}]`] : []), ...(details === undefined ? [] : [details])].join(" ");
  const times = count === undefined ? "" : `  and ${count} times more`;
  return plain(`${new Date(at).toISOString()}  ${outcome.padEnd(13)} ${who}  ${operation}  ${resource}  ${why}${times}`);
}

function verifyCommand(host: CommandHost): Command {
  return new Command("verify")
    .description(
      "Check every entry and every signed checkpoint; the exit code is 1 when something was changed, and the first bad row is named",
    )
    .option("--root-key <key>", "The root public key, which is all that is needed (default: as for members)")
    .option("--checkpoints <file>", "Copies of checkpoints to compare with (default: those in your settings folder)", each)
    .action(async ({ rootKey, checkpoints }: { rootKey?: string; checkpoints?: string[] }) => {
      await withTrust(host, { rootKey }, async ({ store, trust, places }) => {
        const copies = checkpoints
          ? (await Promise.all(checkpoints.map(readText))).flatMap(copiesIn)
          : (await Promise.all(places.copies(trust.rootKey).map(copiesOf))).flat();
        const { ok, rows, chains, checkpoints: signed, uncovered, firstBad } = await verify(store, trust, copies);
        const counted = `${rows} entries in ${chains} chains, ${signed} signed checkpoints, ${copies.length} copies of them`;
        if (ok) {
          answer(`sound: ${counted}.`);
          if (uncovered > 0) note(`${uncovered} of the newest entries are not covered by a checkpoint yet.`);
          return;
        }
        answer(`changed: ${firstBad?.what ?? "unknown"}: ${plain(firstBad?.details ?? "")}`);
        if (firstBad?.key !== undefined) answer(`first bad row: ${plain(firstBad.key)}`);
        note(`Looked at ${counted}. Keep a copy of the store, and find out who can write to it.`);
        process.exitCode = 1;
      });
    });
}
