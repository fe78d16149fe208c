import { dirname, resolve } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { type AgentKeys, type MemberTerms, redeem } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import { Command } from "commander";
import { type CommandHost, checkpointCopies, type Places, withAudit, withRoot, withStore } from "./swarm.ts";
import { answer, askHidden, each, note, pairs } from "./terminal.ts";

const ROLE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ROLE_DEFAULT = "worker";

interface TermOptions {
  role?: string[];
  attribute?: string[];
  issuer?: boolean;
}

/** @throws SwarmError invalid_argument */
export function termsOf({ role, attribute, issuer }: TermOptions): MemberTerms {
  if (role?.some((name) => !ROLE.test(name))) {
    throw new SwarmError("invalid_argument", "Not a role: no policy could name it.", {
      hint: "Use up to 64 letters, digits and . _ -, for example --role worker.",
    });
  }
  return {
    ...(role === undefined ? {} : { roles: role }),
    ...(attribute === undefined ? {} : { attributes: pairs(attribute, "--attribute") }),
    ...(issuer === undefined ? {} : { issuer }),
  };
}

export function enrollCommand(host: CommandHost): Command {
  return new Command("enroll")
    .description("Make an agent a member: prints a one-time token of ten minutes, or with --here makes its key file at once")
    .argument("<agent>", "The agent's name")
    .option("--role <role>", `What policies go by; may be given several times (default: ${ROLE_DEFAULT})`, each)
    .option("--attribute <name=value>", "What policies may ask for; may be given several times", each)
    .option("--issuer", "It may make tokens and API keys for others: a server that agents reach over HTTP")
    .option("--replace", "It is a member already: its keys end, and it gets new ones")
    .option("--here", "Redeem on this machine at once; no token is printed")
    .option("--key-file <path>", "The same, with the key file at this path")
    .action(async (agentId: string, options: TermOptions & { replace?: boolean; here?: boolean; keyFile?: string }) => {
      const { replace, here, keyFile, ...given } = options;
      const terms = termsOf(given);
      await withRoot(host, async ({ store, places, root, audited }) => {
        const resource = `member/${agentId}`;
        const { token } = replace
          ? await root.replaceKeys(agentId, audited({ operation: "key:rotate", resource, details: "enroll --replace" }))
          : await root.enroll(
              agentId,
              { roles: [ROLE_DEFAULT], ...terms },
              audited({ operation: "member:write", resource, details: "enroll" }),
            );
        if (replace && Object.keys(terms).length > 0) {
          await root.setTerms(agentId, terms, audited({ operation: "member:write", resource, details: "roles" }));
        }
        if (here || keyFile !== undefined) return await redeemHere({ store, places, token, keyFile });
        answer(token);
        note(`\nThis token makes whoever redeems it ${agentId}: hand it over so that nobody else reads it, a model neither.`);
        note("It is good once and for ten minutes. On the machine of the agent, with SWARM_STORE as its servers have it:");
        note("  mcp-swarm-security redeem");
      });
    });
}

export function redeemCommand(host: CommandHost): Command {
  return new Command("redeem")
    .description("Redeem a one-time token: makes the agent's keys in a file that only you can read")
    .argument("[token]", "What enroll printed; without it, it is asked for, or read from stdin, where nobody else sees it")
    .option("--key-file <path>", "Where the key file is to be (default: in your settings folder)")
    .action(async (given: string | undefined, { keyFile }: { keyFile?: string }) => {
      const token = given ?? (await askHidden("One-time token: "));
      await withStore(host, (store, places) => redeemHere({ store, places, token, keyFile }));
    });
}

interface Redeeming {
  readonly store: Store;
  readonly places: Places;
  readonly token: string;
  readonly keyFile: string | undefined;
}

async function redeemHere({ store, places, token, keyFile }: Redeeming): Promise<void> {
  const pathOf = (agentId: string) => (keyFile === undefined ? places.agentKeyFile(agentId) : resolve(keyFile));
  const keys = await redeem({ store, token, keyFile: pathOf });
  const path = pathOf(keys.agentId);
  await writtenDown(store, keys, dirname(path));
  answer(`SWARM_KEY_FILE=${path}`);
  note(
    `\n${keys.agentId} is a member. Set this variable for its servers, in its host's configuration and nowhere else, for example`,
  );
  note(`  claude mcp add task-coordination --env SWARM_KEY_FILE=${path} -- node <clone>/servers/task-coordination/dist/main.js`);
}

async function writtenDown(store: Store, { agentId, sign, rootKey }: AgentKeys, folder: string): Promise<void> {
  const copyTo = checkpointCopies(folder, rootKey);
  await withAudit(store, { name: agentId, key: sign }, copyTo, rootKey, (audit) =>
    audit.write({
      agentId,
      verified: true,
      operation: "key:redeem",
      resource: `member/${agentId}`,
      outcome: "authenticated",
      reason: "one_time_token",
    }),
  );
}
