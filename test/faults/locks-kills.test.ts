/** Locks among processes that are killed as they take, hold and give them back. */
import type { Random } from "@mcp-swarm/core";
import { seededRandom } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Host, type ToolAnswer } from "../support/host.ts";
import { checkLinearizable, type Operation } from "../support/linearizability.ts";
import { type LockInput, type LockMode, type LockOutput, lockModel } from "../support/lock-model.ts";
import { HostKilled, Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { CALLS_PER_KILL, Killer } from "./killer.ts";
import { readList } from "./state-crew.ts";

const server = "shared-state";
const HOSTS = 8;
/** Long enough that a busy machine does not cost a living holder its lock. */
const LEASE_MS = 3_000;
const env = { SWARM_LEASE_MS: String(LEASE_MS) };
const SEED = Number(process.env.SWARM_SEED ?? 80_8);
const ENGINE_WORDS = /SQLITE|database is locked|deadlock|serializ|\b(40001|40P01)\b/i;

const KILLS = size(6, 120);
/** Calls whose answer is lost are few in each history, or there would be too many orders to look at. */
const ROUNDS = size(1, 15);
const LOCKS = 4;
const CALLS_EACH = 40;
const WAIT_MS = 45_000;

const TURNS_EACH = size(5, 40);
const CONTENDED = ["one", "two"] as const;
const CONTENDED_KILLS = size(2, 40);
const ABORT_MS_MAX = 40;

type Call = Operation<LockInput, LockOutput>;

function outputOf({ isError, text, structured }: ToolAnswer, token?: number): LockOutput {
  expect(text).not.toMatch(ENGINE_WORDS);
  expect(text).not.toMatch(ENGINE_WORDS);
  if (isError) return { ok: false, code: text.slice(0, text.indexOf(":")) };
  return { ok: true, token: token ?? (structured.lock as { fencingToken: number }).fencingToken };
}

/** Calls of one member on several locks, each noted in that lock's history. */
class Contender {
  readonly member: Member;
  readonly #histories: Map<string, Call[]>;
  readonly #killer: Killer;
  readonly #random: Random;
  #life = 0;
  /** Tokens that it was ever given, the dead ones too. */
  readonly #tokens = new Map<string, number[]>();

  constructor(member: Member, histories: Map<string, Call[]>, killer: Killer, random: Random) {
    this.member = member;
    this.#random = random;
    this.#histories = histories;
    this.#killer = killer;
  }

  get #process(): string {
    return `${this.member.agent}#${this.#life}`;
  }

  async #call(
    name: string,
    input: LockInput,
    { tool, args, forgets = this.#random.integer(2 * CALLS_PER_KILL) === 0 }: { tool: string; args: object; forgets?: boolean },
  ): Promise<LockOutput | undefined> {
    const history = this.#histories.get(name) ?? [];
    this.#histories.set(name, history);
    const invoked = performance.now();
    try {
      const call = () => this.member.try(tool, { ...args });
      // some die with the answer in their hands: nobody knows of the lock that they hold
      const answer = await (forgets ? this.#killer.after(this.member, call) : this.#killer.during(this.member, call));
      expect(answer.text, this.member.stderr).not.toMatch(/^(internal|unavailable)/);
      const output = outputOf(answer, "token" in input ? input.token : undefined);
      history.push({ by: this.member.agent, invoked, returned: performance.now(), input, output });
      return output;
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      history.push({ by: this.member.agent, invoked, input });
      this.#over(invoked);
      await this.member.start();
      return undefined;
    }
  }

  /** From now on it lives another life; what it held in this one ends some time. */
  #over(since: number): void {
    for (const one of this.#histories.values()) {
      one.push({ by: "its end", invoked: since, input: { call: "die", process: this.#process } });
    }
    this.#life += 1;
  }

  /** The clean end of its process. */
  async end(): Promise<void> {
    const invoked = performance.now();
    await this.member.close();
    this.#over(invoked);
  }

  /** @param forgets is killed with the answer */
  async acquire(name: string, mode: LockMode, { waitMs = 0, forgets }: { waitMs?: number; forgets?: true } = {}) {
    const { agent } = this.member;
    const input: LockInput = { call: "acquire", agent, process: this.#process, mode };
    const args = { name, mode, waitMs };
    const output = await this.#call(name, input, { tool: "acquire_lock", args, ...(forgets ? { forgets } : {}) });
    if (!output?.ok) return undefined;
    this.#tokens.set(name, [...(this.#tokens.get(name) ?? []), output.token]);
    return output.token;
  }

  async release(name: string, token: number): Promise<void> {
    const { agent } = this.member;
    await this.#call(name, { call: "release", agent, token }, { tool: "release_lock", args: { name, fencingToken: token } });
  }

  async write(name: string, token: number): Promise<void> {
    const { agent } = this.member;
    const args = { key: `${name}/${agent}`, increment: 1, lock: name, fencingToken: token };
    await this.#call(name, { call: "write", agent, token }, { tool: "patch_state", args });
  }

  async atRandom(names: readonly string[]): Promise<void> {
    const random = this.#random;
    for (let made = 0; made < CALLS_EACH; made++) {
      const name = names[random.integer(names.length)] ?? "";
      const roll = random.integer(10);
      const known = this.#tokens.get(name) ?? [];
      // mostly the newest of its tokens, sometimes one that is long over
      const token = known[random.integer(4) > 0 ? known.length - 1 : random.integer(known.length + 1)];
      if (roll < 5 || token === undefined) await this.acquire(name, random.integer(3) === 0 ? "shared" : "exclusive");
      else if (roll < 7) await this.write(name, token);
      else await this.release(name, token);
    }
  }
}

/**
 * The history without calls whose answer was lost and that changed nothing: each grant has a token of its own, so lost ones took
 * place only if tokens are missing; a write changes no lock; what a lost release did, the end of the process does as well.
 */
function withoutIdle(history: readonly Call[]): Call[] {
  const tokens = history.flatMap(({ input, output }) => (input.call === "acquire" && output?.ok ? [output.token] : []));
  const silent = Math.max(0, ...tokens) > new Set(tokens).size;
  return history.filter(({ input, output }) => output || input.call === "die" || (input.call === "acquire" && silent));
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${KILLS} times kill -9 among ${HOSTS} processes: the history of each lock is linearizable, its tokens rise over all restarts`, {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-08", "STATE-09", "STATE-11", "CORE-09");
    using meeting = await meet();
    const members = Array.from(
      { length: HOSTS },
      (_, at) => new Member(`agent-${at}`, { server, store: meeting.store, agent: `agent-${at}`, env }),
    );
    const outcomes = new Set<string>();
    let silent = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const seed = SEED + round * 100;
      const killer = new Killer(Math.ceil(KILLS / ROUNDS), seededRandom(seed));
      const histories = new Map<string, Call[]>();
      const names = Array.from({ length: LOCKS }, (_, at) => `lock-${round}-${at}`);
      await Promise.all(members.map((member) => member.start()));
      const contenders = members.map((member, at) => new Contender(member, histories, killer, seededRandom(seed + 1 + at)));
      try {
        await contenders[0]?.acquire(names[0] ?? "", "exclusive", { forgets: true });
        await Promise.all(contenders.map((one) => one.atRandom(names)));
        // whoever still holds a lock gives it back by ending; then each lock is had once more, after the leases of the dead
        killer.left = 0;
        await Promise.all(contenders.map((one) => one.end()));
        const [last] = contenders as [Contender];
        await last.member.start();
        for (const name of names) {
          const token = await last.acquire(name, "exclusive", { waitMs: WAIT_MS });
          expect(token, `seed ${seed}, ${name}`).toBeDefined();
          await last.write(name, token ?? 0);
        }
      } finally {
        await Promise.all(members.map((member) => member.close()));
      }
      for (const [name, history] of histories) {
        const verdict = checkLinearizable(withoutIdle(history), lockModel);
        expect(verdict, `seed ${seed}, ${name}: ${JSON.stringify(verdict, null, 1).slice(0, 4_000)}`).toEqual({
          linearizable: true,
        });
        if (withoutIdle(history).some(({ input, output }) => input.call === "acquire" && !output)) silent += 1;
        for (const { input, output } of history) {
          outcomes.add(`${input.call} ${output === undefined ? "lost" : output.ok ? "ok" : output.code}`);
        }
      }
      await using after = await Host.start({ server, store: meeting.store, agent: "after", env });
      for (const name of names) {
        const tokens = (histories.get(name) ?? []).flatMap(({ output }) => (output?.ok ? [output.token] : []));
        const { lock } = await after.call<{ lock: { fencingToken: number } }>("acquire_lock", { name });
        expect(lock.fencingToken).toBe(Math.max(...tokens) + 1);
      }
    }
    for (const outcome of ["acquire ok", "acquire conflict", "write ok", "release ok", "release failed_precondition"]) {
      expect([...outcomes], `seed ${SEED}`).toContain(outcome);
    }
    expect(silent, `seed ${SEED}`).toBeGreaterThan(0); // locks that nobody knows to be held were among them
  });

  test(`${HOSTS} processes in line for locks, some killed, some giving up: no two hold one at once, none waits for ever`, {
    timeout: 900_000,
  }, async () => {
    verifies("STATE-08", "CORE-10", "CORE-09");
    using meeting = await meet();
    const members = Array.from(
      { length: HOSTS },
      (_, at) => new Member(`agent-${at}`, { server, store: meeting.store, agent: `agent-${at}`, env }),
    );
    const killer = new Killer(CONTENDED_KILLS, seededRandom(SEED));
    let abandoned = 0;
    const work = async (member: Member, random: Random) => {
      for (let turn = 0; turn < TURNS_EACH; turn++) {
        const name = CONTENDED[random.integer(CONTENDED.length)] ?? "one";
        const mode = random.integer(3) === 0 ? "shared" : "exclusive";
        try {
          const stop = random.integer(6) === 0 ? AbortSignal.timeout(random.integer(ABORT_MS_MAX)) : undefined;
          const asking = member.try(
            "acquire_lock",
            { name, mode, waitMs: WAIT_MS },
            { timeout: 2 * WAIT_MS, ...(stop ? { signal: stop } : {}) },
          );
          const answer = await asking.catch((error: unknown) => {
            if (error instanceof HostKilled || !stop?.aborted) throw error;
            return undefined;
          });
          if (answer === undefined) {
            abandoned += 1;
            // the grant may have been on its way when it gave up: then the lock is its own, and nobody else gives it back
            const back = await member.try("release_lock", { name });
            if (back.isError) expect(back.text).toMatch(/^failed_precondition: /);
            continue;
          }
          expect(answer.isError, answer.text).toBe(false);
          const { fencingToken: token } = answer.structured.lock as { fencingToken: number };
          // a write that carries no token: what is in the log in the wrong order was done while another held the lock
          const note = (what: "begin" | "end") =>
            member.try("patch_state", { key: `log/${name}`, append: `${what} ${token} ${mode} ${member.agent}` });
          for (const what of ["begin", "end"] as const) {
            const noted = await killer.during(member, () => note(what));
            expect(noted.isError, noted.text).toBe(false);
          }
          const released = await member.try("release_lock", { name, fencingToken: token });
          expect(released.isError, released.text).toBe(false);
        } catch (error) {
          if (!(error instanceof HostKilled)) throw error;
          await member.start();
        }
      }
    };
    await Promise.all(members.map((member) => member.start()));
    try {
      await Promise.all(members.map((member, at) => work(member, seededRandom(SEED + 50 + at))));
    } finally {
      await Promise.all(members.map((member) => member.close()));
    }
    await using reader = await Host.start({ server, store: meeting.store, agent: "reader", env });
    for (const name of CONTENDED) {
      const log = await readList(reader, `log/${name}`);
      expect(overlaps(log), `seed ${SEED}:\n${log.join("\n")}`).toEqual([]);
      const { lock } = await reader.call<{ lock: { fencingToken: number } }>(
        "acquire_lock",
        { name, waitMs: WAIT_MS },
        { timeout: 2 * WAIT_MS },
      );
      expect(lock.fencingToken).toBeGreaterThan(Math.max(...log.map((line) => Number(line.split(" ")[1]))));
    }
    expect(abandoned).toBeGreaterThan(0);
    expect(members.map(({ stderr }) => stderr).join("")).toBe("");
  });
});

/**
 * Where a holding began while another that excludes it was not over. Who was killed never says that it ended: its holding is
 * over when another that excludes it has begun, and then nothing more of it may come.
 */
function overlaps(log: readonly string[]): string[] {
  const wrong: string[] = [];
  const open = new Map<number, string>();
  const passed = new Set<number>();
  let highest = 0;
  for (const line of log) {
    const [what, token, mode] = [line.split(" ")[0], Number(line.split(" ")[1]), line.split(" ")[2] ?? ""];
    if (passed.has(token)) wrong.push(`${line}: another had begun`);
    if (what === "end") {
      if (!open.delete(token)) wrong.push(`${line}: it had not begun`);
      continue;
    }
    if (mode === "exclusive" && token < highest) wrong.push(`${line}: ${highest} had begun`);
    for (const [other, otherMode] of open) {
      if (mode === "shared" && otherMode === "shared") continue;
      open.delete(other);
      passed.add(other);
    }
    open.set(token, mode);
    highest = Math.max(highest, token);
  }
  return wrong;
}
