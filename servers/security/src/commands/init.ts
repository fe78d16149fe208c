import { existsSync } from "node:fs";
import { SwarmError } from "@mcp-swarm/core";
import { defaultPolicies } from "@mcp-swarm/identity/policy";
import { BUNDLE_KEY, generateKeyPair, type KeyPair, readRootKeyFile, writeRootKeyFile } from "@mcp-swarm/identity/trust";
import { where } from "@mcp-swarm/store/commands";
import { Command } from "commander";
import { type CommandHost, type Places, rootKeyElsewhere, withRoot, withStore } from "./swarm.ts";
import { answer, askHidden, note } from "./terminal.ts";

export function initCommand(host: CommandHost): Command {
  return new Command("init")
    .description("Secure this swarm: makes its root key, and the first signed bundle with the roles admin, worker and observer")
    .option("--passphrase", "Keep the root key under a passphrase, which is asked for")
    .action(async ({ passphrase }: { passphrase?: boolean }) => {
      const isNew = where(host.config().storeUrl).exists === false;
      const root = await withStore(
        host,
        async (store, places) => {
          if (await store.get(BUNDLE_KEY)) throw securedAlready(places);
          return await makeRoot(places, passphrase ?? false);
        },
        { made: true },
      );
      await withRoot(
        host,
        async (keeper) => {
          await keeper.root.init(defaultPolicies());
          await keeper.write({ operation: "policy:write", resource: "policy/*", details: "init" });
          const { location, rootKeyFile } = keeper.places;
          answer(`This swarm is secured: ${location}\n`);
          answer(`root key file    ${rootKeyFile}`);
          answer(`root public key  ${root.publicKey}`);
        },
        { made: true, root },
      );
      note("\nKeep the root key file, and a copy in a safe place: whoever has it decides who is a member and what is permitted.");
      if (isNew) note("No server has used this store yet: it was made now. Those that are to use it print it with --where.");
      note("Servers need the key of an agent from now on; those that run without one refuse their calls within 6 s and give");
      note("back what their agents hold. Next, for each agent on this machine:");
      note("  mcp-swarm-security enroll <agent> --here");
    });
}

/** The root key's file may be there from an init that was interrupted, or of a store that was lost: then it goes on with that. */
async function makeRoot({ rootKeyFile }: Places, sealed: boolean): Promise<KeyPair> {
  try {
    return await readRootKeyFile(rootKeyFile, () => askHidden("Passphrase of the root key that is there already: "));
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "not_found") throw error;
  }
  const root = generateKeyPair("Ed25519");
  await writeRootKeyFile(rootKeyFile, root, sealed ? await newPassphrase() : undefined);
  return root;
}

async function newPassphrase(): Promise<string> {
  const passphrase = await askHidden("New passphrase for the root key (12 characters or more): ");
  if (process.stdin.isTTY && (await askHidden("The same again: ")) !== passphrase) {
    throw new SwarmError("invalid_argument", "The two passphrases are not the same.", { hint: "Nothing was made. Try again." });
  }
  return passphrase;
}

function securedAlready({ location, rootKeyFile }: Places): SwarmError {
  return new SwarmError("already_exists", `This swarm is secured already: ${location}.`, {
    hint: existsSync(rootKeyFile)
      ? "Make agents members with `mcp-swarm-security enroll <agent>`; `mcp-swarm-security members` shows those there are."
      : rootKeyElsewhere(rootKeyFile),
  });
}
