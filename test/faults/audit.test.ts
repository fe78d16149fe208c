/** The audit log under kill -9, on a full disk, and under calls at once. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { generateKeyPairSync, type JsonWebKey, sign } from "node:crypto";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { type Random, seededRandom, systemClock, systemRandom } from "@mcp-swarm/core";
import { AUDIT_PREFIX, AuditLog, type AuditReport, copiesIn, keyIdOf, verifyAuditLog } from "@mcp-swarm/identity/audit";
import { openStore, prefixRange, SCAN_LIMIT_MAX, type Store } from "@mcp-swarm/store";
import { describe, expect, inject, test } from "vitest";
import { verifies } from "../requirements.ts";
import { temporaryFolder } from "../support/host.ts";
import { freshDatabase } from "../support/postgres.ts";
import type { WriterTask } from "./audit-writer.ts";
import { ENGINES, size } from "./engines.ts";
import { mayMount, onSmallDisk } from "./small-disk.ts";

const WRITER = join(import.meta.dirname, "audit-writer.ts");
const ORIGIN = "mcp-swarm/kills/audit";
const WRITERS = 8;
const KILLS = size(24, 200);
const SEED = Number(process.env.SWARM_SEED ?? 20_26);
/** A writer is killed once so many more of its operations were acknowledged. */
const ACKNOWLEDGED_MAX = 160;

/** One agent, and its process, which is killed and started again. */
class Writer {
  readonly agent: string;
  readonly key: JsonWebKey;
  readonly acknowledged: string[] = [];
  closed = false;
  readonly #task: Omit<WriterTask, "life" | "agent" | "key">;
  #process: ChildProcessByStdio<Writable, Readable, Readable> | undefined;
  #lives = 0;
  #errors = "";
  #heard: (() => void) | undefined;

  constructor(agent: string, task: Omit<WriterTask, "life" | "agent" | "key">) {
    this.agent = agent;
    this.key = generateKeyPairSync("ed25519").privateKey.export({ format: "jwk" });
    this.#task = task;
  }

  start(): void {
    this.#lives += 1;
    const task: WriterTask = { ...this.#task, agent: this.agent, key: this.key, life: `${this.agent}-${this.#lives}` };
    const child = spawn(process.execPath, [WRITER, JSON.stringify(task)], { stdio: ["pipe", "pipe", "pipe"] });
    child.stdin.on("error", () => {}); // it may have been killed
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errors += text;
    });
    createInterface(child.stdout).on("line", (line) => {
      if (line === "closed") this.closed = true;
      else if (line.split(".").length === 3 && /\.\d+$/.test(line)) this.acknowledged.push(line);
      this.#heard?.();
    });
    child.once("exit", () => this.#heard?.());
    this.#process = child;
  }

  /** Waits until so many more operations were acknowledged. */
  async works(count: number): Promise<void> {
    const until = this.acknowledged.length + count;
    while (this.acknowledged.length < until) {
      if (this.#process?.exitCode !== null || this.#process.signalCode !== null)
        throw new Error(`${this.agent} ended by itself:\n${this.#errors}`);
      await new Promise<void>((resolve) => {
        this.#heard = resolve;
      });
    }
  }

  async kill(): Promise<void> {
    await this.#end((child) => child.kill("SIGKILL"));
  }

  async stop(): Promise<void> {
    await this.#end((child) => child.stdin.write("stop\n"));
    expect(this.closed, this.#errors).toBe(true);
    expect(this.#errors).toBe("");
  }

  async #end(how: (child: ChildProcessByStdio<Writable, Readable, Readable>) => void): Promise<void> {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "close");
    how(child);
    await gone;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

async function keysUnder(store: Store, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(prefix, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    keys.push(...page.map(({ key }) => key));
    after = page.at(-1)?.key;
    if (after === undefined || page.length < SCAN_LIMIT_MAX) return keys;
  }
}

async function resourcesIn(store: Store): Promise<string[]> {
  const resources: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = await store.scan(prefixRange(AUDIT_PREFIX, SCAN_LIMIT_MAX, after === undefined ? {} : { after }));
    resources.push(...page.map(({ value }) => String((value as { resource: string }).resource)));
    after = page.at(-1)?.key;
    if (after === undefined || page.length < SCAN_LIMIT_MAX) return resources;
  }
}

function verify(
  store: Store,
  writers: readonly Pick<Writer, "agent" | "key">[],
  copies: readonly string[],
): Promise<AuditReport> {
  const keys = new Map(writers.map(({ agent, key }) => [`${agent} ${keyIdOf(agent, String(key.x))}`, String(key.x)]));
  return verifyAuditLog({ store, origin: ORIGIN, publicKey: (agent, keyId) => keys.get(`${agent} ${keyId}`), copies });
}

async function killAndStart(writer: Writer, kills: number, random: Random): Promise<void> {
  for (let n = 0; n < kills; n++) {
    await writer.works(1 + random.integer(ACKNOWLEDGED_MAX));
    await writer.kill();
    writer.start();
  }
  await writer.works(1);
}

describe.each(ENGINES)("on $name", ({ meet }) => {
  const title = `${KILLS} times kill -9 among ${WRITERS} writing processes leaves whole chains, and an entry for each operation`;
  test(title, { timeout: 900_000 }, async () => {
    verifies("SEC-09", "CORE-09");
    using meeting = await meet();
    using folder = temporaryFolder();
    const copyTo = join(folder.path, "checkpoints");
    await using all = new AsyncDisposableStack();
    const writers = Array.from({ length: WRITERS }, (_, n) =>
      all.use(new Writer(`writer-${n}`, { url: meeting.store, origin: ORIGIN, copyTo: `${copyTo}-${n}` })),
    );
    for (const writer of writers) writer.start();
    await Promise.all(writers.map((writer, n) => killAndStart(writer, KILLS / WRITERS, seededRandom(SEED + n))));
    for (const writer of writers) await writer.stop();

    const store = await openStore(meeting.store);
    try {
      const copies = writers.flatMap((_, n) =>
        existsSync(`${copyTo}-${n}`) ? copiesIn(readFileSync(`${copyTo}-${n}`, "utf8")) : [],
      );
      const report = await verify(store, writers, copies);
      expect(report.firstBad, `seed ${SEED}`).toBeUndefined();
      expect(report.checkpoints).toBeGreaterThanOrEqual(WRITERS);
      expect(copies.length).toBeGreaterThanOrEqual(WRITERS);
      const done = (await keysUnder(store, "operation/")).map((key) => key.slice("operation/".length)).sort();
      const resources = await resourcesIn(store);
      expect(resources.filter((resource) => resource !== "flood").sort()).toEqual(done);
      const kept = new Set(done);
      const acknowledged = writers.flatMap((writer) => writer.acknowledged);
      expect(acknowledged.filter((name) => !kept.has(name))).toEqual([]);
      // each life wrote its flood once, and how often it came when it ended in good order
      const floods = resources.filter((resource) => resource === "flood").length;
      expect(floods).toBeLessThanOrEqual(KILLS + WRITERS * 2);
      console.log(
        `${KILLS} kills: ${acknowledged.length} acknowledged operations and ${report.rows} entries in ${report.chains} chains, ` +
          `${report.checkpoints} checkpoints, ${report.uncovered} entries of the killed not covered`,
      );

      // and of this log, too, a change is found
      const [victim = ""] = (await keysUnder(store, AUDIT_PREFIX)).slice(Math.floor(report.rows / 2));
      await store.transact((tx) => tx.put(victim, { ...(tx.get(victim)?.value as object), agentId: "innocent" }));
      expect(await verify(store, writers, copies)).toMatchObject({ ok: false, firstBad: { what: "edited", key: victim } });
    } finally {
      await store.close();
    }
  });
});

/** A log of a process in this one. */
function auditLog(store: Store, agent: string) {
  const { privateKey } = generateKeyPairSync("ed25519");
  const key = privateKey.export({ format: "jwk" });
  const errors: unknown[] = [];
  const log = new AuditLog({
    store,
    clock: systemClock,
    random: systemRandom,
    processId: agent,
    origin: ORIGIN,
    signer: () => ({ name: agent, publicKey: String(key.x), sign: (bytes) => sign(null, bytes, privateKey) }),
    onError: (error) => errors.push(error),
  });
  return { log, errors, agent, key };
}

const about = (resource: string) => ({
  ...{ agentId: "writer", verified: true, operation: "test:write", resource },
  ...({ outcome: "permit", reason: "permitted" } as const),
});

describe.runIf(mayMount)("on a full disk", () => {
  test("no operation takes place without its entry, and work goes on once there is space", { timeout: 300_000 }, async () => {
    verifies("SEC-09");
    await onSmallDisk(async (disk) => {
      const ballast = join(disk.path, "ballast");
      writeFileSync(ballast, Buffer.alloc(4_000_000));
      const store = await openStore(`sqlite:${join(disk.path, "swarm.db")}`);
      const writer = auditLog(store, "writer");
      const operate = (n: number, bytes: number) =>
        writer.log.transact(
          (plan) => store.transact(plan),
          (tx, append) => {
            tx.put(`operation/${n}`, "x".repeat(bytes));
            append(about(`${n}`));
          },
        );
      const acknowledged: string[] = [];
      let refusal: unknown;
      for (let n = 0; n < 4_000 && refusal === undefined; n++) {
        try {
          await operate(n, 8_000);
          acknowledged.push(`${n}`);
        } catch (error) {
          refusal = error;
        }
      }
      expect(refusal).toMatchObject({ code: "limit_exceeded" });
      await expect(writer.log.write(about("denied".repeat(40)))).rejects.toMatchObject({ code: "limit_exceeded" });
      rmSync(ballast);
      await operate(10_000, 10);
      acknowledged.push("10000");
      await writer.log.close();
      const done = (await keysUnder(store, "operation/")).map((key) => key.slice("operation/".length));
      expect(done.sort()).toEqual(acknowledged.sort());
      expect((await resourcesIn(store)).sort()).toEqual(done);
      expect(await verify(store, [writer], [])).toMatchObject({ ok: true, uncovered: 0, rows: done.length });
      await store.close();
    });
  });
});

describe("calls at once of one process on PostgreSQL", () => {
  const CALLS = 16;
  const ROUNDS = 12;

  /** How often plans ran for calls that come `CALLS` at once. */
  async function runsOf(call: (name: string, ran: () => void) => Promise<void>): Promise<number> {
    let runs = 0;
    for (let round = 0; round < ROUNDS; round++) {
      await Promise.all(Array.from({ length: CALLS }, (_, n) => call(`${round}-${n}`, () => runs++)));
    }
    return runs;
  }

  test("do not wait for one another's entries: no plan runs again for them, as all do with one chain", {
    timeout: 120_000,
  }, async () => {
    verifies("SEC-09", "SEC-16");
    const store = await openStore(await freshDatabase(inject("postgresUrl")));
    try {
      const writer = auditLog(store, "writer");
      const own = await runsOf((name, ran) =>
        writer.log.transact(
          (plan) => store.transact(plan),
          (tx, append) => {
            ran();
            tx.put(`operation/${name}`, name);
            append(about(name));
          },
        ),
      );
      const shared = await runsOf((name, ran) =>
        store.transact((tx) => {
          ran();
          const head = Number(tx.get("one-chain/head")?.value ?? 0) + 1;
          tx.put(`operation/${name}`, name);
          tx.put("one-chain/head", head);
        }),
      );
      await writer.log.close();
      const calls = CALLS * ROUNDS;
      console.log(`${calls} calls: plans ran ${own} times with lanes, ${shared} times with one chain`);
      expect(own).toBeLessThan(calls * 1.5); // on a busy machine some run again with a fresh time
      expect(shared).toBeGreaterThan(own * 1.5);
      expect(await verify(store, [writer], [])).toMatchObject({ ok: true, rows: calls, uncovered: 0 });
    } finally {
      await store.close();
    }
  });
});
