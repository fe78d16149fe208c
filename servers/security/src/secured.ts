/** What this server does in a secured swarm. Loaded in no other. */
import type { Clock, Random } from "@mcp-swarm/core";
import type { Guard } from "@mcp-swarm/identity";
import { type Policy, PolicySet } from "@mcp-swarm/identity/policy";
import type { Trust } from "@mcp-swarm/identity/trust";
import type { Store } from "@mcp-swarm/store";
import { AuditTrail } from "./audit-trail.ts";
import { Envelopes } from "./envelopes.ts";
import { type Identity, SecuredIdentity } from "./identity.ts";
import { Members } from "./members.ts";
import { Policies } from "./policies.ts";
import { RootKey } from "./root-key.ts";
import { Secrets } from "./secrets.ts";
import { Sessions } from "./sessions.ts";

/** What a process of a secured swarm goes by. */
export interface Security {
  readonly trust: Trust;
  readonly guard: Guard;
  /** The file outside the store that gets a copy of each checkpoint of the audit log. */
  readonly checkpointCopies: string;
  /** Where the root private key is, when this process was given it. */
  readonly rootKeyFile?: string;
}

export interface Surroundings {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly config: {
    /** Of the process's agent. */
    readonly keyFile: string | undefined;
    readonly publicUrl: string | undefined;
  };
}

export interface Secured {
  readonly identity: Identity;
  readonly sessions: Sessions;
  readonly policies: Policies;
  readonly members: Members;
  readonly auditTrail: AuditTrail;
  readonly envelopes: Envelopes;
  readonly secrets: Secrets;
}

export function openSecured({ store, config, clock, random }: Surroundings, security: Security): Secured {
  const { trust } = security;
  const root = new RootKey({ store, random, security });
  const sessions = new Sessions({ store, random, clock, security, publicUrl: config.publicUrl });
  let compiled: { readonly of: readonly Policy[]; readonly set: PolicySet } | undefined;
  const policies = (): PolicySet => {
    const of = trust.bundle.policies;
    if (compiled?.of !== of) compiled = { of, set: new PolicySet(of) };
    return compiled.set;
  };
  return {
    identity: new SecuredIdentity({ security, clock, sessions, policies }),
    sessions,
    policies: new Policies({ trust, root }),
    members: new Members({ store, trust, root, keyFile: config.keyFile }),
    auditTrail: new AuditTrail({ security }),
    envelopes: new Envelopes({ trust, clock, random }),
    secrets: new Secrets({ security, clock }),
  };
}
