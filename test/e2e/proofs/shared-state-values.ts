/** What the tests over all servers need to know of the values of shared-state, their history and changes. */
import type { ServerProof, ToolCall } from "./proof.ts";

const SET: ToolCall = ["set_state", { key: "@k", value: { a: 1 } }];
const SUBSCRIBE: ToolCall = ["subscribe_to_state_changes", { key: "@k" }];

export const sharedStateValues: Pick<ServerProof, "setup" | "story" | "writes"> = {
  setup: [
    ["set_state", { key: "a1", value: { list: [1] } }],
    ["set_state", { key: "a1", value: { list: [1, 2] } }],
    ["subscribe_to_state_changes", { prefix: "a" }],
  ],
  story: [
    ["set_state", { key: "plan/a", value: { title: "Plan", done: false } }],
    ["set_state", { key: "plan/a", value: { done: true }, ifRev: 1, onConflict: "merge", ttlMs: 600_000 }],
    ["set_state", { key: "mine", scope: "agent", value: null }],
    ["set_state", { key: "w", scope: "workflow", scopeId: "w1", value: "x".repeat(30_000) }],
    ["get_state", { key: "plan/a" }],
    ["get_state", { key: "plan/a", atRev: 1, path: "/title" }],
    ["get_state", { key: "w", scope: "workflow", scopeId: "w1" }],
    ["get_state", { key: "w", scope: "workflow", scopeId: "w1", offset: 29_990 }],
    ["patch_state", { key: "plan/a", jsonPatch: [{ op: "add", path: "/steps", value: [] }] }],
    ["patch_state", { key: "count", increment: 2.5 }],
    ["patch_state", { key: "log", append: "started", maxItems: 10 }],
    ["list_state", { prefix: "plan/" }],
    ["list_state", { limit: 1 }],
    ["list_state", { scope: "workflow", scopeId: "w1" }],
    [
      "transact_state",
      {
        checks: [
          { key: "plan/a", exists: true },
          { key: "count", equals: 2.5 },
        ],
        writes: [
          { key: "count", increment: 1 },
          { key: "log", delete: true },
          { key: "plan/b", value: 1 },
        ],
      },
    ],
    ["wait_for_state", { sinceRev: 0 }],
    ["wait_for_state", { key: "count", sinceRev: 0, limit: 1 }],
    ["subscribe_to_state_changes", { prefix: "plan/", fromRev: 0 }],
    ["wait_for_state", { subscriptionId: "%subscription.id" }],
    ["acknowledge_state_changes", { subscriptionId: "%subscription.id", rev: 2 }],
    ["unsubscribe", { subscriptionId: "%subscription.id" }],
    ["set_state_policy", { prefix: "plan/", onConflict: "reject" }],
    ["list_state", {}],
    ["delete_state", { key: "count" }],
    ["get_state_history", { key: "count" }],
    ["restore_state", { key: "count", rev: 4 }],
  ],
  writes: {
    set_state: { before: [], args: { key: "@k", value: { b: 1, a: [2] } }, other: { key: "@k", value: { b: 2, a: [2] } } },
    patch_state: { before: [SET], args: { key: "@k", mergePatch: { b: 1 } }, other: { key: "@k", mergePatch: { b: 2 } } },
    delete_state: { before: [SET], args: { key: "@k" }, other: { key: "other" } },
    transact_state: {
      before: [SET],
      args: { checks: [{ key: "@k", exists: true }], writes: [{ key: "@n", increment: 1 }] },
      other: { writes: [{ key: "@n", increment: 1 }] },
    },
    restore_state: {
      before: [SET, ["delete_state", { key: "@k" }]],
      args: { key: "@k", rev: "%deleted.deletedRev" },
      other: { key: "other", rev: 1 },
    },
    set_state_policy: {
      before: [],
      args: { key: "@k", onConflict: "merge" },
      other: { key: "@k", onConflict: "reject" },
    },
    subscribe_to_state_changes: { before: [], args: { prefix: "@" }, other: { prefix: "@other" } },
    acknowledge_state_changes: {
      before: [SUBSCRIBE, SET],
      args: { subscriptionId: "%subscription.id", rev: "%entry.rev" },
      other: { subscriptionId: "%subscription.id", rev: 0 },
    },
    unsubscribe: {
      before: [SUBSCRIBE],
      args: { subscriptionId: "%subscription.id" },
      other: { subscriptionId: "other" },
    },
  },
};
