/**
 * A limited number of places to work in, so that no more than so many workers are at it at once. A slot is a lease.
 *
 * | key | value | why |
 * |---|---|---|
 * | `worker-slot/<number>` | SlotRow | who holds the slot; kept when free, for its fencing token |
 */

import type { HeldLease, Holdings, LeaseKeeper } from "@mcp-swarm/coordination";
import { type StoredTask, taskKey, taskOf } from "@mcp-swarm/coordination/tasks";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";
import { ordered, prefixRange, type Store, type Transaction } from "@mcp-swarm/store";
import { heldTasks } from "./held-tasks.ts";

export const WORKER_SLOTS_DEFAULT = 5;
export const WORKER_SLOTS_MAX = 200;
/** Most tasks that `get_workers` names for one worker. */
const WORKER_TASKS_MAX = 20;

const PREFIX = "worker-slot/";
const slotKey = (slot: number): string => `${PREFIX}${ordered(slot)}`;

type SlotHolding = {
  readonly by: string;
  readonly since: number;
  readonly leaseMs: number;
  readonly leaseExpiresAt: number;
};
type SlotRow = { readonly slot: number; readonly token: number; readonly holding?: SlotHolding };

export type WorkerSlot = {
  readonly slot: number;
  readonly workerId: string;
  readonly claimedAt: number;
  readonly leaseExpiresAt: number;
  readonly fencingToken: number;
};
export type Worker = WorkerSlot & {
  /** What its holder works on in it; of a holder of one slot, also what was claimed without naming a slot. */
  readonly tasks: readonly { readonly taskId: string; readonly title?: string; readonly status: string }[];
};
export type Workers = { readonly workers: Worker[]; readonly slots: number; readonly free: number };

function held(row: SlotRow | undefined, now: number): SlotHolding | undefined {
  return row?.holding && row.holding.leaseExpiresAt > now ? row.holding : undefined;
}

function slotOf(row: SlotRow, holding: SlotHolding): WorkerSlot {
  const { by, since, leaseExpiresAt } = holding;
  return { slot: row.slot, workerId: by, claimedAt: since, leaseExpiresAt, fencingToken: row.token };
}

export interface WorkerSlotsOptions {
  /** `SWARM_WORKER_SLOTS`: 1 to WORKER_SLOTS_MAX. */
  slots: number;
  /** How long a slot lives without renewal, for a caller with a process and for one without; ms. */
  leaseMs: number;
  remoteLeaseMs: number;
  keeper: LeaseKeeper;
}

export class WorkerSlots {
  readonly #options: WorkerSlotsOptions;
  readonly #holdings: Holdings;

  constructor(options: WorkerSlotsOptions) {
    this.#options = options;
    this.#holdings = options.keeper.keep({
      name: "worker slots",
      renew: (tx, lease, expiresAt) => {
        const row = this.#current(tx, lease);
        if (row?.holding) tx.put(slotKey(row.slot), { ...row, holding: { ...row.holding, leaseExpiresAt: expiresAt } });
        return row !== undefined;
      },
      release: (tx, lease) => this.#release(tx, lease),
    });
  }

  /** @throws SwarmError limit_exceeded when all are held, telling when the next lease ends unless it is renewed */
  async claim(call: Call, input: { workerId?: string | undefined } = {}): Promise<{ slot: WorkerSlot }> {
    const by = speakAs(call.caller, input.workerId);
    const { slots, remoteLeaseMs } = this.#options;
    const leaseMs = call.caller.processId === undefined ? remoteLeaseMs : this.#options.leaseMs;
    const claimed = await call.transact(
      (tx): WorkerSlot => {
        const rows = this.#rows(tx);
        let next = Number.POSITIVE_INFINITY;
        for (let slot = 1; slot <= slots; slot++) {
          const row = rows.get(slot);
          const holder = held(row, tx.now);
          if (holder) {
            next = Math.min(next, holder.leaseExpiresAt);
            continue;
          }
          const holding = { by, since: tx.now, leaseMs, leaseExpiresAt: tx.now + leaseMs };
          const taken = { slot, token: (row?.token ?? 0) + 1, holding };
          tx.put(slotKey(slot), taken);
          return slotOf(taken, holding);
        }
        throw new SwarmError("limit_exceeded", `All ${slots} worker slots are held.`, {
          hint: `Wait for one to be released; if its holder is dead, one is free at ${new Date(next).toISOString()}. get_workers tells who holds them.`,
          retryable: true,
        });
      },
      { prefetch: { ranges: [prefixRange(PREFIX, WORKER_SLOTS_MAX)] } },
    );
    if (call.caller.processId !== undefined) await this.#hold(call, { id: String(claimed.slot), token: claimed.fencingToken });
    return { slot: claimed };
  }

  /** @throws SwarmError failed_precondition when the caller does not hold it */
  async release(call: Call, input: { slot: number; workerId?: string | undefined }): Promise<{ slot: WorkerSlot }> {
    const by = speakAs(call.caller, input.workerId);
    const released = await call.transact((tx): WorkerSlot => {
      const { row, holding } = this.#checkHeld(tx, input.slot, by);
      tx.put(slotKey(row.slot), { slot: row.slot, token: row.token });
      return slotOf(row, holding);
    });
    this.#holdings.drop(String(input.slot), released.fencingToken);
    return { slot: released };
  }

  /** How many slots there are, and how many of them are held. */
  async inUse(store: Store): Promise<{ slots: number; used: number }> {
    const now = await store.now();
    const rows = (await store.scan(prefixRange(PREFIX, WORKER_SLOTS_MAX))).map((entry) => entry.value as SlotRow);
    const { slots } = this.#options;
    return { slots, used: rows.filter((row) => row.slot <= slots && held(row, now)).length };
  }

  /** All slots that are held, with what their holders work on. */
  async workers(call: Pick<Call, "store">): Promise<Workers> {
    const { store } = call;
    const now = await store.now();
    const rows = (await store.scan(prefixRange(PREFIX, WORKER_SLOTS_MAX))).map((entry) => entry.value as SlotRow);
    const taken = rows.flatMap((row) => {
      const holding = held(row, now);
      return holding ? [slotOf(row, holding)] : [];
    });
    const holders = [...new Set(taken.map(({ workerId }) => workerId))];
    const tasksOf = new Map<string, StoredTask[]>();
    for (const [holder, ids] of await heldTasks(store, holders, WORKER_TASKS_MAX)) {
      const tasks = ids.length === 0 ? [] : await store.getMany(ids.map(taskKey));
      tasksOf.set(
        holder,
        tasks.flatMap((entry) => (entry ? [taskOf(entry.value)] : [])),
      );
    }
    const workers = taken.map((slot): Worker => {
      const alone = taken.filter(({ workerId }) => workerId === slot.workerId).length === 1;
      const tasks = (tasksOf.get(slot.workerId) ?? []).filter(
        ({ claim }) => claim?.workerSlot === slot.slot || (alone && claim?.workerSlot === undefined),
      );
      return {
        ...slot,
        tasks: tasks.map(({ id, title, status }) => ({ taskId: id, status, ...(title === undefined ? {} : { title }) })),
      };
    });
    const { slots } = this.#options;
    return { workers, slots, free: Math.max(0, slots - taken.filter(({ slot }) => slot <= slots).length) };
  }

  /**
   * A task is claimed in a slot, which its claimant must hold.
   * @throws SwarmError failed_precondition
   */
  use(tx: Transaction, slot: number, by: string): void {
    this.#checkHeld(tx, slot, by);
    this.prolong(tx, slot, by);
  }

  /** Who holds a slot works in it: its lease begins anew. Of a slot that was lost, nothing happens. */
  prolong(tx: Transaction, slot: number, by: string): void {
    const row = tx.get(slotKey(slot))?.value as SlotRow | undefined;
    const holding = held(row, tx.now);
    if (!row || holding?.by !== by || holding.leaseExpiresAt >= tx.now + holding.leaseMs) return;
    tx.put(slotKey(slot), { ...row, holding: { ...holding, leaseExpiresAt: tx.now + holding.leaseMs } });
  }

  /** A process that is about to end takes no slot with it. */
  async #hold(call: Call, lease: HeldLease): Promise<void> {
    try {
      this.#holdings.hold(lease);
    } catch (error) {
      await call.store.transact((tx) => this.#release(tx, lease));
      throw error;
    }
  }

  #release(tx: Transaction, lease: HeldLease): void {
    const row = this.#current(tx, lease);
    if (row) tx.put(slotKey(row.slot), { slot: row.slot, token: row.token });
  }

  #checkHeld(tx: Transaction, slot: number, by: string): { row: SlotRow; holding: SlotHolding } {
    const known = Number.isInteger(slot) && slot >= 1 && slot <= WORKER_SLOTS_MAX;
    const row = known ? (tx.get(slotKey(slot))?.value as SlotRow | undefined) : undefined;
    const holding = held(row, tx.now);
    if (row && holding?.by === by) return { row, holding };
    const who = holding ? `is held by ${holding.by}` : "is not held by anyone";
    throw new SwarmError("failed_precondition", `Worker slot ${slot} ${who}.`, {
      hint: "claim_worker_slot gives you one; get_workers tells who holds which.",
    });
  }

  #rows(tx: Transaction): Map<number, SlotRow> {
    const rows = tx.scan(prefixRange(PREFIX, WORKER_SLOTS_MAX)).map((entry) => entry.value as SlotRow);
    return new Map(rows.map((row) => [row.slot, row]));
  }

  /** The row, if the lease still is the holding. An overrun lease that nobody took is the holder's still. */
  #current(tx: Transaction, lease: HeldLease): SlotRow | undefined {
    const row = tx.get(slotKey(Number(lease.id)))?.value as SlotRow | undefined;
    return row?.holding && row.token === lease.token ? row : undefined;
  }
}
