/** What values do, said as simply as possible: all revisions of all keys of one space, kept for good. */
import { type Json, mergePatch } from "@mcp-swarm/core";
import { sameJson } from "../../src/patching.ts";

export class Refused extends Error {
  readonly code: string;
  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

interface Entry {
  rev: number;
  createdRev: number;
  version: number;
  value: Json;
  expiresAt: number;
}

export interface ModelChange {
  rev: number;
  key: string;
  op: "set" | "delete" | "expire";
  value?: Json;
  old?: Json;
}

export type ModelWrite = { key: string } & (
  | { value: Json; ttlMs?: number | undefined }
  | { delete: true }
  | { increment: number }
);

export class StateModel {
  now: number;
  revision = 0;
  readonly log: ModelChange[] = [];
  readonly #live = new Map<string, Entry>();

  constructor(now: number) {
    this.now = now;
  }

  /** The revision of a key that has a value now, else 0. */
  rev(key: string): number {
    return this.#alive(key)?.rev ?? 0;
  }

  get(key: string): { value: Json; rev: number; createdRev: number; version: number } {
    const entry = this.#alive(key);
    if (!entry) throw new Refused("not_found");
    const { value, rev, createdRev, version } = entry;
    return { value, rev, createdRev, version };
  }

  getAt(key: string, atRev: number): Json {
    if (atRev > this.revision) throw new Refused("invalid_argument");
    const last = this.log.findLast((change) => change.key === key && change.rev <= atRev);
    if (last?.op !== "set") throw new Refused("not_found");
    return last.value ?? null;
  }

  list(prefix: string): [string, Json][] {
    const found = [...this.#live.keys()].filter((key) => key.startsWith(prefix) && this.#alive(key));
    return found.sort().map((key) => [key, this.#live.get(key)?.value ?? null]);
  }

  set(key: string, value: Json, how: { ifRev?: number; mode?: "overwrite" | "merge"; ttlMs?: number }): void {
    const entry = this.#alive(key);
    const moved = how.ifRev !== undefined && how.ifRev !== (entry?.rev ?? 0);
    if (moved && how.mode === undefined) throw new Refused("conflict");
    const merges = how.mode === "merge" && entry && (moved || how.ifRev === undefined);
    this.#write([{ key, value: merges ? mergePatch(entry.value, value) : value, ttlMs: how.ttlMs }]);
  }

  /** Counting and appending keep the time at which the value ends. */
  change(key: string, of: (value: Json | undefined) => Json, ifRev?: number): void {
    const entry = this.#alive(key);
    if (ifRev !== undefined && ifRev !== (entry?.rev ?? 0)) throw new Refused("conflict");
    const ttlMs = entry && entry.expiresAt !== Number.POSITIVE_INFINITY ? entry.expiresAt - this.now : undefined;
    this.#write([{ key, value: of(entry?.value), ttlMs }]);
  }

  delete(key: string, ifRev?: number): void {
    const entry = this.#alive(key);
    if (!entry && !ifRev) throw new Refused("not_found");
    if (ifRev !== undefined && ifRev !== (entry?.rev ?? 0)) throw new Refused("conflict");
    this.#write([{ key, delete: true }]);
  }

  restore(key: string, rev: number): void {
    this.#write([{ key, value: this.getAt(key, rev) }]);
  }

  transact(
    checks: readonly { key: string; ifRev?: number; exists?: boolean; equals?: Json }[],
    writes: readonly ModelWrite[],
  ): void {
    for (const { key, ifRev, exists, equals } of checks) {
      const entry = this.#alive(key);
      if (ifRev !== undefined && ifRev !== (entry?.rev ?? 0)) throw new Refused("conflict");
      if (exists !== undefined && exists !== (entry !== undefined)) throw new Refused("conflict");
      if (equals !== undefined && !(entry && sameJson(entry.value, equals))) throw new Refused("conflict");
    }
    this.#write(
      writes.map((write) => {
        if (!("increment" in write)) return write;
        const entry = this.#alive(write.key);
        if (entry && typeof entry.value !== "number") throw new Refused("failed_precondition");
        const ttlMs = entry && entry.expiresAt !== Number.POSITIVE_INFINITY ? entry.expiresAt - this.now : undefined;
        return { key: write.key, value: ((entry?.value as number | undefined) ?? 0) + write.increment, ttlMs };
      }),
    );
  }

  /** What the background does. */
  endDue(): void {
    const due = [...this.#live].filter(([, { expiresAt }]) => expiresAt <= this.now);
    due.sort(([a, { expiresAt: x }], [b, { expiresAt: y }]) => x - y || (a < b ? -1 : 1));
    for (const [key] of due) this.#expire(key);
  }

  #alive(key: string): Entry | undefined {
    const entry = this.#live.get(key);
    return entry && entry.expiresAt > this.now ? entry : undefined;
  }

  #expire(key: string): void {
    const entry = this.#live.get(key);
    if (!entry) return;
    this.#live.delete(key);
    this.log.push({ rev: ++this.revision, key, op: "expire", old: entry.value });
  }

  #write(writes: readonly Exclude<ModelWrite, { increment: number }>[]): void {
    for (const { key } of writes) if (this.#live.has(key) && !this.#alive(key)) this.#expire(key);
    const effective = writes.filter((write) => !("delete" in write) || this.#live.has(write.key));
    if (effective.length === 0) return;
    this.revision += 1;
    for (const write of effective) {
      const before = this.#live.get(write.key);
      const old = before ? { old: before.value } : {};
      if ("delete" in write) {
        this.#live.delete(write.key);
        this.log.push({ rev: this.revision, key: write.key, op: "delete", ...old });
        continue;
      }
      this.#live.set(write.key, {
        rev: this.revision,
        createdRev: before?.createdRev ?? this.revision,
        version: (before?.version ?? 0) + 1,
        value: write.value,
        expiresAt: write.ttlMs === undefined ? Number.POSITIVE_INFINITY : this.now + write.ttlMs,
      });
      this.log.push({ rev: this.revision, key: write.key, op: "set", value: write.value, ...old });
    }
  }
}
