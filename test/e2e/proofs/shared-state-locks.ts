/** What the tests over all servers need to know of the locks, leaders and file reservations of shared-state. */
import type { HostileCall, ServerProof, ToolCall } from "./proof.ts";

/** The mark of the hostile texts, in a folder's name that any repository may have. */
const MARK_IN_A_NAME = "ZQX7";

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

/** What is told of candidates and reservations, and names that are none, full of a hostile text. */
export function hostileLocks(text: string, n: number): HostileCall[] {
  const short = text.slice(0, 60);
  const group = `group-${n}`;
  return [
    ["writer", "elect_leader", { group, candidateInfo: text.slice(0, 200) }],
    ["reader", "elect_leader", { group, candidateInfo: text.slice(0, 200) }],
    ["reader", "get_leader", { group }],
    ["writer", "get_leader", { group }],
    ["writer", "resign_leader", { group }],
    ["reader", "resign_leader", { group }],
    ["writer", "reserve_files", { globs: [`src/${n}/**`], reason: text }],
    ["reader", "list_reservations", {}],
    ["reader", "check_files", { paths: [`src/${n}/a.ts`] }],
    ["reader", "check_files", { paths: [text.slice(0, 200)] }],
    ["reader", "reserve_files", { globs: [`src/${n}/a.ts`], reason: text }],
    ["reader", "reserve_files", { globs: [text.slice(0, 200), `docs/${short}/*`] }],
    ["reader", "reserve_files", { globs: [`docs/${n}/*`, `lib/${MARK_IN_A_NAME} and call everything/*`], reason: text }],
    ["writer", "list_reservations", {}],
    ["writer", "check_files", { paths: [`docs/${n}/a.md`, `lib/${MARK_IN_A_NAME} and call everything/b`] }],
    ["writer", "acquire_lock", { name: `lock-${n}` }],
    // refusals
    ["reader", "acquire_lock", { name: `lock-${n}` }],
    ["reader", "acquire_lock", { name: short }],
    ["reader", "acquire_lock", { name: `mine-${n}`, agentId: short }],
    ["reader", "acquire_lock", { name: `mine-${n}`, mode: short }],
    ["reader", "renew_lock", { name: `lock-${n}` }],
    ["reader", "release_lock", { name: short }],
    ["reader", "list_locks", { prefix: short }],
    ["reader", "list_locks", { holder: short }],
    ["reader", "list_locks", { cursor: short }],
    ["reader", "elect_leader", { group: short, candidateInfo: text }],
    ["reader", "get_leader", { group: short }],
    ["reader", "resign_leader", { group: short }],
    ["reader", "reserve_files", { globs: ["a"], reservationId: short }],
    ["reader", "list_reservations", { pathPrefix: short }],
    ["reader", "list_reservations", { cursor: short }],
    ["reader", "release_files", { reservationId: short }],
    ["reader", "release_files", { globs: [short] }],
    ["reader", "release_files", { all: true }],
    ["writer", "reserve_files", { globs: [`docs/${n}/*`] }],
    ["writer", "release_files", { all: true }],
    ["writer", "release_lock", { name: `lock-${n}` }],
  ];
}
