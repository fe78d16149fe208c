/** Which agent is to do which task: five rules over what agents can do, have to do already, and took for such work before. */
import type { Estimate } from "./estimate.ts";
import { rankOf } from "./task-queue.ts";

/**
 * capability: the agent whose abilities the task uses best, so that those who can do more stay free. load_balanced: the agent with
 * the least predicted work. deadline_aware: earliest deadline first (Jackson 1955), each to the agent that finishes it earliest.
 * compute_optimized: longest first (LPT, Graham 1969: on agents that are alike at most 4/3 of the shortest possible time), each to
 * the agent that finishes it earliest. adaptive: one of these, chosen by the work at hand.
 */
export const STRATEGIES = ["capability", "load_balanced", "deadline_aware", "compute_optimized", "adaptive"] as const;
export type Strategy = (typeof STRATEGIES)[number];
type Rule = Exclude<Strategy, "adaptive">;

/** Work counts as skewed when the longest task is predicted to take so many times the mean. */
const SKEWED_FROM = 2;

/** A task that somebody is to do. */
export interface Assignable {
  readonly taskId: string;
  readonly type: string;
  readonly requiredCapabilities: readonly string[];
  readonly priority: number;
  readonly deadlineAt?: number | undefined;
  /** Since when it is available; when it becomes so; absent when nobody knows. */
  readonly readyAt?: number | undefined;
  /** Place among tasks that are otherwise equal. */
  readonly seq: string;
}

/** An agent that may get tasks. */
export interface Candidate {
  readonly agentId: string;
  readonly capabilities: readonly string[];
  /** Most tasks that it is to have. */
  readonly maxLoad?: number | undefined;
  /** What it has already, held or assigned. */
  readonly tasks: number;
  readonly predictedMs: number;
}

export type Predict = (type: string, agentId: string) => Estimate;

export type Assignment = {
  readonly taskId: string;
  readonly agentId: string;
  /** 0 to 1: how much is known of how long it takes. */
  readonly confidence: number;
  readonly estimatedDurationMs: number;
  /** When the agent does what it had first, then its new tasks in the order of claiming; absent for a blocked task. */
  readonly estimatedFinishAt?: number;
  /** It would be finished after its deadline. */
  readonly late?: true;
};

export type Unassigned = { readonly taskId: string; readonly reason: string; readonly missingCapabilities?: readonly string[] };

export type Load = { readonly agentId: string; readonly tasks: number; readonly predictedMs: number };

export interface AssignmentPlan {
  readonly assignments: readonly Assignment[];
  readonly unassigned: readonly Unassigned[];
  /** The rule that was followed, and why that one. */
  readonly strategy: Rule;
  readonly reason: string;
}

export interface Assigning {
  readonly strategy: Strategy;
  readonly tasks: readonly Assignable[];
  readonly agents: readonly Candidate[];
  readonly predict: Predict;
  /** By the store's clock, ms. */
  readonly now: number;
}

export function canDo(agent: Pick<Candidate, "capabilities">, task: Pick<Assignable, "requiredCapabilities">): boolean {
  return task.requiredCapabilities.every((capability) => agent.capabilities.includes(capability));
}

/** A candidate with what it got so far. */
type Filled = Candidate & { tasks: number; predictedMs: number };

/** A task with those who can do it, and its mean duration over them. */
interface Weighed {
  readonly task: Assignable;
  readonly able: readonly Filled[];
  readonly meanMs: number;
}

/** Smaller first, one number after the other. */
function compare(a: readonly number[], b: readonly number[]): number {
  for (const [at, one] of a.entries()) {
    const difference = one - (b[at] ?? 0);
    if (difference !== 0 && !Number.isNaN(difference)) return difference;
  }
  return 0;
}

const NEVER = Number.MAX_SAFE_INTEGER;

/** In which order the tasks of each rule find their agent: smaller first. */
const ORDER: { readonly [R in Rule]: (weighed: Weighed) => readonly number[] } = {
  // what few can do first, while they have room
  capability: ({ task, able, meanMs }) => [able.length, -task.priority, -meanMs],
  load_balanced: ({ task, meanMs }) => [-task.priority, -meanMs],
  deadline_aware: ({ task, meanMs }) => [task.deadlineAt ?? NEVER, -task.priority, -meanMs],
  compute_optimized: ({ task, meanMs }) => [-meanMs, -task.priority],
};

interface Offer {
  readonly task: Assignable;
  readonly agent: Filled;
  readonly durationMs: number;
  readonly now: number;
}

function finishMs({ task, agent, durationMs, now }: Offer): number {
  return Math.max(agent.predictedMs, (task.readyAt ?? now) - now) + durationMs;
}

/** How well an agent suits a task by each rule: smaller is better. */
const SUITS: { readonly [R in Rule]: (offer: Offer) => readonly number[] } = {
  capability: ({ task, agent }) => {
    const surplus = task.requiredCapabilities.length === 0 ? 0 : agent.capabilities.length - task.requiredCapabilities.length;
    return [surplus, agent.predictedMs, agent.tasks];
  },
  load_balanced: ({ agent }) => [agent.predictedMs, agent.tasks],
  deadline_aware: (offer) => [finishMs(offer), offer.agent.tasks],
  compute_optimized: (offer) => [finishMs(offer), offer.agent.tasks],
};

const REASONS: { readonly [R in Rule]: string } = {
  capability: "Each task goes to the agent whose capabilities it uses best, then to the least loaded.",
  load_balanced: "Each task, longest first within its priority, goes to the agent with the least predicted work.",
  deadline_aware: "Each task, earliest deadline first, goes to the agent that is predicted to finish it earliest.",
  compute_optimized: "Each task, longest first, goes to the agent that is predicted to finish it earliest.",
};

/** The rule that suits the work: deadlines before scarce capabilities before uneven durations. */
export function chooseRule(work: readonly { able: readonly unknown[]; task: Assignable; meanMs: number }[]): {
  rule: Rule;
  because: string;
} {
  const due = work.filter(({ task }) => task.deadlineAt !== undefined).length;
  if (due > 0) return { rule: "deadline_aware", because: `${due} of ${work.length} tasks have a deadline` };
  const able = work.filter((one) => one.able.length > 0);
  const first = new Set(able[0]?.able);
  const alike = able.every((one) => one.able.length === first.size && one.able.every((agent) => first.has(agent)));
  if (!alike) return { rule: "capability", because: "the tasks differ in which agents can do them" };
  const longest = Math.max(0, ...able.map(({ meanMs }) => meanMs));
  const mean = able.reduce((sum, { meanMs }) => sum + meanMs, 0) / Math.max(1, able.length);
  if (longest >= SKEWED_FROM * mean && longest > 0) {
    const times = (longest / mean).toFixed(1);
    return { rule: "compute_optimized", because: `the longest task is predicted to take ${times} times the mean` };
  }
  return {
    rule: "load_balanced",
    because: "the tasks are alike in who can do them and how long they take, and none has a deadline",
  };
}

/** Pure: the same input gives the same plan. */
export function planAssignments({ strategy, tasks, agents, predict, now }: Assigning): AssignmentPlan {
  const filled: Filled[] = agents.map((agent) => ({ ...agent }));
  const work = tasks.map((task): Weighed => {
    const able = filled.filter((agent) => canDo(agent, task));
    const sum = able.reduce((total, agent) => total + predict(task.type, agent.agentId).estimatedMs, 0);
    return { task, able, meanMs: able.length === 0 ? 0 : sum / able.length };
  });
  const chosen = strategy === "adaptive" ? chooseRule(work) : { rule: strategy, because: undefined };
  const { rule, because } = chosen;
  const order = ORDER[rule];
  const sorted = work
    .map((weighed) => ({ weighed, place: order(weighed) }))
    .sort((a, b) => compare(a.place, b.place) || (a.weighed.task.seq < b.weighed.task.seq ? -1 : 1));

  const taken: { task: Assignable; agent: Filled; estimate: Estimate }[] = [];
  const unassigned: Unassigned[] = [];
  for (const { weighed } of sorted) {
    const { task, able } = weighed;
    const free = able.filter((agent) => agent.tasks < (agent.maxLoad ?? NEVER));
    let best: { offer: Offer; estimate: Estimate; suits: readonly number[] } | undefined;
    for (const agent of free) {
      const estimate = predict(task.type, agent.agentId);
      const offer = { task, agent, durationMs: estimate.estimatedMs, now };
      const suits = SUITS[rule](offer);
      const better = best ? compare(suits, best.suits) || (agent.agentId < best.offer.agent.agentId ? -1 : 1) : -1;
      if (better < 0) best = { offer, estimate, suits };
    }
    if (!best) {
      unassigned.push(nobodyFor(task, agents, able.length > 0));
      continue;
    }
    const { agent, durationMs } = best.offer;
    agent.tasks += 1;
    agent.predictedMs += durationMs;
    taken.push({ task, agent, estimate: best.estimate });
  }
  return {
    assignments: finishTimes(taken, agents, now),
    unassigned,
    strategy: rule,
    reason: because === undefined ? REASONS[rule] : `Chosen because ${because}. ${REASONS[rule]}`,
  };
}

function nobodyFor(task: Assignable, agents: readonly Candidate[], full: boolean): Unassigned {
  const { taskId, requiredCapabilities } = task;
  if (full) return { taskId, reason: "All agents that can do it have as many tasks as their maxLoad." };
  if (agents.length === 0) return { taskId, reason: "There is no agent." };
  const nobody = requiredCapabilities.filter((one) => !agents.some((agent) => agent.capabilities.includes(one)));
  if (nobody.length > 0) return { taskId, reason: "No agent has what it requires.", missingCapabilities: nobody };
  return { taskId, reason: "No single agent has all that it requires.", missingCapabilities: requiredCapabilities };
}

/** Each agent does what it had, and then its new tasks in the order in which it will claim them. */
function finishTimes(
  taken: readonly { task: Assignable; agent: Candidate; estimate: Estimate }[],
  agents: readonly Candidate[],
  now: number,
): Assignment[] {
  const busyMs = new Map(agents.map(({ agentId, predictedMs }) => [agentId, predictedMs]));
  const finishes = new Map<string, number>();
  const place = ({ task }: { task: Assignable }) => `${rankOf(task, task.readyAt ?? now)}/${task.seq}`;
  const inOrder = taken
    .filter(({ task }) => task.readyAt !== undefined)
    .map((one) => ({ ...one, place: place(one) }))
    .sort((a, b) => (a.place < b.place ? -1 : 1));
  for (const { task, agent, estimate } of inOrder) {
    const startMs = Math.max(busyMs.get(agent.agentId) ?? 0, (task.readyAt ?? now) - now);
    busyMs.set(agent.agentId, startMs + estimate.estimatedMs);
    finishes.set(task.taskId, now + startMs + estimate.estimatedMs);
  }
  return taken.map(({ task, agent, estimate }): Assignment => {
    const finishAt = finishes.get(task.taskId);
    const late = finishAt !== undefined && task.deadlineAt !== undefined && finishAt > task.deadlineAt;
    return {
      taskId: task.taskId,
      agentId: agent.agentId,
      confidence: estimate.confidence,
      estimatedDurationMs: estimate.estimatedMs,
      ...(finishAt === undefined ? {} : { estimatedFinishAt: finishAt }),
      ...(late ? { late } : {}),
    };
  });
}

/** What each agent has with its new tasks. */
export function loadOf(agents: readonly Candidate[], assignments: readonly Assignment[]): Load[] {
  return agents.map(({ agentId, tasks, predictedMs }) => {
    const own = assignments.filter((assignment) => assignment.agentId === agentId);
    const added = own.reduce((sum, { estimatedDurationMs }) => sum + estimatedDurationMs, 0);
    return { agentId, tasks: tasks + own.length, predictedMs: predictedMs + added };
  });
}

/** 1 - (most - least) / most of the predicted work: 1 when all agents have the same, 0 when one has nothing. */
export function balanceScore(load: readonly Load[]): number {
  const work = load.map(({ predictedMs }) => predictedMs);
  const most = Math.max(0, ...work);
  return most === 0 ? 1 : Math.round((1 - (most - Math.min(...work)) / most) * 100) / 100;
}
