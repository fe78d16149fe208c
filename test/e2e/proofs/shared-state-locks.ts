/** What the tests over all servers need to know of the locks, leaders and file reservations of shared-state. */
import type { ServerProof, ToolCall } from "./proof.ts";

const LOCK: ToolCall = ["acquire_lock", { name: "@lock" }];
const ELECT: ToolCall = ["elect_leader", { group: "@group" }];
const RESERVE: ToolCall = ["reserve_files", { globs: ["@src/**", "@docs"] }];

export const sharedStateLocks: Pick<ServerProof, "setup" | "story" | "writes"> = {
  setup: [
    ["acquire_lock", { name: "held" }],
    ["elect_leader", { group: "led" }],
    ["reserve_files", { globs: ["held/**"] }],
  ],
  story: [
    ["acquire_lock", { name: "deploy/prod", ttlMs: 60_000 }],
    ["acquire_lock", { name: "deploy/prod" }],
    ["renew_lock", { name: "deploy/prod", ttlMs: 90_000 }],
    ["acquire_lock", { name: "docs", mode: "shared", agentId: "child" }],
    ["list_locks", { prefix: "deploy/" }],
    ["list_locks", { limit: 1 }],
    ["release_lock", { name: "deploy/prod", fencingToken: 1 }],
    ["elect_leader", { group: "builds", candidateInfo: "First one here" }],
    ["get_leader", { group: "builds" }],
    ["get_leader", { group: "nobody" }],
    ["resign_leader", { group: "builds" }],
    ["reserve_files", { globs: ["src/**/*.{ts,js}", "docs"], mode: "shared", reason: "Reading", ttlMs: 60_000 }],
    ["check_files", { paths: ["src/a.ts", "./docs/b.md", "README.md"] }],
    ["list_reservations", { pathPrefix: "src", limit: 1 }],
    ["release_files", { globs: ["docs"] }],
    ["release_files", { all: true }],
  ],
  writes: {
    acquire_lock: { before: [], args: { name: "@lock" }, other: { name: "@lock", mode: "shared" } },
    renew_lock: { before: [LOCK], args: { name: "@lock", ttlMs: 90_000, fencingToken: 1 }, other: { name: "@lock" } },
    release_lock: { before: [LOCK], args: { name: "@lock", fencingToken: 1 }, other: { name: "@other" } },
    elect_leader: { before: [], args: { group: "@group" }, other: { group: "@other" } },
    resign_leader: { before: [ELECT], args: { group: "@group" }, other: { group: "@other" } },
    reserve_files: { before: [], args: { globs: ["@src/**"] }, other: { globs: ["@src"] } },
    release_files: { before: [RESERVE], args: { globs: ["@docs"] }, other: { all: true } },
  },
};
