import { dirname } from "node:path";
import { type Random, SwarmError } from "@mcp-swarm/core";
import { Administrator, fileVersionMemory, readRootKeyFile } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import type { Security } from "./secured.ts";

/** The root private key, when this process was given it. Read anew for each change, so that taking the file away ends it. */
export class RootKey {
  readonly #options: { readonly store: Store; readonly random: Random; readonly security: Security };

  constructor(options: { readonly store: Store; readonly random: Random; readonly security: Security }) {
    this.#options = options;
  }

  /** Where what concerns the root key's keeper is put. @throws SwarmError failed_precondition without a root key */
  get folder(): string {
    return dirname(this.#path());
  }

  /** @throws SwarmError failed_precondition when this process has no root key that it can read, or another swarm's; not_found */
  async administrator(): Promise<Administrator> {
    const { store, random, security } = this.#options;
    const path = this.#path();
    const root = await readRootKeyFile(path);
    if (root.publicKey !== security.trust.rootKey) {
      throw new SwarmError("failed_precondition", "SWARM_ROOT_KEY_FILE holds the root key of another swarm.", {
        hint: "Set it to the file that `mcp-swarm-security init` made for this one.",
      });
    }
    return new Administrator({ store, root, random, remember: fileVersionMemory(dirname(path), root.publicKey) });
  }

  #path(): string {
    const { rootKeyFile } = this.#options.security;
    if (rootKeyFile !== undefined) return rootKeyFile;
    throw new SwarmError("failed_precondition", "This server was not given the root key, which signs every such change.", {
      hint: "A person makes the change with the command line of mcp-swarm-security, or starts this server with SWARM_ROOT_KEY_FILE.",
    });
  }
}
