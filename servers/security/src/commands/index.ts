/** The commands by which a person secures a swarm and looks after it. */
import type { Command } from "commander";
import { apiKeyCommand } from "./api-key.ts";
import { auditCommand } from "./audit.ts";
import { enrollCommand, redeemCommand } from "./enrol.ts";
import { initCommand } from "./init.ts";
import { membersCommand, quarantineCommand, renewCommand, revokeCommand, rolesCommand } from "./members.ts";
import { policyCommand } from "./policy.ts";
import type { CommandHost } from "./swarm.ts";

export function commands(host: CommandHost): Command[] {
  const made = [
    initCommand,
    enrollCommand,
    redeemCommand,
    membersCommand,
    rolesCommand,
    revokeCommand,
    quarantineCommand,
    renewCommand,
    apiKeyCommand,
    policyCommand,
    auditCommand,
  ];
  return made.map((make) => make(host));
}
