/** What the tests over all servers need to know of the values of shared-state, their history and changes. */
import type { HostileCall, ServerProof, ToolCall } from "./proof.ts";

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

/** Values, patches and all that is refused about them, full of a hostile text. */
export function hostileValues(text: string, n: number): HostileCall[] {
  const [key, short] = [`h${n}/value`, text.slice(0, 60)];
  const value = { [`k ${short}`]: text, list: [text], deep: { a: [{ [short]: text }] } };
  const pointer = `/${short.replaceAll("~", "~0").replaceAll("/", "~1")}`;
  return [
    ["reader", "subscribe_to_state_changes", { prefix: `h${n}/` }],
    ["writer", "set_state", { key, value: text }],
    ["writer", "set_state", { key, value, onConflict: "merge" }],
    ["writer", "patch_state", { key, mergePatch: { more: text } }],
    ["writer", "patch_state", { key, jsonPatch: [{ op: "add", path: pointer, value: text }] }],
    ["writer", "patch_state", { key: `h${n}/list`, append: text }],
    ["writer", "transact_state", { checks: [{ key, exists: true }], writes: [{ key: `h${n}/also`, value: [text] }] }],
    ["writer", "set_state", { key: `h${n}/long`, value: text.repeat(400) }],
    ["writer", "set_state", { key, value: text, scope: "agent" }],
    ["writer", "set_state", { key, value: text, scope: "workflow", scopeId: "flow" }],
    ["reader", "get_state", { key }],
    ["reader", "get_state", { key, path: pointer }],
    ["reader", "get_state", { key, offset: 1 }],
    ["reader", "get_state", { key: `h${n}/long` }],
    ["reader", "get_state", { key, scope: "agent", scopeId: "writer" }],
    ["reader", "list_state", { prefix: `h${n}/` }],
    ["reader", "get_state_history", { key }],
    ["reader", "wait_for_state", { prefix: `h${n}/`, sinceRev: 0 }],
    ["reader", "wait_for_state", { subscriptionId: "%subscription.id" }],
    ["reader", "patch_state", { key: `h${n}/list`, append: "mine" }],
    ["reader", "get_context", { keys: [{ key }, { key: `h${n}/long` }, { key: `h${n}/list` }], maxTokens: 2_000 }],
    ["reader", "get_context", { keys: [{ key }, { key: short }], maxTokens: 1_000 }],
    // refusals, each with hostile text in what is asked, or about a value that is full of it
    ["reader", "get_state", { key, offset: 900_000 }],
    ["reader", "get_state", { key, path: `${pointer}/no/such` }],
    ["reader", "get_state", { key, path: short }],
    ["reader", "get_state", { key: short }],
    ["reader", "set_state", { key: short, value: text }],
    ["reader", "set_state", { key, value: text, ifRev: 1 }],
    ["reader", "set_state", { key, value: text, scope: short }],
    ["reader", "set_state", { key, value: text, scope: "agent", scopeId: short }],
    ["reader", "set_state", { key, value: text, scope: "agent", scopeId: "writer" }],
    ["reader", "set_state", { key, value: text, scope: "workflow", scopeId: short }],
    ["reader", "set_state", { key, value: text, lock: short, fencingToken: 1 }],
    ["reader", "set_state", { key, value: text, lock: `leader:${short}`, fencingToken: 1 }],
    ["reader", "patch_state", { key, increment: 1 }],
    ["reader", "patch_state", { key, jsonPatch: [{ op: "test", path: pointer, value: "other" }] }],
    ["reader", "patch_state", { key, jsonPatch: [{ op: "remove", path: `/no${pointer}` }] }],
    ["reader", "patch_state", { key, jsonPatch: [{ op: "move", from: pointer, path: `${pointer}/into` }] }],
    ["reader", "transact_state", { checks: [{ key, equals: text }], writes: [{ key, value: text }] }],
    ["reader", "transact_state", { writes: [{ key: short, value: text }] }],
    ["reader", "transact_state", { writes: [{ key, jsonPatch: [{ op: "add", path: `/no${pointer}/x`, value: text }] }] }],
    ["reader", "delete_state", { key: short }],
    ["reader", "restore_state", { key: short, rev: 1 }],
    ["reader", "list_state", { prefix: short }],
    ["reader", "list_state", { cursor: short }],
    ["reader", "wait_for_state", { key: short }],
    ["reader", "wait_for_state", { cursor: short }],
    ["reader", "wait_for_state", { subscriptionId: short }],
    ["reader", "acknowledge_state_changes", { subscriptionId: short, rev: 0 }],
    ["reader", "unsubscribe", { subscriptionId: short }],
    ["reader", "set_state_policy", { key: short, onConflict: "reject" }],
    ["reader", "set_state_policy", { prefix: "h", onConflict: short }],
    ["reader", "get_context", { taskId: short }],
    ["reader", "get_context", { workflowId: short }],
    ["reader", "get_context", { correlationId: short }],
    ["reader", "unsubscribe", { subscriptionId: "%subscription.id" }],
    ["writer", "delete_state", { key }],
    ["reader", "wait_for_state", { key, sinceRev: 0 }],
    ["reader", "get_state", { key }],
  ];
}
