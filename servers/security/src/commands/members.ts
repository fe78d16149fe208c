import { SwarmError } from "@mcp-swarm/core";
import { Command } from "commander";
import { type ListedMember, listed } from "../members.ts";
import { termsOf } from "./enrol.ts";
import { type CommandHost, withRoot, withTrust } from "./swarm.ts";
import { answer, each, note, plain, table } from "./terminal.ts";

export function membersCommand(host: CommandHost): Command {
  return new Command("members")
    .description("Show the members of this swarm, with their roles and whether they are active")
    .option("--root-key <key>", "The root public key (default: SWARM_ROOT_KEY, the key file's, or that of the root key file)")
    .option("--json", "Answer in JSON")
    .action(async ({ rootKey, json }: { rootKey?: string; json?: boolean }) => {
      await withTrust(host, { rootKey }, async ({ store, trust }) => {
        const now = await store.now();
        const agents = Object.keys(trust.bundle.members).sort();
        const members = await Promise.all(agents.map((agentId) => listed(agentId, trust.bundle, trust, now)));
        if (json) return answer(JSON.stringify(members));
        if (members.length > 0) answer(table([["AGENT", "STANDING", "ROLES", "ATTRIBUTES"], ...members.map(shown)]));
        else note("No agent is a member yet. Make one: mcp-swarm-security enroll <agent> --here");
      });
    });
}

function shown({ agentId, standing, roles, attributes = {}, issuer }: ListedMember): string[] {
  const more = Object.entries(attributes).map(([name, value]) => plain(`${name}=${value}`));
  return [agentId, standing, plain(roles.join(",")), [...(issuer ? ["issuer"] : []), ...more].join(" ")];
}

export function rolesCommand(host: CommandHost): Command {
  return new Command("roles")
    .description("Set the roles of a member, its attributes, or whether it is an issuer; what is not given stays")
    .argument("<agent>")
    .option("--role <role>", "Its roles from now on; may be given several times", each)
    .option("--attribute <name=value>", "Its attributes from now on; may be given several times", each)
    .option("--issuer", "It may make tokens and API keys for others")
    .option("--no-issuer", "It may not")
    .action(async (agentId: string, options: { role?: string[]; attribute?: string[]; issuer?: boolean }) => {
      const terms = termsOf(options);
      if (Object.keys(terms).length === 0) {
        throw new SwarmError("invalid_argument", `Say what ${agentId} is to have.`, {
          hint: "Give --role, --attribute, --issuer or --no-issuer; mcp-swarm-security members shows what it has.",
        });
      }
      await withRoot(host, async ({ root, audited }) => {
        const event = { operation: "member:write", resource: `member/${agentId}`, details: "roles" };
        const version = await root.setTerms(agentId, terms, audited(event));
        answer(`${agentId} is changed, in force everywhere within 6 s (bundle ${version}).`);
      });
    });
}

export function revokeCommand(host: CommandHost): Command {
  return new Command("revoke")
    .description("End an agent's part in the swarm: every server refuses it within 6 s, and what it holds is free")
    .argument("<agent>")
    .action(async (agentId: string) => {
      await withRoot(host, async ({ root, audited }) => {
        const event = { operation: "member:write", resource: `member/${agentId}`, details: "revoke" };
        const version = await root.revoke(agentId, audited(event));
        answer(`${agentId} is revoked, in force everywhere within 6 s (bundle ${version}).`);
        note(`Secrets that it could read are known to it: put new ones. To let it back: mcp-swarm-security enroll ${agentId}`);
      });
    });
}

export function quarantineCommand(host: CommandHost): Command {
  return new Command("quarantine")
    .description("Refuse an agent's calls and hold back what it sent, until --end")
    .argument("<agent>")
    .option("--end", "End the quarantine")
    .action(async (agentId: string, { end = false }: { end?: boolean }) => {
      await withRoot(host, async ({ root, audited }) => {
        const details = end ? "quarantine --end" : "quarantine";
        const event = { operation: "member:write", resource: `member/${agentId}`, details };
        const version = await root.quarantine(agentId, !end, audited(event));
        answer(`${agentId} is ${end ? "out of" : "in"} quarantine, in force everywhere within 6 s (bundle ${version}).`);
        if (!end) note(`What it did: mcp-swarm-security audit list --agent ${agentId}`);
      });
    });
}

export function renewCommand(host: CommandHost): Command {
  return new Command("renew")
    .description("Sign the bundle anew, which takes in the keys that agents have redeemed or replaced")
    .option("--end-tokens", "End every session token that was made so far")
    .option(
      "--after-restore",
      "Also when the store was restored from a backup; what was revoked since then must be revoked again",
    )
    .action(async ({ endTokens, afterRestore = false }: { endTokens?: boolean; afterRestore?: boolean }) => {
      await withRoot(host, async ({ root, audited }) => {
        const details = ["renew", ...(afterRestore ? ["--after-restore"] : []), ...(endTokens ? ["--end-tokens"] : [])].join(" ");
        const transact = audited({ operation: "member:write", resource: "member/*", details });
        let version = await root.renew({ afterRestore, transact });
        if (endTokens) version = await root.bumpEpoch(transact);
        answer(`The bundle is signed anew (bundle ${version}).`);
        if (endTokens) note("Every session token has ended, within 6 s everywhere. Agents get new ones by themselves.");
        if (afterRestore) note("Revoke again whom you revoked after the backup was made: mcp-swarm-security members shows all.");
      });
    });
}
