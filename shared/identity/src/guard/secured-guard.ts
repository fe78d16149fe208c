/**
 * The guard of a secured swarm. A call is let in when its caller is proven and a member in good standing, and a policy of the signed
 * bundle permits what it is about; all of that is judged in this process's memory. Its deciding transaction judges again, and
 * carries the entry of the audit log; what no transaction has carried is noted by itself before the answer leaves.
 *
 * | key | value | why |
 * |---|---|---|
 * | `rate/<agent>/<policy>` | {left, at} (expires) | what is left of a rate that a policy grants; one for all processes of an agent |
 */
import { type Clock, type Json, SwarmError } from "@mcp-swarm/core";
import { type Store, segment, type Transaction, type TransactOptions } from "@mcp-swarm/store";
import type { AuditEvent } from "../audit/entry.ts";
import { type Call, noticeWrites } from "../call.ts";
import { type Caller, rootAgent } from "../caller.ts";
import { onceCall } from "../idempotency.ts";
import type { Decision, Policy, RateLimit } from "../policy/policy.ts";
import { PolicySet } from "../policy/policy-set.ts";
import { type Bucket, OwnRates, takeRate } from "../rate.ts";
import { LOOK_AGE_MS_MAX, type Principal, type SelfStatus, type Trust } from "../trust/trust.ts";
import type { Admission, Guard, Operation } from "./guard.ts";

/** What the guard goes by: what this process believes of its swarm. */
export type GuardTrust = Pick<
  Trust,
  "check" | "bundle" | "principal" | "self" | "selfStatus" | "onChange" | "refresh" | "lookedAt"
>;

/** What the guard writes down in. */
export interface GuardAudit {
  /** Runs a plan in a transaction that `transact` makes; what it appends is committed with what else it writes. */
  transact<T>(
    transact: (plan: (tx: Transaction) => T) => Promise<T>,
    plan: (tx: Transaction, append: (event: AuditEvent) => void) => T,
  ): Promise<T>;
  /** Written when it is the first of its kind within a while, else counted. */
  note(event: AuditEvent): Promise<void>;
}

export interface SecuredGuardOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly trust: GuardTrust;
  readonly audit: GuardAudit;
  /** Calls a minute that one agent, its subagents included, may make of this process. */
  readonly callRate: number;
}

/** How often a transaction that became too late for its decision is tried again. */
const LATE_TRIES_MAX = 3;
/** Agents whose rate of calls a process remembers; one forgotten begins anew. */
const CALLERS_MAX = 10_000;
const MINUTE_MS = 60_000;
/** Whom the audit log names for a caller that proved nothing: a name that was not proven is nobody's. */
const NOBODY = "nobody";
/** What a rate of calls is about in the audit log: not each call of a flood, but the flood. */
const EVERYTHING = { operation: "*", resource: "*" };

/** For how long a decision stands while nothing that it rests on has changed; policies may go by the time of day. */
const DECISION_MS_MAX = 1_000;

/** A call that was let in and has not ended. */
interface InFlight {
  readonly caller: Caller;
  readonly operation: Operation;
  /** Made when somebody first wants to know of the call's end. */
  ending: AbortController | undefined;
  /** What ended it. */
  denial: unknown;
  /** When it was judged last, and after how many changes. */
  judged: { readonly at: number; readonly changes: number };
}

export class SecuredGuard implements Guard {
  readonly secured = true;
  readonly #options: SecuredGuardOptions;
  readonly #listeners = new Set<() => void>();
  readonly #inFlight = new Set<InFlight>();
  /** Of each agent. */
  readonly #calls: OwnRates;
  readonly #watch: Disposable;
  /** How often what decisions rest on has changed. */
  #changes = 0;
  #policies: { readonly of: readonly Policy[]; readonly set: PolicySet } | undefined;

  constructor(options: SecuredGuardOptions) {
    this.#options = options;
    this.#calls = new OwnRates({ max: options.callRate, perMs: MINUTE_MS }, CALLERS_MAX);
    this.#watch = options.trust.onChange(() => this.#changed());
  }

  checkProcess(): void {
    const { trust } = this.#options;
    trust.check();
    if (!trust.self) return; // a process that only serves others: each of them proves itself
    const denied = DENIED_STANDINGS[trust.selfStatus()];
    if (denied) throw denied(trust.self.agentId);
  }

  onChange(told: () => void): Disposable {
    this.#listeners.add(told);
    return { [Symbol.dispose]: () => void this.#listeners.delete(told) };
  }

  async admit(...[caller, operation, once]: Parameters<Guard["admit"]>): Promise<Admission> {
    const { store, audit } = this.#options;
    const { decision, inFlight } = await this.#orWrittenDown(caller, operation, async () => {
      this.#countCall(caller);
      await this.#lookAgain();
      let decision = this.#judge(caller, operation);
      if (decision.rates.length > 0) {
        await this.#takeRate(caller, decision.rates);
        decision = this.#judge(caller, operation); // it may have been revoked while the store was asked
      }
      // in the same turn: no change is between the decision and what it is known by
      return { decision, inFlight: this.#begun(caller, operation) };
    });
    const permit = this.#event(caller, operation, "permit", decision);
    let audited = false;
    const decided = <T extends Json>(plan: (tx: Transaction) => T, options?: TransactOptions) =>
      audit.transact<{ outcome: T; wrote: boolean } | undefined>(
        (whole) => store.transact(whole, options),
        (tx, append) => {
          if (this.#lookedTooLongAgo()) return undefined;
          this.#judgeAgain(inFlight);
          const seen = noticeWrites(tx);
          const outcome = plan(seen.tx);
          if (seen.wrote()) append(permit);
          return { outcome, wrote: seen.wrote() };
        },
      );
    const transact: Call["transact"] = async <T extends Json>(plan: (tx: Transaction) => T, options?: TransactOptions) => {
      for (let tries = 0; tries < LATE_TRIES_MAX; tries++) {
        await this.#lookAgain();
        const done = await decided(plan, options);
        if (!done) continue;
        audited ||= done.wrote;
        return done.outcome;
      }
      throw new SwarmError("unavailable", "This process is too slow to know whether what it does is still permitted.", {
        hint: "Try again; if it happens often, the machine is overloaded.",
      });
    };
    return {
      call: onceCall({ store, caller, transact }, once),
      get ended() {
        return endOf(inFlight);
      },
      settle: async (failure) => {
        this.#inFlight.delete(inFlight);
        if (audited) {
          // what was written was let in when it was written; what was learnt since is for those who may learn it
          if (failure === undefined) await this.#orWrittenDown(caller, operation, () => this.#judgeSince(inFlight));
          return;
        }
        if (failure === undefined) {
          await this.#orWrittenDown(caller, operation, async () => {
            await this.#lookAgain();
            this.#judgeAgain(inFlight);
          });
          await audit.note(permit);
        } else if (failure instanceof Denial) {
          await audit.note(this.#event(caller, operation, "deny", failure));
        } else {
          // it was permitted; the reason says what became of it
          await audit.note({ ...permit, reason: outcomeOf(failure) });
        }
      },
    };
  }

  async admitList(caller: Caller, listed: Omit<Operation, "resource">): Promise<void> {
    const operation = { ...listed, resource: "*" };
    await this.#orWrittenDown(caller, operation, async () => {
      this.#countCall(caller);
      await this.#lookAgain();
      this.#principal(caller);
    });
    await this.#options.audit.note(this.#event(caller, operation, "permit", { reason: "listed" }));
  }

  stillAdmits(caller: Caller, operation: Operation): boolean {
    return this.#denial(caller, operation) === undefined;
  }

  async close(): Promise<void> {
    this.#watch[Symbol.dispose]();
  }

  #changed(): void {
    this.#changes += 1;
    for (const call of this.#inFlight) {
      call.denial ??= this.#denial(call.caller, call.operation);
      if (call.denial !== undefined) call.ending?.abort(call.denial);
    }
    for (const told of this.#listeners) told();
  }

  #lookedTooLongAgo(): boolean {
    const { clock, trust } = this.#options;
    return Math.abs(clock.now() - trust.lookedAt) > LOOK_AGE_MS_MAX;
  }

  async #lookAgain(): Promise<void> {
    if (this.#lookedTooLongAgo()) await this.#options.trust.refresh();
  }

  /** What the caller would be refused with; undefined when it is let in. */
  #denial(caller: Caller, operation: Operation): unknown {
    try {
      this.#judge(caller, operation);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** @throws Denial; SwarmError unavailable */
  #judge(caller: Caller, { operation, resource, arguments: given }: Operation, now = this.#options.clock.now()): Decision {
    const { roles, attributes } = this.#principal(caller);
    if (caller.scope?.every((pattern) => !pattern.matches(operation))) throw outOfScope();
    // a subagent's own name: what is said of its agent is said of it too, and policies may say more of it
    const request = { agentId: caller.agentId, roles, attributes, operation, resource, now };
    const decision = this.#policySet().decide(given === undefined ? request : { ...request, arguments: given });
    if (decision.authorized) return decision;
    throw new Denial("permission_denied", decision, {
      message: decision.details,
      hint: "Ask whoever keeps the root key of this swarm for a policy or a role that permits it, or leave it to an agent that may.",
    });
  }

  /** @throws Denial; SwarmError unavailable */
  #judgeAgain(call: InFlight): void {
    const at = this.#options.clock.now();
    const { judged } = call;
    this.#options.trust.check();
    if (judged.changes === this.#changes && Math.abs(at - judged.at) <= DECISION_MS_MAX) return;
    this.#judge(call.caller, call.operation, at);
    call.judged = { at, changes: this.#changes };
  }

  /** Judges a call that has written by what has changed since, when it took long; not by the time of day. @throws Denial; SwarmError unavailable */
  async #judgeSince({ caller, operation, judged }: InFlight): Promise<void> {
    const at = this.#options.clock.now();
    if (Math.abs(at - judged.at) <= DECISION_MS_MAX) return;
    await this.#lookAgain();
    if (judged.changes !== this.#changes) this.#judge(caller, operation);
  }

  #begun(caller: Caller, operation: Operation): InFlight {
    const judged = { at: this.#options.clock.now(), changes: this.#changes };
    const inFlight: InFlight = { caller, operation, judged, ending: undefined, denial: undefined };
    this.#inFlight.add(inFlight);
    return inFlight;
  }

  /** The member that the caller proved to be. @throws Denial; SwarmError unavailable */
  #principal(caller: Caller): Principal {
    const { trust } = this.#options;
    this.checkProcess();
    if (!caller.verified) throw nobody("Nobody has proven who makes this call.");
    const principal = trust.principal(caller.agentId);
    if (!principal) throw nobody("Whoever makes this call is no member of this swarm.");
    // what comes over this process's own stdin speaks by its key, and by no other
    const own = caller.processId !== undefined;
    if (own && principal.agentId !== trust.self?.agentId) throw nobody("The key of this process is another agent's.");
    if (principal.revoked) throw revoked(principal.agentId);
    if (principal.quarantined) throw quarantined(principal.agentId);
    return principal;
  }

  #policySet(): PolicySet {
    const { policies } = this.#options.trust.bundle;
    if (this.#policies?.of !== policies) this.#policies = { of: policies, set: new PolicySet(policies) };
    return this.#policies.set;
  }

  /** What `judge` answers; a denial is written down before it leaves. */
  async #orWrittenDown<T>(caller: Caller, operation: Operation, judge: () => Promise<T>): Promise<T> {
    try {
      return await judge();
    } catch (error) {
      if (error instanceof Denial) {
        const of = error.reason === TOO_MANY_CALLS ? EVERYTHING : operation;
        await this.#options.audit.note(this.#event(caller, of, "deny", error));
      }
      throw error;
    }
  }

  #event(
    { agentId, verified }: Caller,
    { operation, resource, tool }: Operation,
    outcome: AuditEvent["outcome"],
    { reason, policyIds = [] }: { readonly reason: string; readonly policyIds?: readonly string[] },
  ): AuditEvent {
    return {
      agentId: verified ? agentId : NOBODY,
      verified,
      operation,
      resource,
      outcome,
      reason,
      policyIds,
      ...(tool === undefined ? {} : { tool }),
    };
  }

  /** @throws Denial limit_exceeded */
  #countCall(caller: Caller): void {
    const agentId = caller.verified ? rootAgent(caller.agentId) : NOBODY;
    const taken = this.#calls.take(agentId, this.#options.clock.now());
    if (taken.taken) return;
    throw tooMany(TOO_MANY_CALLS, `${agentId} makes more than ${this.#options.callRate} calls a minute.`, taken.waitMs);
  }

  /**
   * Takes one operation from the first rate that has room. By itself, before the operation: what fails counts as well, or a flood
   * of what must fail would be free.
   * @throws Denial limit_exceeded
   */
  async #takeRate(caller: Caller, rates: readonly RateLimit[]): Promise<void> {
    const agentId = rootAgent(caller.agentId);
    const keyed = rates.map((limit) => ({ limit, key: `rate/${segment(agentId)}/${segment(limit.policyId)}` }));
    const waitMs = await this.#options.store.transact(
      (tx) => {
        let soonest = Number.POSITIVE_INFINITY;
        for (const { limit, key } of keyed) {
          const taken = takeRate(tx.get(key)?.value as Bucket | undefined, tx.now, limit);
          if (taken.taken) {
            tx.put(key, { ...taken.bucket }, { ttlMs: limit.perMs });
            return 0;
          }
          soonest = Math.min(soonest, taken.waitMs);
        }
        return soonest;
      },
      { prefetch: { keys: keyed.map(({ key }) => key) } },
    );
    if (waitMs === 0) return;
    const policyIds = rates.map(({ policyId }) => policyId);
    throw tooMany(
      "rate",
      `${agentId} does this more often than its policies permit (${policyIds.join(", ")}).`,
      waitMs,
      policyIds,
    );
  }
}

function outcomeOf(failure: unknown): string {
  if (failure instanceof SwarmError) return failure.code;
  return failure instanceof Error && failure.name === "AbortError" ? "cancelled" : "failed";
}

function endOf(call: InFlight): AbortSignal {
  call.ending ??= new AbortController();
  if (call.denial !== undefined) call.ending.abort(call.denial);
  return call.ending.signal;
}

const TOO_MANY_CALLS = "too_many_calls";

/** A refusal by the guard, with what the audit log says of it. */
export class Denial extends SwarmError {
  readonly reason: string;
  readonly policyIds: readonly string[];

  constructor(
    code: "permission_denied" | "unauthenticated" | "limit_exceeded",
    audited: { readonly reason: string; readonly policyIds?: readonly string[] },
    shown: { readonly message: string; readonly hint: string; readonly retryable?: boolean },
  ) {
    const { message, ...options } = shown;
    super(code, message, options);
    this.reason = audited.reason;
    this.policyIds = audited.policyIds ?? [];
  }
}

function tooMany(reason: string, message: string, waitMs: number, policyIds: readonly string[] = []): Denial {
  const hint = `Try again in ${Math.ceil(waitMs)} ms.`;
  return new Denial("limit_exceeded", { reason, policyIds }, { message, hint, retryable: true });
}

function nobody(message: string): Denial {
  const hint = "Over stdio set SWARM_KEY_FILE to the key file of your agent; over HTTP send its token as Authorization: Bearer.";
  return new Denial("unauthenticated", { reason: "unauthenticated" }, { message, hint });
}

function outOfScope(): Denial {
  const message = "The token's scope does not cover all that this call does.";
  const hint = "Ask the issuer for a token whose scope names this operation too, or for one without a scope.";
  return new Denial("permission_denied", { reason: "insufficient_scope" }, { message, hint });
}

function revoked(agentId: string): Denial {
  const message = `${agentId} was revoked: it takes no part in this swarm any more.`;
  const hint = "Ask whoever keeps the root key of this swarm; an agent comes back by mcp-swarm-security enroll.";
  return new Denial("permission_denied", { reason: "revoked" }, { message, hint });
}

function quarantined(agentId: string): Denial {
  const message = `${agentId} is in quarantine: until that ends, all its calls are refused.`;
  const hint = "Ask whoever keeps the root key of this swarm; what was sent before is held, not lost.";
  return new Denial("permission_denied", { reason: "quarantined" }, { message, hint });
}

const DENIED_STANDINGS: Readonly<Record<SelfStatus, ((agentId: string) => Denial) | undefined>> = {
  ok: undefined,
  revoked,
  quarantined,
  unknown: (agentId) => {
    const message = `The key in SWARM_KEY_FILE is not that of a member of this swarm (${agentId}).`;
    const hint = `Whoever keeps the root key runs: mcp-swarm-security enroll ${agentId}. On the machine of this server, mcp-swarm-security redeem then asks for the token that it prints.`;
    return new Denial("unauthenticated", { reason: "unknown_key" }, { message, hint });
  },
  replaced: (agentId) => {
    const message = `The key in SWARM_KEY_FILE was replaced: another key of ${agentId} is in force.`;
    const hint =
      "Point SWARM_KEY_FILE to the newest key file of this agent, or ask whoever keeps the root key to enroll it again.";
    return new Denial("unauthenticated", { reason: "replaced_key" }, { message, hint });
  },
};
