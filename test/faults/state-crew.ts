/** Hosts that work on the values of one scope and write down each call with its answer, and hosts that follow the changes. */
import type { Json, Random } from "@mcp-swarm/core";
import { expect } from "vitest";
import type { Host, ToolAnswer } from "../support/host.ts";
import type { Operation } from "../support/linearizability.ts";
import { type SpaceInput, type SpaceOutput, type SpaceState, stateSpace } from "../support/state-space.ts";
import { HostKilled, LOCK_WORDS, type Member } from "./crew.ts";
import { CALLS_PER_KILL, type Killer } from "./killer.ts";

export type SpaceCall = Operation<SpaceInput, SpaceOutput>;

/** Some values are so long that the store keeps them in rows of their own; the history holds their beginning. */
const LONG_CHARS = 5_000;
const written = (value: Json): Json => (isLong(value) ? value.padEnd(LONG_CHARS, "-") : value);
const noted = (value: Json | undefined): Json | undefined => (isLong(value) ? value.replace(/-+$/, "") : value);
function isLong(value: Json | undefined): value is string {
  return typeof value === "string" && value.startsWith("long ");
}

/** Lists are kept this short, so that an answer repeats them. */
const ITEMS_MAX = 6;
const KEYS = ["a", "b", "c"] as const;

/** The tool and its arguments for a call. */
function request(scopeId: string, input: SpaceInput): [tool: string, args: Record<string, unknown>] {
  const scope = { scope: "workflow", scopeId };
  switch (input.call) {
    case "get":
      return ["get_state", { key: input.key, ...scope }];
    case "set": {
      const { key, value, ifRev } = input;
      return ["set_state", { key, value: written(value), ...scope, ...(ifRev === undefined ? {} : { ifRev }) }];
    }
    case "increment":
      return ["patch_state", { key: input.key, increment: input.by, ...scope }];
    case "append":
      return ["patch_state", { key: input.key, append: input.item, maxItems: input.maxItems, ...scope }];
    case "delete":
      return ["delete_state", { key: input.key, ...scope }];
    case "transact":
      return [
        "transact_state",
        {
          checks: input.checks.map((check) => ({ ...check, ...scope })),
          writes: input.writes.map((write) => ({
            ...write,
            ...("value" in write ? { value: written(write.value) } : {}),
            ...scope,
          })),
        },
      ];
  }
}

function outputOf({ isError, text, structured }: ToolAnswer): SpaceOutput {
  if (isError) return { ok: false, code: text.slice(0, text.indexOf(":")) };
  const { entry, deleted, entries } = structured as {
    entry?: { rev: number; value?: Json };
    deleted?: { rev: number };
    entries?: { rev: number }[];
  };
  const rev = entry?.rev ?? deleted?.rev ?? Math.max(...(entries ?? []).map((one) => one.rev));
  const value = noted(entry?.value);
  return { ok: true, rev, ...(value === undefined ? {} : { value }) };
}

/** Calls of any kind on a few keys, by one member; `diesFirst`: its first is a write with whose answer it is killed. */
export async function callAtRandom(
  member: Member,
  history: SpaceCall[],
  {
    scopeId,
    calls,
    diesFirst,
    killer,
    random,
  }: { scopeId: string; calls: number; diesFirst: boolean; killer: Killer; random: Random },
): Promise<void> {
  const known = new Map<string, number>();
  const pick = () => KEYS[random.integer(KEYS.length)] ?? "a";
  for (let made = 0; made < calls; made++) {
    const key = pick();
    const mark = `${member.agent} ${made}`;
    const value = random.integer(5) === 0 ? `long ${mark}` : random.integer(3) === 0 ? random.integer(100) : mark;
    const roll = random.integer(20);
    let input: SpaceInput;
    const dies = diesFirst && made === 0;
    if (dies) input = { call: "set", key, value };
    else if (roll < 5) input = { call: "get", key };
    else if (roll < 8) input = { call: "set", key, value };
    else if (roll < 12) input = { call: "set", key, value, ifRev: known.get(key) ?? 0 };
    else if (roll < 14) input = { call: "increment", key, by: 1 + random.integer(9) };
    else if (roll < 15) input = { call: "append", key, item: mark, maxItems: ITEMS_MAX };
    else if (roll < 17) input = { call: "delete", key };
    else {
      const [one, two] = [key, KEYS.find((other) => other !== key) ?? "b"];
      const checked = random.integer(2) === 0 ? [{ key: two, ifRev: known.get(two) ?? 0 }] : [];
      const second = random.integer(3) === 0 ? { key: two, delete: true as const } : { key: two, value: `${mark} too` };
      input = { call: "transact", checks: checked, writes: [{ key: one, value }, second] };
    }
    const [tool, args] = request(scopeId, input);
    const invoked = performance.now();
    try {
      const call = () => member.try(tool, args);
      // some die with the answer in their hands: the host does not know that the change is made
      const answered = dies || random.integer(2 * CALLS_PER_KILL) === 0;
      const answer = await (answered ? killer.after(member, call) : killer.during(member, call));
      expect(answer.text).not.toMatch(LOCK_WORDS);
      expect(answer.text, member.stderr).not.toMatch(/^(internal|unavailable)/);
      const output = outputOf(answer);
      history.push({ by: member.agent, invoked, returned: performance.now(), input, output });
      if (output.ok) known.set(key, input.call === "delete" ? 0 : output.rev);
      else known.delete(key);
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      history.push({ by: member.agent, invoked, input });
      await member.start();
    }
  }
}

export interface SeenChange {
  readonly key: string;
  readonly rev: number;
  readonly op: "set" | "delete" | "expire";
  readonly by: string;
  readonly value?: Json;
  readonly valueBytes?: number;
  readonly oldValue?: Json;
  readonly oldValueBytes?: number;
}

interface Waited {
  readonly changes: SeenChange[];
  readonly nextRev: number;
  readonly nextCursor?: string;
  readonly revision: number;
}

const WAIT_MS = 500;
/** So few that an answer often ends in the middle of a transaction. */
const PAGE = 3;
const TURNS_MAX = 100_000;

/** Follows the changes of a scope from the start until `isOver` of a revision; killed now and then, it goes on where it was. */
export async function follow(
  member: Member,
  scopeId: string,
  { killer, isOver }: { killer: Killer; isOver: (rev: number) => boolean },
): Promise<SeenChange[]> {
  const seen: SeenChange[] = [];
  let from: { sinceRev: number } | { cursor: string } = { sinceRev: 0 };
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    try {
      const args = { scope: "workflow", scopeId, prefix: "", limit: PAGE, waitMs: WAIT_MS, ...from };
      const answer = await killer.during(member, () => member.try("wait_for_state", args));
      expect(answer.isError, answer.text).toBe(false);
      const { changes, nextRev, nextCursor } = answer.structured as unknown as Waited;
      seen.push(...changes);
      from = nextCursor === undefined ? { sinceRev: nextRev } : { cursor: nextCursor };
      if (nextCursor === undefined && isOver(nextRev)) return seen;
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await member.start();
    }
  }
  throw new Error("The changes do not end");
}

/** As `follow`, but what it has read is remembered by the subscription alone: it comes again until it is acknowledged. */
export async function followSubscribed(
  member: Member,
  scopeId: string,
  { killer, isOver }: { killer: Killer; isOver: (rev: number) => boolean },
): Promise<SeenChange[]> {
  const { subscription } = (
    await member.try("subscribe_to_state_changes", { scope: "workflow", scopeId, prefix: "", fromRev: 0 })
  ).structured as unknown as { subscription: { id: string } };
  const subscriptionId = subscription.id;
  const seen: SeenChange[] = [];
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    try {
      const answer = await killer.during(member, () =>
        member.try("wait_for_state", { subscriptionId, limit: 2 * PAGE, waitMs: WAIT_MS }),
      );
      expect(answer.isError, answer.text).toBe(false);
      const { changes, nextRev } = answer.structured as unknown as Waited;
      seen.push(...changes);
      if (changes.length === 0 && !isOver(nextRev)) continue;
      const acknowledged = await killer.during(member, () =>
        member.try("acknowledge_state_changes", { subscriptionId, rev: nextRev }),
      );
      expect(acknowledged.isError, acknowledged.text).toBe(false);
      if (isOver(nextRev)) return seen;
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await member.start();
    }
  }
  throw new Error("The changes do not end");
}

/** Every change that the store's log has, as a host reads it. */
export async function readLog(host: Host, scopeId: string): Promise<SeenChange[]> {
  const changes: SeenChange[] = [];
  let from: Record<string, unknown> = { sinceRev: 0 };
  for (let turn = 0; turn < TURNS_MAX; turn++) {
    const page: Waited = await host.call("wait_for_state", { scope: "workflow", scopeId, prefix: "", limit: 100, ...from });
    changes.push(...page.changes);
    if (page.nextCursor === undefined && page.nextRev === page.revision) return changes;
    from = page.nextCursor === undefined ? { sinceRev: page.nextRev } : { cursor: page.nextCursor };
  }
  throw new Error("The log does not end");
}

/** Ways to explain the revisions that nobody was told of; more than one where the log no longer shows the values. */
const RESOLUTIONS_MAX = 200;

/**
 * The history with what became of the calls whose answer was lost: each revision that no answer named was made by one of them,
 * of the same agent, between its answered changes before and after; the others changed nothing. All ways in which that can be.
 */
export function resolutions(history: readonly SpaceCall[], log: readonly SeenChange[]): SpaceCall[][] {
  const revOf = ({ input, output }: SpaceCall) => (input.call !== "get" && output?.ok ? output.rev : undefined);
  const named = new Set(history.map(revOf));
  const lost = history.filter(({ output, input }) => output === undefined && input.call !== "get");
  const answered = history.filter(({ output }) => output !== undefined);
  const fits = (call: SpaceCall, rev: number) =>
    answered.every((other) => {
      const known = other.by === call.by ? revOf(other) : undefined;
      return known === undefined || known < rev === other.invoked < call.invoked;
    });
  const unnamed = [...Map.groupBy(log, (change) => change.rev)].filter(([rev]) => !named.has(rev));
  const found: SpaceCall[][] = [];
  const explain = (at: number, taken: ReadonlyMap<SpaceCall, number>): void => {
    if (found.length === RESOLUTIONS_MAX) return;
    const [rev, changes = []] = unnamed[at] ?? [];
    if (rev === undefined) {
      found.push([...answered, ...[...taken].map(([call, made]): SpaceCall => ({ ...call, output: { ok: true, rev: made } }))]);
      return;
    }
    for (const call of lost) {
      if (taken.has(call) || call.by !== changes[0]?.by || !madeBy(call.input, changes) || !fits(call, rev)) continue;
      explain(at + 1, new Map(taken).set(call, rev));
    }
  };
  explain(0, new Map());
  return found;
}

/** The log with values that it no longer shows, from those who saw them in time. */
export function withValues(
  log: readonly SeenChange[],
  seen: readonly (readonly SeenChange[])[],
  history: readonly SpaceCall[],
): SeenChange[] {
  const at = ({ rev, key }: { rev: number; key: string }) => `${rev} ${key}`;
  const shown = new Map<string, Pick<SeenChange, "value" | "valueBytes">>();
  for (const { value, valueBytes, ...change } of seen.flat()) {
    if (value !== undefined) shown.set(at(change), { value });
    if (valueBytes !== undefined) shown.set(at(change), { valueBytes });
  }
  for (const { input, output } of history) {
    if (input.call === "get" && output?.ok && output.value !== undefined && !isLong(output.value)) {
      shown.set(at({ rev: output.rev, key: input.key }), { value: output.value });
    }
  }
  return log.map((change) => ({ ...change, ...shown.get(at(change)) }));
}

/** Whether the call changes these keys in this way, as far as their values are shown. */
function madeBy(input: SpaceInput, changes: readonly SeenChange[]): boolean {
  const [first, second] = changes;
  if (first === undefined || input.call === "get") return false;
  if (input.call === "transact") {
    return changes.every((change) => {
      const write = input.writes.find(({ key }) => key === change.key);
      if (write === undefined || "delete" in write) return write !== undefined && change.op === "delete";
      return change.op === "set" && ("increment" in write || showsValue(change, write.value));
    });
  }
  if (second !== undefined || first.key !== input.key || (first.op === "delete") !== (input.call === "delete")) return false;
  switch (input.call) {
    case "set":
      return showsValue(first, input.value);
    case "increment":
      return first.value === undefined ? first.valueBytes === undefined : typeof first.value === "number";
    case "append":
      return first.value === undefined ? first.valueBytes === undefined : Array.isArray(first.value);
    case "delete":
      return true;
  }
}

function showsValue({ value, valueBytes }: SeenChange, expected: Json): boolean {
  if (valueBytes !== undefined) return isLong(expected);
  return value === undefined || JSON.stringify(value) === JSON.stringify(expected);
}

/** The space after each revision, by making the calls that made them one after the other. */
export function replay(history: readonly SpaceCall[]): SpaceState[] {
  const writes = history.filter(({ input, output }) => input.call !== "get" && output?.ok);
  const byRev = new Map(writes.map((call) => [call.output?.ok ? call.output.rev : 0, call]));
  const states = [stateSpace.initial];
  for (let rev = 1; rev <= byRev.size; rev++) {
    const call = byRev.get(rev);
    const [next] = call ? stateSpace.step(states[rev - 1] as SpaceState, call) : [];
    if (!next) throw new Error(`Revision ${rev} is not what its call makes: ${JSON.stringify(call)}`);
    states.push(next);
  }
  return states;
}

/** What differs between changes as they were shown and the space as it was; how many of them showed both values. */
export function compare(seen: readonly SeenChange[], states: readonly SpaceState[]): { wrong: string[]; whole: number } {
  const wrong: string[] = [];
  let whole = 0;
  for (const change of seen) {
    const { key, rev, op } = change;
    const [before, after] = [states[rev - 1]?.keys[key], states[rev]?.keys[key]];
    const fits = op === "set" ? after?.rev === rev : before !== undefined && after === undefined;
    if (!fits) wrong.push(`Revision ${rev} did not ${op} ${key}.`);
    for (const [name, value, bytes, was] of [
      ["value", change.value, change.valueBytes, after?.value],
      ["oldValue", change.oldValue, change.oldValueBytes, before?.value],
    ] as const) {
      if (value !== undefined && JSON.stringify(value) !== JSON.stringify(was)) wrong.push(`${name} of ${key} at ${rev}`);
      if (bytes !== undefined && bytes !== LONG_CHARS + 2) wrong.push(`bytes of ${name} of ${key} at ${rev}`);
    }
    const shown = (value: unknown, bytes: unknown, was: unknown) =>
      was === undefined || value !== undefined || bytes !== undefined;
    if (shown(change.value, change.valueBytes, after?.value) && shown(change.oldValue, change.oldValueBytes, before?.value))
      whole += 1;
  }
  return { wrong, whole };
}

/** What a host reads in the end is what the calls came to: each value, and each revision of its history. */
export async function readBack(host: Host, scopeId: string, states: readonly SpaceState[]): Promise<void> {
  const last = states.at(-1) as SpaceState;
  for (const key of KEYS) {
    const at = { key, scope: "workflow", scopeId };
    const answer = await host.try("get_state", at);
    const kept = last.keys[key];
    if (kept) expect(outputOf(answer)).toEqual({ ok: true, rev: kept.rev, value: kept.value });
    else expect(answer.text).toMatch(/^not_found/);
    const { revisions } = await host.call<{ revisions: { rev: number; op: string; value?: Json }[] }>("get_state_history", at);
    expect(revisions.length).toBeGreaterThan(0);
    for (const { rev, op, value } of revisions) {
      const then = states[rev]?.keys[key];
      expect(op === "set" ? then?.rev : then, `${key} at ${rev}`).toBe(op === "set" ? rev : undefined);
      if (value !== undefined) expect(noted(value)).toEqual(then?.value);
    }
  }
}

/** A list of texts, however long, put together from its parts. */
export async function readList(host: Host, key: string): Promise<string[]> {
  let text = "";
  for (let offset: number | undefined = 0; offset !== undefined; ) {
    const { part }: { part: { text: string; nextOffset?: number } } = await host.call("get_state", { key, offset });
    text += part.text;
    offset = part.nextOffset;
  }
  return JSON.parse(text) as string[];
}
