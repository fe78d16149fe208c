/** Changes that a kill cut off and that are made again under their key: each counts once, whether it had been made or not. */
import { type Random, seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host } from "../support/host.ts";
import { HostKilled, Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { CALLS_PER_KILL, Killer } from "./killer.ts";
import { readList } from "./state-crew.ts";

const server = "shared-state";
const HOSTS = 8;
const STEPS_EACH = size(15, 100);
const KILLS = size(8, 120);
const ACCOUNTS = 3;
const AMOUNT = 1_000;
const SEED = Number(process.env.SWARM_SEED ?? 1_212);
/** Lives that one call may cost. */
const TRIES_MAX = 20;

/** Makes a call until it is answered, each time under the same key. */
async function certainly(
  member: Member,
  { tool, args, killer, random }: { tool: string; args: Record<string, unknown>; killer: Killer; random: Random },
): Promise<void> {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const call = () => member.try(tool, args);
    try {
      const dies = random.integer(2 * CALLS_PER_KILL) === 0;
      const answer = await (dies ? killer.after(member, call) : killer.during(member, call));
      expect(answer.isError, `${answer.text}\n${member.stderr}`).toBe(false);
      return;
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await member.start();
    }
  }
  throw new Error(`${member.agent} was killed ${TRIES_MAX} times in one call`);
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${KILLS} times kill -9 among ${HOSTS} hosts that count, append and move amounts: nothing is counted twice, nothing is lost`, {
    timeout: 900_000,
  }, async () => {
    verifies("CORE-12", "CORE-09", "STATE-03", "STATE-04");
    using meeting = await meet();
    const members = Array.from({ length: HOSTS }, (_, at) => new Member(`agent-${at}`, { server, store: meeting.store }));
    const killer = new Killer(KILLS, seededRandom(SEED));
    await using reader = await Host.start({ server, store: meeting.store, agent: "reader" });
    for (let account = 0; account < ACCOUNTS; account++) {
      await reader.call("set_state", { key: `account/${account}`, value: AMOUNT });
    }
    await Promise.all(members.map((member) => member.start()));
    const marks: string[] = [];
    try {
      await Promise.all(
        members.map(async (member, at) => {
          const random = seededRandom(SEED + 1 + at);
          for (let step = 0; step < STEPS_EACH; step++) {
            const mark = `${member.agent} step ${step}`;
            marks.push(mark);
            const make = (tool: string, args: Record<string, unknown>) =>
              certainly(member, { tool, args: { ...args, idempotencyKey: `${mark} ${tool}` }, killer, random });
            if (step % 3 === 0) await make("patch_state", { key: "list", append: mark });
            else {
              const from = random.integer(ACCOUNTS);
              const to = (from + 1 + random.integer(ACCOUNTS - 1)) % ACCOUNTS;
              const amount = 1 + random.integer(10);
              await make("transact_state", {
                writes: [
                  { key: `account/${from}`, increment: -amount },
                  { key: `account/${to}`, increment: amount },
                  { key: "list", append: mark },
                ],
              });
            }
            await certainly(member, {
              tool: "patch_state",
              args: { key: "count", increment: 1, idempotencyKey: `${mark} count` },
              killer,
              random,
            });
          }
        }),
      );
    } finally {
      await Promise.all(members.map((member) => member.close()));
    }
    expect(killer.left, `seed ${SEED}`).toBe(0);
    const valueAt = async (key: string) => (await reader.call<{ entry: { value: unknown } }>("get_state", { key })).entry.value;
    expect(await valueAt("count")).toBe(HOSTS * STEPS_EACH);
    const list = await readList(reader, "list");
    expect(list.toSorted()).toEqual(marks.toSorted());
    let sum = 0;
    for (let account = 0; account < ACCOUNTS; account++) sum += Number(await valueAt(`account/${account}`));
    expect(sum).toBe(ACCOUNTS * AMOUNT);
    // one revision for each change, and none for a repetition
    const { revision } = await reader.call<{ revision: number }>("list_state");
    expect(revision).toBe(ACCOUNTS + 2 * marks.length);
  });
});
