/** Locks and leaders as scripts: each command of golden/locks/*.txt with what came of it, in order, in seconds from the start. */
import { globSync } from "node:fs";
import { basename, join } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { golden } from "../../../test/support/golden.ts";
import { checkFence } from "../src/fence.ts";
import { type Machine, machine, type Process } from "./support/processes.ts";

const SCRIPTS = globSync(join(import.meta.dirname, "golden", "locks", "*.txt")).sort();
const MS = { ms: 1, s: 1_000, m: 60_000 } as const;
const DURATION = /^(\d+)(ms|s|m)$/;

function ms(text: string): number {
  const [, amount, unit] = DURATION.exec(text) ?? [];
  if (amount === undefined) throw new Error(`Not a duration: ${text}`);
  return Number(amount) * MS[unit as keyof typeof MS];
}

/** `deploy shared wait=5s` as words and options. */
function parse(words: readonly string[]): { plain: string[]; options: Map<string, string> } {
  const options = new Map<string, string>();
  const plain = words.filter((word) => {
    const [name, value] = word.split("=");
    if (name === undefined || value === undefined) return true;
    options.set(name, value);
    return false;
  });
  return { plain, options };
}

class Script {
  readonly #machine: Machine = machine();
  readonly #startedAt = this.#machine.clock.now();
  readonly #processes = new Map<string, Process>();
  readonly #waiting = new Map<string, AbortController>();
  #news: string[] = [];

  async run(command: string): Promise<string[]> {
    this.#news = [];
    const [verb = "", ...words] = command.split(/\s+/);
    const { plain, options } = parse(words);
    await this.#do(verb, plain, options);
    await this.#machine.pass(0);
    return this.#news;
  }

  async #do(verb: string, plain: string[], options: Map<string, string>): Promise<void> {
    const [first = "", ...rest] = plain;
    const [lock = "", last] = rest;
    switch (verb) {
      case "process": // <name> [remote]
        for (const name of plain.filter((word) => word !== "remote")) {
          this.#processes.set(name, this.#machine.process(name, { remote: plain.includes("remote") }));
        }
        return;
      case "pass":
        return this.#machine.pass(ms(first));
      case "kill":
        return this.#process(first).kill();
      case "stop":
        return this.#process(first).stop();
      case "continue":
        return this.#process(first).continue();
      case "close":
        return this.#process(first).close();
      case "cancel":
        return this.#waiting.get(`${first} ${lock}`)?.abort(new Error("cancelled"));
      case "acquire":
        return this.#start(first, lock, async ({ locks, call }, signal) => {
          const mode = last === "shared" ? "shared" : "exclusive";
          const ttlMs = options.has("ttl") ? ms(options.get("ttl") ?? "") : undefined;
          const waitMs = options.has("wait") ? ms(options.get("wait") ?? "") : 0;
          const answer = await locks.acquire(call, { name: lock, mode, ttlMs }, { waitMs, signal });
          const { fencingToken, leaseExpiresAt, endsAt } = answer.lock;
          const already = answer.alreadyHeld ? " already" : "";
          return `has ${lock} ${answer.lock.mode}${already}, token ${fencingToken}, lease to ${this.#at(leaseExpiresAt)}, end ${this.#at(endsAt)}`;
        });
      case "renew":
        return this.#start(first, lock, async ({ locks, call }) => {
          const answer = await locks.renew(call, {
            name: lock,
            ttlMs: options.has("ttl") ? ms(options.get("ttl") ?? "") : undefined,
          });
          return `keeps ${lock}, lease to ${this.#at(answer.lock.leaseExpiresAt)}, end ${this.#at(answer.lock.endsAt)}`;
        });
      case "release":
        return this.#start(first, lock, async ({ locks, call }) => {
          const fencingToken = options.has("token") ? Number(options.get("token")) : undefined;
          const answer = await locks.release(call, { name: lock, fencingToken });
          return `released ${lock}, ${answer.waiting} in line`;
        });
      case "write": // <agent> <lock> <token>: as a write that carries the token would
        return this.#start(first, lock, async ({ call }) => {
          const fence = { lock, fencingToken: Number(last) };
          await this.#machine.store.transact((tx) => checkFence(tx, fence, call.caller.agentId));
          return `may write with ${lock} token ${last}`;
        });
      case "elect":
        return this.#start(first, lock, async ({ leaders, call }, signal) => {
          const waitMs = options.has("wait") ? ms(options.get("wait") ?? "") : 0;
          const { leader } = await leaders.elect(call, { group: lock }, { waitMs, signal });
          return `${leader.you ? "leads" : `is a candidate; ${leader.agentId} leads`} ${lock}, term ${leader.term}, lease to ${this.#at(leader.leaseExpiresAt)}`;
        });
      case "resign":
        return this.#start(first, lock, async ({ leaders, call }) => {
          const { resigned, leader } = await leaders.resign(call, { group: lock });
          return `resigned${resigned.led ? " as leader" : ""}; ${leader ? `${leader.agentId} leads, term ${leader.term}` : "nobody leads"}`;
        });
      case "leader": {
        const [reader] = [...this.#processes.values()].filter((one) => one.state() === "runs");
        if (!reader) throw new Error("Nobody is there to ask");
        const { leader, candidates } = await reader.leaders.get(reader.call, { group: first });
        const who = leader ? `${leader.agentId} since ${this.#at(leader.sinceAt)}, term ${leader.term}` : "nobody";
        this.#news.push(`leader: ${who}; next: ${candidates.map(({ agentId }) => agentId).join(", ") || "nobody"}`);
        return;
      }
      case "list": {
        const [reader] = [...this.#processes.values()].filter((one) => one.state() === "runs");
        if (!reader) throw new Error("Nobody is there to ask");
        const { locks } = await reader.locks.list(reader.call);
        for (const { name, mode, holders, held, next, waiting } of locks) {
          const who = holders.map((one) => `${one.agentId} (${one.fencingToken})`).join(", ");
          this.#news.push(
            `${name}: ${held} ${mode ?? ""} ${who}; ${waiting} in line ${next.join(", ")}`.replace(/ +/g, " ").trim(),
          );
        }
        if (locks.length === 0) this.#news.push("no locks");
        return;
      }
      default:
        throw new Error(`Unknown command: ${verb}`);
    }
  }

  /** What comes of it is news whenever it comes. */
  #start(agent: string, on: string, work: (process: Process, signal: AbortSignal) => Promise<string>): void {
    const abort = new AbortController();
    this.#waiting.set(`${agent} ${on}`, abort);
    work(this.#process(agent), abort.signal).then(
      (outcome) => this.#news.push(`${agent} ${outcome}`),
      (error: unknown) => this.#news.push(`${agent} ${this.#refusal(error)}`),
    );
  }

  #refusal(error: unknown): string {
    if (!(error instanceof SwarmError))
      return error instanceof Error && error.message === "cancelled" ? "is cancelled" : String(error);
    const told = `${error.code}: ${error.message}${error.hint === undefined ? "" : ` ${error.hint}`}`;
    return told.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => this.#at(Date.parse(time)));
  }

  #process(name: string): Process {
    const found = this.#processes.get(name);
    if (!found) throw new Error(`There is no process ${name}`);
    return found;
  }

  #at(time: number): string {
    return `${(time - this.#startedAt) / 1_000}s`;
  }
}

test("there are scripts", () => {
  expect(SCRIPTS.length).toBeGreaterThan(5);
});

test.each(SCRIPTS.map((file) => [basename(file, ".txt"), file] as const))("%s", async (_, file) => {
  verifies("STATE-08", "STATE-09", "STATE-10");
  const script = new Script();
  await golden(file, (command) => script.run(command));
});
