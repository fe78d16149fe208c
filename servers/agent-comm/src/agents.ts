/** Who is there, what each agent can do, is doing and is set to do. */
import { decodeCursor, encodeCursor } from "@mcp-swarm/coordination";
import { agentKey } from "@mcp-swarm/coordination/messages";
import { type Json, type JsonObject, mergePatch, PAGE_DEFAULT, SwarmError } from "@mcp-swarm/core";
import {
  type Call,
  checkAgentId,
  findLiveAgent,
  type LiveAgent,
  listLiveAgents,
  type Presence,
  speakAs,
} from "@mcp-swarm/identity";
import { prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import {
  AGENTS_PREFIX,
  type AgentRecord,
  type AgentView,
  CONFIGURATION_BYTES_MAX,
  type ConfigurationRecord,
  type CoordinationFields,
  checkSize,
  configurationKey,
  METADATA_BYTES_MAX,
  OFFLINE,
  ONLINE,
  RESULTS_BYTES_MAX,
  STATUS_DEFAULT,
  viewOf,
} from "./agent-record.ts";

/** Most agents that one page of a filtered list looks at; the rest is behind its cursor. */
export const LOOKED_AT_MAX = 500;
/** Agents read at once. */
const READ_MAX = 100;

export interface Registration {
  agentId?: string | undefined;
  agentType: string;
  capabilities: readonly string[];
  description?: string | undefined;
  metadata?: JsonObject | undefined;
}

/** `null` takes away what was said before; what is absent stays. */
export interface StatusUpdate {
  agentId?: string | undefined;
  status: string;
  sessionId?: string | undefined;
  agentRole?: string | null | undefined;
  currentTask?: string | null | undefined;
  results?: Json | undefined;
  dependencies?: readonly string[] | undefined;
  load?: number | null | undefined;
}

export interface AgentFilter {
  type?: string | undefined;
  capability?: string | undefined;
  /** As agents say it; `online` finds all that live, `offline` those that registered and do not. */
  status?: string | undefined;
  limit?: number | undefined;
  cursor?: string | undefined;
}

export interface AgentPage {
  agents: AgentView[];
  nextCursor?: string;
}

/** A session of a host. The host's own id of it is the key to the session: nothing here keeps it. */
export interface HostSession {
  /** What others may know it by. */
  readonly name: string;
  /** Whether a text is the host's own id of it. */
  isKey(text: string): boolean;
}

export interface AgentsOptions {
  presence: Pick<Presence, "announce" | "leave">;
  /** The host session that this process serves. */
  session?: HostSession | undefined;
  /** Removes what else belongs to an agent, in the transaction that forgets it. */
  forget?: (tx: Transaction, agentId: string) => void;
}

const recordIn = (entry: { value: Json } | undefined) => entry?.value as AgentRecord | undefined;

export class Agents {
  readonly #options: AgentsOptions;

  constructor(options: AgentsOptions) {
    this.#options = options;
  }

  /**
   * Makes or renews the record, and announces type and capabilities to the swarm. What the agent said of its work stays unless it is
   * a new session of it, which starts idle.
   */
  async register(call: Call, input: Registration): Promise<{ agent: AgentView }> {
    const id = speakAs(call.caller, input.agentId);
    checkSize("metadata", input.metadata, METADATA_BYTES_MAX);
    await this.#appear(call, id);
    const record = await call.transact(
      (tx): AgentRecord => {
        const before = recordIn(tx.get(agentKey(id)));
        const sessionId = this.#sessionOf(call);
        const goesOn = before !== undefined && before.sessionId === sessionId;
        const made = {
          id,
          agentType: input.agentType,
          capabilities: [...input.capabilities],
          description: input.description,
          metadata: input.metadata,
          registeredAt: before?.registeredAt ?? tx.now,
          updatedAt: tx.now,
          ...(goesOn ? coordinationOf(before) : { status: STATUS_DEFAULT, sessionId }),
        };
        return put(tx, made);
      },
      { prefetch: { keys: [agentKey(id)] } },
    );
    await this.#announce(call, record);
    return { agent: asWritten(record, true) };
  }

  /** @throws SwarmError not_found */
  async unregister(call: Call, input: { agentId?: string | undefined } = {}): Promise<{ agent: AgentView }> {
    const id = speakAs(call.caller, input.agentId);
    const record = await call.transact((tx): AgentRecord => {
      const before = recordIn(tx.get(agentKey(id)));
      if (before === undefined) {
        throw new SwarmError("not_found", `${id} is not registered.`, { hint: "list_agents tells who is." });
      }
      tx.delete(agentKey(id));
      tx.delete(configurationKey(id));
      this.#options.forget?.(tx, id);
      return before;
    });
    const { processId } = call.caller;
    // the process of the agent itself lives on, and with it the agent; a subagent is over
    if (id !== call.caller.agentId && processId !== undefined) await this.#options.presence.leave(id);
    else if (id === call.caller.agentId) await this.#options.presence.announce(call.caller, { capabilities: [] });
    return { agent: asWritten(record, id === call.caller.agentId) };
  }

  /** Writes what the agent says of its work; one that never registered gets a record too. */
  async updateStatus(call: Call, input: StatusUpdate): Promise<{ agent: AgentView }> {
    const id = speakAs(call.caller, input.agentId);
    if (input.status === OFFLINE || input.status === ONLINE) {
      throw new SwarmError("invalid_argument", "status cannot be online or offline: your process tells that by living.", {
        hint: "Say what you do, for example idle, working, blocked or error; unregister_agent when you are finished.",
      });
    }
    checkSize("results", input.results, RESULTS_BYTES_MAX);
    const { session } = this.#options;
    const said = input.sessionId !== undefined && session?.isKey(input.sessionId) ? { ...input, sessionId: session.name } : input;
    await this.#appear(call, id);
    const record = await call.transact(
      (tx): AgentRecord => {
        const before = recordIn(tx.get(agentKey(id)));
        const kept = before ?? { id, capabilities: [], registeredAt: tx.now };
        return put(tx, { ...kept, ...statusAfter(before, said, this.#sessionOf(call)), updatedAt: tx.now });
      },
      { prefetch: { keys: [agentKey(id)] } },
    );
    return { agent: asWritten(record, true) };
  }

  /** @throws SwarmError not_found of one that neither registered nor lives */
  async get(call: Pick<Call, "store">, agentId: string): Promise<{ agent: AgentView; live: LiveAgent | undefined }> {
    checkAgentId(agentId);
    const [entry, live] = await Promise.all([call.store.get(agentKey(agentId)), findLiveAgent(call.store, agentId)]);
    const agent = viewOf(recordIn(entry), live);
    if (agent === undefined) {
      throw new SwarmError("not_found", `There is no agent ${agentId}.`, { hint: "list_agents tells who is there." });
    }
    return { agent, live };
  }

  /**
   * The living first, then those that registered and are offline, each in order of their ids as keys. One page looks at
   * LOOKED_AT_MAX agents, so a rare kind may need several.
   */
  async list({ store }: Pick<Call, "store">, filter: AgentFilter = {}): Promise<AgentPage> {
    const { type, capability, status, limit = PAGE_DEFAULT } = filter;
    const scope = { list: JSON.stringify(["agents", type, capability, status]), prefix: "" };
    const from = filter.cursor === undefined ? undefined : decodeCursor(scope, filter.cursor);
    const fits = (agent: AgentView) =>
      (type === undefined || agent.agentType === type) &&
      (capability === undefined || agent.capabilities.includes(capability)) &&
      (status === undefined || agent.status === status || (status === ONLINE && agent.online));
    const agents: AgentView[] = [];
    let looked = 0;
    for (const walk of [livingFirst(store, from, status), thenOffline(store, from, status)]) {
      for await (const { agent, key } of walk) {
        if (fits(agent)) agents.push(agent);
        looked += 1;
        if (agents.length === limit || looked === LOOKED_AT_MAX) return { agents, nextCursor: encodeCursor(scope, key) };
      }
    }
    return { agents };
  }

  /** What an agent is set to do; empty, at rev 0, when nothing was ever set. @throws SwarmError not_found */
  async configuration(call: Call, input: { agentId?: string | undefined } = {}): Promise<ConfigurationRecord> {
    const agentId = checkAgentId(input.agentId ?? call.caller.agentId);
    const found = (await call.store.get(configurationKey(agentId)))?.value as ConfigurationRecord | undefined;
    if (found) return found;
    if (agentId !== call.caller.agentId) await this.get(call, agentId);
    return { agentId, configuration: {}, rev: 0, updatedAt: 0, updatedBy: agentId };
  }

  /**
   * Merges a patch into the configuration (JSON Merge Patch, RFC 7396: null removes a member).
   * @throws SwarmError conflict when it is not at `ifRev`, invalid_argument when it grows too long
   */
  async configure(
    call: Call,
    input: { agentId?: string | undefined; configuration: JsonObject; ifRev?: number | undefined },
  ): Promise<ConfigurationRecord> {
    const agentId = speakAs(call.caller, input.agentId);
    const key = configurationKey(agentId);
    return call.transact(
      (tx): ConfigurationRecord => {
        const before = tx.get(key)?.value as ConfigurationRecord | undefined;
        const rev = before?.rev ?? 0;
        if (input.ifRev !== undefined && input.ifRev !== rev) {
          throw new SwarmError("conflict", `The configuration of ${agentId} is at rev ${rev}, not ${input.ifRev}.`, {
            hint: "Read it with get_agent_configuration and decide again.",
            retryable: false,
          });
        }
        const configuration = mergePatch(before?.configuration, input.configuration) as JsonObject;
        checkSize("configuration", configuration, CONFIGURATION_BYTES_MAX);
        const after = { agentId, configuration, rev: rev + 1, updatedAt: tx.now, updatedBy: call.caller.agentId };
        tx.put(key, after);
        return after;
      },
      { prefetch: { keys: [key] } },
    );
  }

  /** A subagent lives from when it first says something; that there is room for it is seen before anything is written. */
  async #appear(call: Call, id: string): Promise<void> {
    const { caller } = call;
    if (id !== caller.agentId) await this.#options.presence.announce({ agentId: id, processId: caller.processId });
  }

  /** Announces what the record says by now: a repeated call must not bring back what was said before. */
  async #announce(call: Call, written: AgentRecord): Promise<void> {
    const { agentType, capabilities } = recordIn(await call.store.get(agentKey(written.id))) ?? written;
    const announcement = agentType === undefined ? { capabilities } : { capabilities, agentType };
    await this.#options.presence.announce({ agentId: written.id, processId: call.caller.processId }, announcement);
  }

  #sessionOf({ caller }: Call): string | undefined {
    return caller.processId === undefined ? undefined : (this.#options.session?.name ?? caller.processId);
  }
}

/** What a write answers: nothing that time alone changes, so that a repetition answers the same. */
function asWritten({ lastSeenAt: _, ...record }: AgentRecord, online: boolean): AgentView {
  return online ? { ...record, online } : { ...record, online, status: OFFLINE, lastStatus: record.status };
}

/** Writes a record without its undefined members, and answers it. */
function put(tx: Transaction, record: { [Name in keyof AgentRecord]: AgentRecord[Name] | undefined }): AgentRecord {
  const plain = Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as AgentRecord;
  tx.put(agentKey(plain.id), plain);
  return plain;
}

function coordinationOf({ sessionId, agentRole, status, currentTask, results, dependencies, load }: AgentRecord) {
  return { sessionId, agentRole, status, currentTask, results, dependencies, load };
}

type Unset<T> = { [Name in keyof T]: T[Name] | undefined };

function statusAfter(
  before: AgentRecord | undefined,
  input: StatusUpdate,
  session: string | undefined,
): Unset<Required<CoordinationFields>> {
  const said = <T>(value: T | null | undefined, kept: T | undefined): T | undefined =>
    value === undefined ? kept : (value ?? undefined);
  const dependencies = input.dependencies ?? before?.dependencies;
  return {
    sessionId: input.sessionId ?? session ?? before?.sessionId,
    status: input.status,
    agentRole: said(input.agentRole, before?.agentRole),
    currentTask: said(input.currentTask, before?.currentTask),
    results: said(input.results, before?.results),
    dependencies: dependencies === undefined || dependencies.length === 0 ? undefined : [...dependencies],
    load: said(input.load, before?.load),
  };
}

const LIVING = "presence/";

/** Agents that live, with what each says; `key` continues behind it. */
async function* livingFirst(
  store: Store,
  from: string | undefined,
  status: string | undefined,
): AsyncGenerator<{ agent: AgentView; key: string }> {
  if (status === OFFLINE || from?.startsWith(AGENTS_PREFIX)) return;
  let after = from?.slice(LIVING.length);
  do {
    const page: Awaited<ReturnType<typeof listLiveAgents>> = await listLiveAgents(store, {
      limit: READ_MAX,
      ...(after === undefined ? {} : { after }),
    });
    const records = await store.getMany(page.agents.map(({ agentId }) => agentKey(agentId)));
    for (const [at, live] of page.agents.entries()) {
      const agent = viewOf(recordIn(records[at]), live);
      if (agent) yield { agent, key: `${LIVING}${live.agentId}` };
    }
    after = page.next;
  } while (after !== undefined);
}

/** Agents that registered and do not live. */
async function* thenOffline(
  store: Store,
  from: string | undefined,
  status: string | undefined,
): AsyncGenerator<{ agent: AgentView; key: string }> {
  if (status !== undefined && status !== OFFLINE) return;
  let after = from?.startsWith(AGENTS_PREFIX) ? from : undefined;
  for (;;) {
    const entries = await store.scan(prefixRange(AGENTS_PREFIX, READ_MAX, after === undefined ? {} : { after }));
    const lives = await Promise.all(entries.map(({ value }) => findLiveAgent(store, (value as AgentRecord).id)));
    for (const [at, { key, value }] of entries.entries()) {
      if (lives[at]) continue;
      const agent = viewOf(value as AgentRecord, undefined);
      if (agent) yield { agent, key };
    }
    after = entries.at(-1)?.key;
    if (entries.length < READ_MAX) return;
  }
}
