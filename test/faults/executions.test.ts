/**
 * kill -9 of workers and servers while code runs: no acknowledged task is lost, none is run by two at once, attempts are counted, all end.
 * The runs themselves are the witnesses: each writes the time into a file of its own, again and again, until it ends or is killed.
 */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { type Random, seededRandom } from "@mcp-swarm/core";
import { openStore, prefixRange } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { eventually, temporaryFolder } from "../support/host.ts";
import { processesWith, WorkerProcess } from "../support/workers.ts";
import { HostKilled, LOCK_WORDS, Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";

const WORKERS = 3;
const HOSTS = 2;
const KILLS = size(15, 100);
const SEED = Number(process.env.SWARM_SEED ?? 20_26);
/** Long enough that a busy machine does not cost a living worker its lease. */
const LEASE_MS = 4_000;
/** Handed over besides those that are handed over while there are kills to come. */
const TASKS_MIN = 30;
const TASKS_MAX = 600;
/** Most that wait or run at once: the last are not to wait for all the others. */
const BACKLOG_MAX = 12;
/** Between two kills. */
const KILL_GAP_MS_MAX = 900;
/** Between two tries of a host that is being started again, or has handed over enough. */
const BACK_MS = 20;
const ALL_END_MS_MAX = 120_000;
/** A run's clock is the machine's, read in µs. */
const RUN = `
file=/mnt/witness/$1.$BASHPID.$RANDOM$RANDOM
echo "ran $1"
for tick in 1 2 3 4 5 6 7 8; do echo "$EPOCHREALTIME" >> "$file"; sleep 0.03; done
echo end >> "$file"
`;

interface Stored {
  readonly id: string;
  readonly status: string;
  readonly attempt: number;
  readonly spent: number;
  readonly result?: { readonly stdout: { readonly head: string } };
}

/** One run, as it witnessed itself. */
interface Witnessed {
  readonly from: number;
  readonly to: number;
  readonly ended: boolean;
}

function witnessedIn(folder: string): Map<string, Witnessed[]> {
  const runs = new Map<string, Witnessed[]>();
  for (const name of readdirSync(folder)) {
    const label = name.slice(0, name.indexOf("."));
    const lines = readFileSync(join(folder, name), "utf8").split("\n").slice(0, -1); // one that was cut off is no time
    const times = lines.filter((line) => line !== "end").map(Number);
    const [from, to] = [times[0], times.at(-1)];
    if (from === undefined || to === undefined) continue;
    runs.set(label, [...(runs.get(label) ?? []), { from, to, ended: lines.at(-1) === "end" }]);
  }
  for (const of of runs.values()) of.sort((a, b) => a.from - b.from);
  return runs;
}

/** A worker that is started again whenever it was killed. */
class Mortal {
  readonly #start: () => Promise<WorkerProcess>;
  #now: WorkerProcess | undefined;
  stderr = "";

  constructor(start: () => Promise<WorkerProcess>) {
    this.#start = start;
  }

  async start(): Promise<void> {
    this.#now = await this.#start();
  }

  async kill(): Promise<void> {
    await this.#now?.kill();
    this.stderr += this.#now?.stderr ?? "";
  }

  async end(): Promise<void> {
    const code = await this.#now?.end();
    this.stderr += this.#now?.stderr ?? "";
    if (code !== 0) throw new Error(`A worker ended with ${code}:\n${this.stderr}`);
  }
}

/** What was acknowledged, by the label that its runs know it by. */
type Ledger = Map<string, string>;

async function handOver(host: Member, ledger: Ledger, more: () => boolean, open: () => Promise<number>): Promise<void> {
  for (let n = 0; more(); ) {
    try {
      if ((await open()) >= BACKLOG_MAX) {
        await pause(BACK_MS);
        continue;
      }
      n += 1;
      const label = `${host.agent}-${n}-${ledger.size}`;
      const { isError, text, structured } = await host.try("submit_task", {
        ...{ code: RUN, environment: "witness", args: [label], maxAttempts: 20 },
      });
      if (isError || LOCK_WORDS.test(text)) throw new Error(`${host.agent} was told: ${text}`);
      ledger.set(label, (structured.task as { id: string }).id);
    } catch (error) {
      if (!(error instanceof HostKilled)) throw error;
      await pause(BACK_MS); // it is started again by whoever killed it
    }
  }
}

async function killSome(members: readonly { kill(): Promise<void>; start(): Promise<void> }[], random: Random): Promise<void> {
  for (let kills = 0; kills < KILLS; kills++) {
    await pause(random.integer(KILL_GAP_MS_MAX));
    const victim = members[random.integer(members.length)];
    await victim?.kill();
    await victim?.start();
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  const title = `${KILLS} times kill -9 among ${WORKERS} workers and ${HOSTS} servers that work too loses no task and runs none twice at once`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("CORE-09", "EXEC-07", "EXEC-09", "EXEC-10");
    using meeting = await meet();
    using folder = temporaryFolder();
    const witness = join(folder.path, "witness");
    mkdirSync(witness);
    chmodSync(folder.path, 0o755);
    chmodSync(witness, 0o1777); // runs have users of their own
    const file = join(folder.path, "operator.json");
    const environment = { name: "witness", runtime: "bash", mounts: [{ from: witness, to: "/mnt/witness", readOnly: false }] };
    writeFileSync(file, JSON.stringify({ environments: [environment] }));
    const env = { SWARM_EXEC_CONFIG: file, SWARM_EXEC_SLOTS: "1", SWARM_LEASE_MS: String(LEASE_MS) };

    const { store: url } = meeting;
    const store = await openStore(url);
    const workers = Array.from(
      { length: WORKERS },
      () => new Mortal(() => WorkerProcess.start({ store: url, env, args: ["--environments", "witness"] })),
    );
    const hosts = Array.from(
      { length: HOSTS },
      (_, n) => new Member(`host-${n}`, { server: "distributed-execution", store: url, env }),
    );
    const ledger: Ledger = new Map();
    const records = async () => {
      const found: Stored[] = [];
      for (let after: string | undefined; ; ) {
        const page = await store.scan(prefixRange("exec/", 1_000, after === undefined ? {} : { after }));
        found.push(...page.map(({ value }) => value as unknown as Stored));
        after = page.at(-1)?.key;
        if (page.length < 1_000) return found;
      }
    };
    const open = async () => (await records()).filter(({ status }) => status === "queued" || status === "running").length;
    await Promise.all([...workers, ...hosts].map((one) => one.start()));
    let killing = true;
    const more = () => ledger.size < TASKS_MAX && (killing || ledger.size < TASKS_MIN);
    await Promise.all([
      killSome([...workers, ...hosts], seededRandom(SEED)).finally(() => {
        killing = false;
      }),
      ...hosts.map((host) => handOver(host, ledger, more, open)),
    ]);
    await eventually("all that was handed over has ended", async () => (await open()) === 0, ALL_END_MS_MAX);
    await Promise.all([...workers.map((worker) => worker.end()), ...hosts.map((host) => host.close())]);

    const all = new Map((await records()).map((record) => [record.id, record]));
    await store.close();
    const runs = witnessedIn(witness);
    expect(ledger.size).toBeGreaterThanOrEqual(TASKS_MIN);
    const wrong: string[] = [];
    for (const [label, id] of ledger) {
      const record = all.get(id);
      const witnessed = runs.get(label) ?? [];
      if (record?.status !== "succeeded" || record.result?.stdout.head !== `ran ${label}\n`) {
        wrong.push(`${label} was acknowledged and is ${record?.status}: ${JSON.stringify(record?.result)}`);
        continue;
      }
      if (!witnessed.some(({ ended }) => ended)) wrong.push(`${label} succeeded and no run came to its end.`);
      if (witnessed.length > record.attempt) wrong.push(`${label} ran ${witnessed.length} times in ${record.attempt} attempts.`);
      if (record.spent !== record.attempt - 1) wrong.push(`${label}: attempt ${record.attempt}, ${record.spent} spent.`);
      witnessed.forEach(({ from }, at) => {
        const before = witnessed[at - 1];
        if (before && before.to >= from) wrong.push(`${label} ran twice at once: until ${before.to} and from ${from}.`);
      });
    }
    expect(wrong, `seed ${SEED}`).toEqual([]);
    expect([...all.values()].filter(({ status }) => status !== "succeeded")).toEqual([]);
    const attempts = [...all.values()].reduce((sum, { attempt }) => sum + attempt, 0);
    expect(attempts).toBeGreaterThan(all.size); // kills in the middle of runs were among them
    const kept = [...workers, ...hosts].map(({ stderr }) => stderr).join("");
    expect(LOCK_WORDS.test(kept), kept).toBe(false);
    await eventually("no process of any run is left", () => processesWith(witness).length === 0);
    console.log(`${KILLS} kills: ${ledger.size} tasks acknowledged, ${all.size} ended, in ${attempts} attempts`);
  });
});
