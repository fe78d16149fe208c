/** Histories of calls from eight processes at once: each task must behave as if it were used by one at a time. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import type { ToolAnswer } from "../support/host.ts";
import { checkLinearizable, type Operation, type SequentialModel } from "../support/linearizability.ts";
import { Crew, LOCK_WORDS, type Member } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";

const HOSTS = 8;
const TASKS = size(6, 24);
const CALLS_EACH = size(80, 600);
const ROUNDS = size(1, 5);
const SEED = Number(process.env.SWARM_SEED ?? 7_07);
/** Longer than the test runs: no lease ends in these histories. */
const LEASE_MS = 600_000;

type Input =
  | { call: "add" }
  | { call: "claim"; by: string }
  | { call: "read" }
  | { call: "report"; outcome: "working" | "done" | "failed" | "available"; by: string; token: number };
type Output =
  | { ok: true; status: string; holder?: string; token?: number }
  | { ok: false; code: string; holder?: string; text: string };
type Call = Operation<Input, Output>;

interface State {
  readonly status: "missing" | "available" | "claimed" | "working" | "done";
  readonly holder?: string | undefined;
  readonly token: number;
}

/** One task, by the rules of the catalogue alone. */
const task: SequentialModel<State, Input, Output> = {
  initial: { status: "missing", token: 0 },
  key: ({ status, holder, token }) => `${status} ${holder ?? "-"} ${token}`,
  step(state, { input, output }) {
    if (output === undefined) throw new Error("Nobody is killed in these histories");
    const held = state.status === "claimed" || state.status === "working";
    switch (input.call) {
      case "add":
        return state.status === "missing" && output.ok ? [{ status: "available", token: 0 }] : [];
      case "claim": {
        if (output.ok) {
          if (state.status !== "available" || output.token !== state.token + 1) return [];
          return [{ status: "claimed", holder: input.by, token: output.token }];
        }
        if (held) return output.code === "conflict" && output.holder === state.holder ? [state] : [];
        return state.status === "done" && output.code === "failed_precondition" ? [state] : [];
      }
      case "read": {
        const same = output.ok && output.status === state.status && output.token === state.token;
        return same && (!held || output.holder === state.holder) ? [state] : [];
      }
      case "report": {
        const mine = held && state.holder === input.by && state.token === input.token;
        if (!output.ok) return !mine && output.code === "failed_precondition" ? [state] : [];
        if (!mine) return [];
        if (input.outcome === "working") return [{ ...state, status: "working" }];
        if (input.outcome === "done") return [{ ...state, status: "done" }];
        return [{ status: "available", token: state.token }];
      }
    }
  },
};

/** From when until when a call was under way. */
type Span = { readonly from: number; readonly until: number };

/** The calls on each task, as they were sent and answered. */
class History {
  /** Calls for the next task that were told that there is none. */
  readonly nothing: Span[] = [];
  readonly #calls = new Map<string, Call[]>();

  record(taskId: string, call: Call): void {
    const calls = this.#calls.get(taskId) ?? [];
    calls.push(call);
    this.#calls.set(taskId, calls);
  }

  get tasks(): [id: string, calls: Call[]][] {
    return [...this.#calls];
  }
}

function read({ isError, text, structured }: ToolAnswer): Output {
  if (isError) {
    const holder = / is held by (\S+) until/.exec(text)?.[1];
    const code = text.slice(0, text.indexOf(":"));
    return { ok: false, code, text, ...(holder === undefined ? {} : { holder }) };
  }
  const shown = structured.task as { status: string; claimedBy?: string; fencingToken?: number };
  const token = structured.fencingToken ?? shown.fencingToken;
  return {
    ok: true,
    status: shown.status,
    ...(shown.claimedBy === undefined ? {} : { holder: shown.claimedBy }),
    ...(typeof token === "number" ? { token } : {}),
  };
}

interface Held {
  readonly taskId: string;
  readonly token: number;
}

/** @param type of all these tasks and no others, so that the next task is one of them */
async function callAtRandom(
  member: Member,
  history: History,
  { ids, type, random }: { ids: readonly string[]; type: string; random: Random },
): Promise<void> {
  const held: Held[] = [];
  const over: Held[] = [];
  const send = async (taskId: string, input: Input, tool: string, args: Record<string, unknown>): Promise<Output> => {
    const invoked = performance.now();
    const answer = await member.try(tool, args);
    expect(answer.text).not.toMatch(LOCK_WORDS);
    const output = read(answer);
    history.record(taskId, { by: member.agent, invoked, returned: performance.now(), input, output });
    return output;
  };
  const report = async ({ taskId, token }: Held, outcome: "working" | "done" | "failed" | "available") => {
    const input: Input = { call: "report", outcome, by: member.agent, token };
    return await send(taskId, input, "update_task", { taskId, status: outcome, fencingToken: token });
  };
  const pick = <T>(from: readonly T[]): T => from[random.integer(from.length)] as T;
  for (let i = 0; i < CALLS_EACH; i++) {
    const roll = random.integer(20);
    const taskId = pick(ids);
    const mine = held.at(-1);
    if (mine && roll < 9) {
      const finish = roll < 1 && random.integer(4) === 0; // rarely: a finished task has little left to fight for
      const outcome = finish ? "done" : roll < 4 ? "failed" : roll < 7 ? "available" : "working";
      const output = await report(mine, outcome);
      if (output.ok && outcome === "working") continue;
      held.pop();
      over.push(mine);
    } else if (roll < 11 && over.length > 0) {
      await report(pick(over), pick(["working", "done", "failed", "available"] as const)); // a late write
    } else if (roll < 13) {
      await send(taskId, { call: "read" }, "get_task", { taskId });
    } else if (roll < 16) {
      const invoked = performance.now();
      const answer = await member.try("claim_next_task", { type });
      expect(answer.isError, answer.text).toBe(false);
      const given = answer.structured.task as { id: string } | null;
      if (!given) {
        history.nothing.push({ from: invoked, until: performance.now() });
        continue;
      }
      const output = read(answer);
      const input: Input = { call: "claim", by: member.agent };
      history.record(given.id, { by: member.agent, invoked, returned: performance.now(), input, output });
      held.push({ taskId: given.id, token: Number(answer.structured.fencingToken) });
    } else {
      const output = await send(taskId, { call: "claim", by: member.agent }, "claim_task", { taskId });
      if (output.ok) held.push({ taskId, token: output.token ?? 0 });
    }
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  const title = `calls of ${HOSTS} processes on the same tasks are linearizable, and no task has two holders`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("TASK-05", "TASK-06", "TASK-08");
    using meeting = await meet();
    await using crew = await Crew.start({ store: meeting.store, size: HOSTS, leaseMs: LEASE_MS });
    let calls = 0;
    let told = 0;
    const seen = new Set<string>();
    for (let round = 0; round < ROUNDS; round++) {
      const seed = SEED + round;
      const history = new History();
      const type = `round-${round}`;
      const ids = Array.from({ length: TASKS }, (_, index) => `${type}-task-${index}`);
      const adding = ids.map(async (id, index) => {
        const member = crew.members[index % HOSTS] as Member;
        const invoked = performance.now();
        const task = { id, type, description: "wanted by all", maxAttempts: 100, backoff: { initialMs: 0 } };
        const answer = await member.try("add_task", task);
        history.record(id, {
          by: member.agent,
          invoked,
          returned: performance.now(),
          input: { call: "add" },
          output: read(answer),
        });
      });
      await Promise.all(adding);
      await Promise.all(
        crew.members.map((member, index) =>
          callAtRandom(member, history, { ids, type, random: seededRandom(seed * 100 + index) }),
        ),
      );
      for (const [id, made] of history.tasks) {
        calls += made.length;
        for (const { input, output } of made) seen.add(`${input.call} ${output?.ok ? "ok" : output?.code}`);
        const verdict = checkLinearizable(made, task);
        expect(verdict, `${id}, seed ${seed}: ${JSON.stringify(verdict, null, 1)}`).toEqual({ linearizable: true });
        expect(doubleHolders(made), id).toEqual([]);
        const missed = history.nothing.filter((call) => freeTimes(made).some((free) => covers(free, call)));
        expect(missed, `${id} was there to be claimed all the while`).toEqual([]);
      }
      told += history.nothing.length;
    }
    // every kind of answer was among them, else little was proven
    expect([...seen].sort()).toEqual(
      expect.arrayContaining(["claim conflict", "claim ok", "read ok", "report failed_precondition", "report ok"]),
    );
    expect((await census(meeting.store)).problems).toEqual([]);
    console.log(`${calls} calls on ${ROUNDS * TASKS} tasks, linearizable; ${told} times nothing to claim`);
  });
});

const covers = (outer: Span, inner: Span) => outer.from <= inner.from && inner.until <= outer.until;

/** When the task was surely available: from the answer that made it so until the call that claimed it was sent. */
function freeTimes(calls: readonly Call[]): Span[] {
  return calls.flatMap(({ input, output, returned }) => {
    const frees = input.call === "add" || (input.call === "report" && ["available", "failed"].includes(input.outcome));
    if (!frees || !output?.ok || returned === undefined) return [];
    const token = input.call === "report" ? input.token : 0;
    const next = calls.find((later) => later.input.call === "claim" && later.output?.ok && later.output.token === token + 1);
    return [{ from: returned, until: next?.invoked ?? Number.POSITIVE_INFINITY }];
  });
}

/** Times at which two agents were both sure to hold the task: between the answer to the claim and the report that ended it. */
function doubleHolders(calls: readonly Call[]): string[] {
  const spans = calls.flatMap(({ input, output, returned }) => {
    if (input.call !== "claim" || !output?.ok) return [];
    const end = calls.find(
      (later) =>
        later.input.call === "report" &&
        later.input.outcome !== "working" &&
        later.input.by === input.by &&
        later.input.token === output.token &&
        later.output?.ok,
    );
    return [{ by: input.by, from: returned ?? 0, until: end?.invoked ?? Number.POSITIVE_INFINITY }];
  });
  return spans.flatMap((one, index) =>
    spans
      .slice(index + 1)
      .filter((other) => one.from < other.until && other.from < one.until)
      .map((other) => `${one.by} and ${other.by}`),
  );
}
