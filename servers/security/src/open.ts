/** The domain of this server at work in one process: what its tools are given. */
import { expiredRowsJob, Maintenance } from "@mcp-swarm/coordination";
import { SwarmError } from "@mcp-swarm/core";
import type { Domain, Host } from "@mcp-swarm/server";
import { type Identity, OpenIdentity } from "./identity.ts";
import type { Secured } from "./secured.ts";

export interface SecurityServer extends Domain {
  /** Who calls and what they may, in an open swarm too. */
  readonly identity: Identity;
  /** What there is in a secured swarm alone. @throws SwarmError failed_precondition in an open one */
  readonly secured: Secured;
}

export async function openSecurityServer(host: Host): Promise<SecurityServer> {
  const { store, clock, random, log, security } = host;
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  maintenance.add(expiredRowsJob(store));
  const secured = security && (await import("./secured.ts")).openSecured(host, security);
  maintenance.start();
  return {
    identity: secured?.identity ?? new OpenIdentity(),
    get secured() {
      if (secured) return secured;
      throw new SwarmError("failed_precondition", "This swarm is open: names are taken on trust, and nothing is enforced.", {
        hint: "A person secures it with `mcp-swarm-security init`; the guide docs/guides/secure-your-swarm.md takes five minutes.",
      });
    },
    async close() {
      await maintenance.stop();
    },
  };
}
