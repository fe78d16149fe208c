/** One message to all, to those of a type or with a capability, to whoever works in a workflow, or to a topic. */
import {
  type Audience,
  agentKey,
  beginFanOut,
  type Draft,
  deliverNew,
  deliverPart,
  FAILED_NAMED_MAX,
  type FanOutCounts,
  type FanOuts,
  type InboxRoom,
  type MessageRecord,
  PART_RECEIVERS_MAX,
  type Posting,
  RECEIVERS_MAX,
} from "@mcp-swarm/coordination/messages";
import { indexEntry, isHeld, readTasks, taskPrefixes, workflowKey } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, findLiveAgent, listLiveAgents } from "@mcp-swarm/identity";
import { prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { type AgentRecord, described } from "./agent-record.ts";
import { isKnown, type NewMessage, type Sending } from "./sending.ts";
import { countTakers, readSubscriptions } from "./subscriptions.ts";
import { publishIn, topicFor, topicKey } from "./topic-layer.ts";

export const SCOPES = ["all", "type", "capability", "topic", "workflow"] as const satisfies readonly Audience["kind"][];
export type Scope = (typeof SCOPES)[number];

/** Living agents read at once. */
const READ_MAX = 400;
/** Open tasks of a workflow that are looked at for who works on them. */
const WORKFLOW_TASKS_MAX = 10_000;
/** Receivers asked about at once whether they are there. */
const ASKED_MAX = 50;

export interface Broadcast extends Omit<NewMessage, "notBefore"> {
  scope: Scope;
  /** The type, capability, topic or workflow; not of `all`. */
  name?: string | undefined;
  /** Of a topic: whether those who subscribe later may read this and what follows. Stays as it was when it is not given. */
  keep?: boolean | undefined;
}

type Posted = Pick<MessageRecord, "id" | "from" | "sentAt" | "correlationId" | "hops" | "expiresAt" | "ackDueAt">;

/** Of a topic also `published`; `delivered` are then the agents that take it from there when they next read. */
export type BroadcastOutcome = {
  readonly message: Posted;
  readonly published?: {
    readonly topic: string;
    readonly sequence: number;
    readonly keep: boolean;
    readonly moreSubscribers?: true;
  };
} & Partial<FanOutCounts>;

/** What the deciding transaction says: all, or that the rest goes part by part. */
type Decided = BroadcastOutcome & { readonly inParts?: true };

/** Receivers, and named ones that nobody knows any more. */
interface Receivers {
  readonly reachable: readonly string[];
  readonly gone: readonly string[];
  /** Why there can be none. For the deciding transaction to say: a repetition of a call that was done is not refused. */
  readonly refusal?: SwarmError;
}

export interface BroadcastsOptions {
  posting: Posting;
  sending: Sending;
  room: InboxRoom;
  fanOuts: FanOuts;
}

export class Broadcasts {
  readonly #options: BroadcastsOptions;

  constructor(options: BroadcastsOptions) {
    this.#options = options;
  }

  /**
   * Receivers are the agents that live when it is sent, without the sender; each counts as one message of the sender's rate. It
   * answers when all inboxes have the message. A topic is written to once, and its subscribers take the message from there.
   * @throws SwarmError invalid_argument (`name`), not_found (workflow, replyTo), limit_exceeded (receivers, topics, rate, hops)
   */
  async send(call: Call, input: Broadcast): Promise<BroadcastOutcome> {
    const { scope, name, keep, ...message } = input;
    checkName(scope, name, keep);
    const draft = this.#options.sending.draft(call, message, name === undefined ? { kind: scope } : { kind: scope, name });
    if (scope === "topic") return this.#publish(call, draft, name ?? "", keep);

    const { reachable, gone, refusal } = await receiversOf(call, scope, name ?? "", draft.from).catch(refused);
    const before = { delivered: 0, failed: gone.length, failedReceivers: gone.slice(0, FAILED_NAMED_MAX) };
    const inParts = reachable.length > PART_RECEIVERS_MAX;
    const full = inParts ? new Set<string>() : await this.#options.room.fullOf(call.store, reachable);
    const decided = await call.transact(
      (tx): Decided => {
        if (refusal) throw refusal;
        const posted = this.#options.posting.post(tx, draft, { cost: Math.max(1, reachable.length) });
        if (!inParts) return { message: shown(posted), ...deliverPart(tx, posted, reachable, full, before, deliverNew) };
        beginFanOut(tx, posted.id, reachable, before);
        return { message: shown(posted), inParts };
      },
      { prefetch: { keys: this.#options.posting.reads(draft) } },
    );
    if (!decided.inParts) return decided;
    return { message: decided.message, ...(await this.#options.fanOuts.finish(call.store, decided.message.id)) };
  }

  async #publish(call: Call, draft: Draft, name: string, keep: boolean | undefined): Promise<BroadcastOutcome> {
    const { posting } = this.#options;
    const [record, live, { subscriptions, more }] = await Promise.all([
      call.store.get(agentKey(draft.from)),
      findLiveAgent(call.store, draft.from),
      readSubscriptions(call.store),
    ]);
    const { capabilities } = described(record?.value as AgentRecord | undefined, live);
    const { from, messageType } = draft;
    const delivered = countTakers(subscriptions, name, { from, messageType, senderCapabilities: capabilities });
    return call.transact(
      (tx): BroadcastOutcome => {
        const topic = topicFor(tx, name, keep);
        const posted = posting.post(tx, draft, { after: topic.lastAt });
        const sequence = publishIn(tx, topic, posted, capabilities);
        const published = { topic: name, sequence, keep: topic.keep, ...(more ? { moreSubscribers: true as const } : {}) };
        return { message: shown(posted), delivered, failed: 0, failedReceivers: [], published };
      },
      { prefetch: { keys: [topicKey(name), ...posting.reads(draft)] } },
    );
  }
}

function shown({ id, from, sentAt, correlationId, hops, expiresAt, ackDueAt }: MessageRecord): Posted {
  return {
    ...{ id, from, sentAt, correlationId, hops },
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(ackDueAt === undefined ? {} : { ackDueAt }),
  };
}

/** @throws SwarmError invalid_argument */
function checkName(scope: Scope, name: string | undefined, keep: boolean | undefined): void {
  if ((scope === "all") !== (name === undefined)) {
    throw new SwarmError("invalid_argument", `name ${scope === "all" ? "does not go with" : "is missing for"} scope ${scope}.`, {
      hint: "all takes no name; type, capability, topic and workflow each take one.",
    });
  }
  if (keep !== undefined && scope !== "topic") {
    throw new SwarmError("invalid_argument", `keep does not go with scope ${scope}.`, {
      hint: "Only topics keep messages for those who come later.",
    });
  }
}

function refused(error: unknown): Receivers {
  if (error instanceof SwarmError && !error.retryable) return { reachable: [], gone: [], refusal: error };
  throw error;
}

function tooMany(): SwarmError {
  return new SwarmError("limit_exceeded", `More than ${RECEIVERS_MAX} agents would get this.`, {
    hint: "Publish it in a topic, which may have any number of subscribers.",
  });
}

/** Who is to get it, in no order that means anything; without the sender. */
async function receiversOf(
  { caller, store }: Pick<Call, "caller" | "store">,
  scope: Exclude<Scope, "topic">,
  name: string,
  sender: string,
): Promise<Receivers> {
  if (scope === "workflow") return workersOf({ caller, store }, name, sender);
  const reachable: string[] = [];
  let after: string | undefined;
  do {
    const page: Awaited<ReturnType<typeof listLiveAgents>> = await listLiveAgents(store, {
      limit: READ_MAX,
      ...(after === undefined ? {} : { after }),
    });
    const records = scope === "all" ? [] : await store.getMany(page.agents.map(({ agentId }) => agentKey(agentId)));
    for (const [at, live] of page.agents.entries()) {
      const { agentType, capabilities } = described(records[at]?.value as AgentRecord | undefined, live);
      const meant = scope === "all" || (scope === "type" ? agentType === name : capabilities.includes(name));
      if (meant && live.agentId !== sender) reachable.push(live.agentId);
    }
    if (reachable.length > RECEIVERS_MAX) throw tooMany();
    after = page.next;
  } while (after !== undefined);
  return { reachable, gone: [] };
}

/** Agents that hold an open task of a workflow, or to whom one is assigned. */
async function workersOf(call: Pick<Call, "caller" | "store">, workflowId: string, sender: string): Promise<Receivers> {
  const { store } = call;
  if (!(await store.get(workflowKey(workflowId)))) {
    throw new SwarmError("not_found", `There is no workflow ${workflowId}.`, { hint: "list_workflows shows those there are." });
  }
  const names = await openTaskWorkers(store, workflowId);
  names.delete(sender);
  if (names.size > RECEIVERS_MAX) throw tooMany();
  const reachable: string[] = [];
  const gone: string[] = [];
  const all = [...names].sort();
  for (let from = 0; from < all.length; from += ASKED_MAX) {
    const some = all.slice(from, from + ASKED_MAX);
    const known = await Promise.all(some.map((name) => isKnown(call, name)));
    for (const [at, name] of some.entries()) (known[at] ? reachable : gone).push(name);
  }
  return { reachable, gone };
}

async function openTaskWorkers(store: Store, workflowId: string): Promise<Set<string>> {
  const names = new Set<string>();
  const prefix = taskPrefixes.workflowOpen(workflowId);
  let after: string | undefined;
  for (let looked = 0; looked < WORKFLOW_TASKS_MAX; ) {
    const entries = await store.scan(prefixRange(prefix, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    for (const task of await readTasks(
      store,
      entries.map((entry) => indexEntry(entry).id),
    )) {
      const worker = task && isHeld(task) ? task.claim?.by : task?.assignedTo;
      if (worker !== undefined) names.add(worker);
    }
    looked += entries.length;
    if (entries.length < SCAN_LIMIT_MAX) return names;
    after = entries.at(-1)?.key;
  }
  throw new SwarmError("limit_exceeded", `Workflow ${workflowId} has more than ${WORKFLOW_TASKS_MAX} open tasks.`, {
    hint: "Publish in a topic of the workflow instead, and let its workers subscribe.",
  });
}
