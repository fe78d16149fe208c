/** The domain of this server at work in one process: what its tools are given. */
import { LeaseKeeper, Maintenance } from "@mcp-swarm/coordination";
import { type Caller, deriveAgentId } from "@mcp-swarm/identity";
import { commonGitDirectory, type Domain, type Host } from "@mcp-swarm/server";
import { ChangeLog } from "./changes.ts";
import { type Asked, Contexts } from "./context.ts";
import { valueSources } from "./context-values.ts";
import { Leaders } from "./leaders.ts";
import { Locks } from "./locks.ts";
import { Reservations } from "./reservations.ts";
import { keepDeletedMs, stateJobs } from "./state-retention.ts";
import { Scopes } from "./state-scope.ts";
import { resourceOf } from "./tools/state-schemas.ts";
import { Values } from "./values.ts";
import { Worktrees } from "./worktrees.ts";

export interface StateServer extends Domain {
  readonly values: Values;
  readonly changes: ChangeLog;
  readonly locks: Locks;
  readonly leaders: Leaders;
  readonly reservations: Reservations;
  readonly contexts: Contexts;
}

export async function openStateServer({ store, config, clock, random, log, security }: Host): Promise<StateServer> {
  const keeper = new LeaseKeeper({
    store,
    clock,
    leaseMs: config.leaseMs,
    onError: (error, kind) => log.warn({ err: error, kind }, "Leases were not renewed"),
  });
  const maintenance = new Maintenance({
    clock,
    random,
    onError: (error, job) => log.warn({ err: error, job }, "A background job failed; it is tried again"),
  });
  const locks = new Locks({ clock, keeper, leaseMs: config.leaseMs });
  const leaders = new Leaders({ clock, keeper, leaseMs: config.leaseMs });
  const { projectFolder, leaseMs } = config;
  const worktrees = new Worktrees({ projectFolder, commonDirectory: () => commonGitDirectory(projectFolder) });
  const pathOptions = () => worktrees.pathOptions();
  const reservations = new Reservations({ clock, random, keeper, leaseMs, pathOptions });
  maintenance.add(locks.tidyJob(store));
  maintenance.add(leaders.job(store));
  // whoever shares a session shares its values; its id is the key to the session, so it is kept as a hash
  const session = config.hostSessionId && deriveAgentId({ env: { CLAUDE_CODE_SESSION_ID: config.hostSessionId }, random });
  const scopes = new Scopes(session);
  const values = new Values({ scopes, keepDeletedMs: keepDeletedMs(config.retentionDays) });
  const changes = new ChangeLog({
    scopes,
    clock,
    random,
    mayRead:
      security &&
      ((caller, watched) => {
        const resource = resourceOf(watched, caller);
        return security.guard.stillAdmits(caller, { operation: "state:read", resource, arguments: { ...watched } });
      }),
  });
  for (const job of stateJobs(store, values)) maintenance.add(job);
  const trust = security?.trust;
  const contexts = new Contexts({
    values: (call, places) => valueSources(values, call, places),
    admits: security && ((caller, asked) => security.guard.stillAdmits(caller, readingOf(asked, caller))),
    held: trust && ((from) => trust.quarantined(from)),
  });
  maintenance.start();
  return {
    values,
    changes,
    locks,
    leaders,
    reservations,
    contexts,
    async close() {
      await maintenance.stop();
      await keeper.releaseAll();
    },
  };
}

/** The reading of one thing as policies name it: a context gives nobody what its own tool would refuse. */
function readingOf(asked: Asked, caller: Caller) {
  if ("taskId" in asked) return { operation: "task:read", resource: `task/${asked.taskId}`, arguments: { ...asked } };
  if ("workflowId" in asked)
    return { operation: "workflow:read", resource: `workflow/${asked.workflowId}`, arguments: { ...asked } };
  if ("correlationId" in asked)
    return { operation: "message:read", resource: `thread/${asked.correlationId}`, arguments: { ...asked } };
  if ("topic" in asked) return { operation: "topic:read", resource: `topic/${asked.topic}`, arguments: {} };
  const { key, scope, scopeId } = asked.place;
  const place = { key, ...(scope === undefined ? {} : { scope }), ...(scopeId === undefined ? {} : { scopeId }) };
  return { operation: "state:read", resource: resourceOf(place, caller), arguments: place };
}
