/** Why a task waits, in words. */
import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Offer } from "../src/environment.ts";
import { whyWaiting } from "../src/waiting.ts";
import type { WorkerRow } from "../src/worker/worker-row.ts";

const worker = (offers: readonly Offer[], more: Partial<WorkerRow> = {}): WorkerRow => ({
  ...{ id: "worker-1", name: "w", kind: "worker", host: "h", platform: "linux", arch: "x64", labels: [], slots: 1, running: 0 },
  ...{ startedAt: 0, seenAt: 0, offers, drivers: {} },
  ...more,
});
const offered = (version = 1): Offer => ({
  ...{ environment: "python", version, available: true, driver: "pyodide", runtimeVersion: "3.14" },
});
const lacking = (reason: string): Offer => ({ environment: "python", version: 1, available: false, reason });
const queued = { status: "queued", environment: "python", environmentVersion: 1, requires: {} } as const;

describe("a task that waits", () => {
  test("for nothing but a free place needs no reason; nor does one that does not wait for a worker", () => {
    verifies("EXEC-01");
    expect(whyWaiting(queued, [worker([lacking("No deno.")]), worker([offered()])])).toBeUndefined();
    expect(whyWaiting({ ...queued, status: "running" }, [])).toBeUndefined();
    expect(whyWaiting({ ...queued, boundTo: "worker-1" }, [])).toBeUndefined();
  });

  test("is told what there is not: workers, what it requires, its environment, its version of it", () => {
    verifies("EXEC-01", "EXEC-10");
    expect(whyWaiting(queued, [])).toMatch(/^No worker is there\./);
    const requires = { arch: "arm64" };
    expect(whyWaiting({ ...queued, requires }, [worker([offered()])])).toBe(
      "No worker has what it requires: the architecture arm64. Start one on such a machine with mcp-swarm-distributed-execution worker, or cancel it and submit it without.",
    );
    expect(whyWaiting({ ...queued, requires: { labels: ["big", "gpu"] } }, [worker([offered()], { labels: ["big"] })])).toBe(
      "No worker has what it requires: the label gpu. Start one on such a machine with mcp-swarm-distributed-execution worker --labels big,gpu, or cancel it and submit it without.",
    );
    expect(whyWaiting(queued, [worker([])])).toBe("No worker has found out yet whether it can run python.");
    expect(whyWaiting(queued, [worker([lacking("No deno.")]), worker([lacking("No deno.")]), worker([lacking("Old.")])])).toBe(
      "No worker offers python here. No deno. Old.",
    );
    expect(whyWaiting(queued, [worker([offered(2)])])).toMatch(/The environment was changed since the task was submitted\.$/);
  });
});
