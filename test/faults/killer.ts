/** kill -9 at random moments of the calls that hosts make. */
import type { Random } from "@mcp-swarm/core";
import { HostKilled, type Member } from "./crew.ts";

/** One call in so many is cut off by a kill, unless a test says otherwise. */
export const CALLS_PER_KILL = 12;
/** The kill comes at some moment between the start of the call and so many times what calls take just now. */
const KILL_SPREAD = 1.2;
const CALL_MS_GUESS = 5;
/** Weight of the last call in that estimate. */
const SMOOTHING = 0.2;

/** Kills so many hosts, each in the middle of a call of its own. */
export class Killer {
  left: number;
  readonly #random: Random;
  readonly #callsPerKill: number;
  #callMs = CALL_MS_GUESS;

  constructor(kills: number, random: Random, callsPerKill = CALLS_PER_KILL) {
    this.left = kills;
    this.#random = random;
    this.#callsPerKill = callsPerKill;
  }

  /** Makes the call, and now and then kills its server meanwhile. */
  async during<T>(member: Member, call: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    if (this.left === 0 || this.#random.integer(this.#callsPerKill) > 0) {
      const answer = await call();
      this.#callMs += SMOOTHING * (performance.now() - begun - this.#callMs);
      return answer;
    }
    this.left -= 1;
    const called = call();
    called.catch(() => {}); // looked at below
    const part = this.#random.integer(1_000) / 1_000;
    await new Promise((resolve) => setTimeout(resolve, part * KILL_SPREAD * this.#callMs));
    await member.kill();
    return await called;
  }

  /** Makes the call, kills its server once it has answered, and forgets the answer, while there are kills left. @throws HostKilled */
  async after<T>(member: Member, call: () => Promise<T>): Promise<T> {
    const answer = await call();
    if (this.left === 0) return answer;
    this.left -= 1;
    await member.kill();
    throw new HostKilled(`${member.agent} was killed with its answer`);
  }
}
