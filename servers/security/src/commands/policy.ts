import { type JsonObject, SwarmError, systemClock } from "@mcp-swarm/core";
import {
  type Explanation,
  type Policy,
  type PolicyRequest,
  PolicySet,
  parsePolicies,
  unknownOperations,
} from "@mcp-swarm/identity/policy";
import type { Principal } from "@mcp-swarm/identity/trust";
import { Command } from "commander";
import { type CommandHost, withRoot, withTrust } from "./swarm.ts";
import { answer, each, note, pairs, plain, readJson, table } from "./terminal.ts";

/** Operations that no tool has, named after one command. */
const UNKNOWN_SHOWN_MAX = 10;

export function policyCommand(host: CommandHost): Command {
  return new Command("policy")
    .description("What is permitted: list, set, delete, check")
    .addCommand(listCommand(host))
    .addCommand(setCommand(host))
    .addCommand(deleteCommand(host))
    .addCommand(checkCommand(host));
}

function listCommand(host: CommandHost): Command {
  return new Command("list")
    .description("Print the policies in force as JSON, which policy set takes back")
    .option("--root-key <key>", "The root public key (default: as for members)")
    .action(async ({ rootKey }: { rootKey?: string }) => {
      await withTrust(host, { rootKey }, async ({ trust }) => answer(JSON.stringify(trust.bundle.policies, undefined, 2)));
    });
}

function setCommand(host: CommandHost): Command {
  return new Command("set")
    .description("Add the policies of a file, or replace those with their ids: all or none")
    .argument("<file>", "JSON: one policy, or a list")
    .action(async (file: string) => {
      const policies = await readPolicies(file);
      await withRoot(host, async ({ root, audited }) => {
        const resource = policies.length === 1 ? `policy/${policies[0]?.id}` : "policy/*";
        const details = policies.map(({ id }) => id).join(" ");
        const version = await root.setPolicies(policies, audited({ operation: "policy:write", resource, details }));
        answer(`Set ${policies.map(({ id }) => id).join(", ")}, in force everywhere within 6 s (bundle ${version}).`);
        warnOfUnknown(policies);
        note("See what it does to a call: mcp-swarm-security policy check --agent <agent> --operation <operation>");
      });
    });
}

function deleteCommand(host: CommandHost): Command {
  return new Command("delete")
    .description("Take a policy away")
    .argument("<id>")
    .action(async (id: string) => {
      await withRoot(host, async ({ root, audited }) => {
        const version = await root.deletePolicy(
          id,
          audited({ operation: "policy:write", resource: `policy/${id}`, details: "delete" }),
        );
        answer(`Deleted ${id}, in force everywhere within 6 s (bundle ${version}).`);
      });
    });
}

interface CheckOptions {
  agent?: string;
  operation?: string;
  resource?: string;
  role?: string[];
  attribute?: string[];
  argument?: string[];
  context?: string[];
  rootKey?: string;
}

function checkCommand(host: CommandHost): Command {
  return new Command("check")
    .description(
      "Say whether a file holds policies, or with --operation how they decide a call and why, rule by rule; without a file, those in force. The exit code is 1 when the call is denied",
    )
    .argument("[file]", "JSON: one policy, or a list")
    .option("--agent <agent>", "Who calls; its roles are those of the member when there is no file")
    .option("--operation <operation>", "For example task:cancel")
    .option("--resource <resource>", "For example task/build (default: *)")
    .option("--role <role>", "Its roles; may be given several times", each)
    .option("--attribute <name=value>", "Its attributes; may be given several times", each)
    .option("--argument <name=value>", "Arguments of the call, as JSON or text; may be given several times", each)
    .option("--context <name=value>", "What else is known, as JSON or text; may be given several times", each)
    .option("--root-key <key>", "The root public key, without a file (default: as for members)")
    .action(async (file: string | undefined, options: CheckOptions) => {
      if (file !== undefined) return judge(await readPolicies(file), undefined, options);
      await withTrust(host, { rootKey: options.rootKey }, async ({ trust }) => {
        const { agent } = options;
        const member = agent === undefined ? undefined : trust.principal(agent);
        if (agent !== undefined && !options.role && !member) {
          throw new SwarmError("not_found", `${agent} is no member of this swarm.`, {
            hint: "Give roles with --role to ask about an agent that is not enrolled yet.",
          });
        }
        if (member?.revoked) note(`${member.agentId} was revoked: all its calls are refused, whatever the policies say.`);
        else if (member?.quarantined) note(`${member.agentId} is in quarantine: all its calls are refused until that ends.`);
        judge(trust.bundle.policies, member, options);
        if (member?.revoked || member?.quarantined) process.exitCode = 1;
      });
    });
}

/** @throws SwarmError invalid_argument, not_found */
async function readPolicies(file: string): Promise<Policy[]> {
  const json = await readJson(file);
  const policies = parsePolicies(Array.isArray(json) ? json : [json]);
  if (policies.length > 0) return policies;
  throw new SwarmError("invalid_argument", `${file} holds no policy.`, { hint: "Write one, or a list of them." });
}

/** A typing error in an operation makes a policy that says nothing. */
function warnOfUnknown(policies: readonly Policy[]): void {
  const unknown = policies.flatMap((policy) => unknownOperations(policy).map((operation) => ({ id: policy.id, operation })));
  for (const { id, operation } of unknown.slice(0, UNKNOWN_SHOWN_MAX)) {
    note(`Policy ${id}: no tool has the operation ${operation}. Is it written as you meant?`);
  }
  if (unknown.length > UNKNOWN_SHOWN_MAX) note(`And ${unknown.length - UNKNOWN_SHOWN_MAX} more operations that no tool has.`);
}

function judge(policies: readonly Policy[], member: Principal | undefined, options: CheckOptions): void {
  const { operation, agent } = options;
  if (operation === undefined) {
    answer(`${policies.length} ${policies.length === 1 ? "policy" : "policies"}, all sound.`);
    warnOfUnknown(policies);
    note("Add --agent, --operation and --resource to see how they decide a call.");
    return;
  }
  if (agent === undefined) {
    throw new SwarmError("invalid_argument", "Say who calls.", { hint: "Add --agent <agent>, and --role with a file." });
  }
  const request: PolicyRequest = {
    agentId: agent,
    roles: options.role ?? member?.roles ?? [],
    attributes: options.attribute ? pairs(options.attribute, "--attribute") : (member?.attributes ?? {}),
    operation,
    resource: options.resource ?? "*",
    arguments: values(options.argument ?? [], "--argument"),
    ...(options.context ? { context: values(options.context, "--context") } : {}),
    now: systemClock.now(),
  };
  const set = new PolicySet(policies);
  const { authorized, reason, details, rates } = set.decide(request);
  answer(`${authorized ? "permitted" : "denied"} (${reason}): ${plain(details)}`);
  for (const { policyId, max, perMs } of rates) answer(`  at most ${max} in ${perMs} ms, by ${policyId}`);
  answer(`\n${table(set.explain(request).map(explained))}`);
  if (!authorized) process.exitCode = 1;
}

function explained({ policyId, effect, outcome, why }: Explanation): string[] {
  return [`  ${outcome === "holds" || outcome === "error" ? "→" : " "}`, effect, plain(policyId), plain(why)];
}

/** Each value is read as JSON when it is some, else as text. */
function values(texts: readonly string[], option: string): JsonObject {
  return Object.fromEntries(
    Object.entries(pairs(texts, option)).map(([name, text]) => {
      try {
        return [name, JSON.parse(text)];
      } catch {
        return [name, text]; // what is no JSON is meant as it stands
      }
    }),
  ) as JsonObject;
}
