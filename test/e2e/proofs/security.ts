/** What the tests over all servers need to know of security. Each of its tools works in a secured swarm alone. */
import { eventually, type Host } from "../../support/host.ts";
import type { HostileCall, ServerProof, ToolCall } from "./proof.ts";

const AUDIENCE = "http://127.0.0.1:3335/agent-comm/mcp";
const POLICY = { id: "@policy", effect: "permit", operations: ["nothing:*"] };
const SEAL: ToolCall = ["encrypt_message", { payload: "Meet at noon", recipients: ["a"] }];
const PUT: ToolCall = ["put_secret", { name: "@deploy", value: "correct horse" }];

export const security: ServerProof = {
  members: ["helper"],
  varies: ["keyId", "rootKey", "token", "sealed", "tokenFile", "chain", "checkpoints", "uncovered", "chains", "copies", "rows"],
  setup: [
    ["set_policy", { id: "a1", effect: "permit", operations: ["nothing:*"] }],
    ["put_secret", { name: "a1", value: "correct horse" }],
    ["authenticate_agent", { agentId: "a1", audience: AUDIENCE }],
  ],
  story: [
    ["whoami", {}],
    ["authenticate_agent", { agentId: "teller", audience: AUDIENCE, scope: "task:* message:read" }],
    ["authenticate_agent", { agentId: "teller/child", audience: AUDIENCE }],
    ["whoami", {}],
    ["authorize_operation", { operation: "task:cancel", resource: "task/x" }],
    ["authorize_operation", { agentId: "stranger", operation: "task:cancel", resource: "task/x" }],
    [
      "set_policy",
      {
        id: "no-night-work",
        effect: "forbid",
        description: "Nobody cancels urgent work at night",
        roles: ["worker"],
        operations: ["task:cancel"],
        resources: ["task/urgent-*"],
        when: { time: { from: "22:00", to: "06:00" }, arguments: { priority: { min: 5 } } },
      },
    ],
    ["list_policies", { limit: 2 }],
    ["list_policies", {}],
    ["delete_policy", { policyId: "no-night-work" }],
    ["set_roles", { agentId: "helper", roles: ["worker"], attributes: { team: "red" } }],
    ["authorize_operation", { agentId: "helper", operation: "policy:write", resource: "policy/x", arguments: {}, context: {} }],
    ["quarantine_agent", { agentId: "helper" }],
    ["list_members", {}],
    ["authorize_operation", { agentId: "helper", operation: "task:claim", resource: "task/x" }],
    ["quarantine_agent", { agentId: "helper", on: false }],
    ["encrypt_message", { payload: { at: "noon", where: ["here", 1, null] }, recipients: ["teller", "helper"] }],
    ["decrypt_message", { sealed: "%sealed" }],
    ["put_secret", { name: "deploy/key", value: "correct horse", readers: ["teller"] }],
    ["list_secrets", { limit: 1 }],
    ["get_secret", { name: "deploy/key" }],
    ["put_secret", { name: "deploy/key" }],
    ["delete_secret", { name: "deploy/key" }],
    ["list_secrets", {}],
    ["rotate_keys", {}],
    ["rotate_keys", { agentId: "helper" }],
    ["revoke_agent", { agentId: "helper" }],
    ["get_audit_log", { agentId: "teller", operation: "secret:*", limit: 3 }],
    ["get_audit_log", { outcome: "deny" }],
    ["verify_audit_log", {}],
  ],
  writes: {
    authenticate_agent: {
      before: [],
      args: { agentId: "a", audience: AUDIENCE },
      other: { agentId: "a", audience: "http://elsewhere.example/mcp" },
    },
    set_policy: { before: [], args: POLICY, other: { ...POLICY, effect: "forbid" } },
    delete_policy: { before: [["set_policy", POLICY]], args: { policyId: "@policy" }, other: { policyId: "@other" } },
    set_roles: {
      before: [],
      args: { agentId: "helper", roles: ["worker", "@role"] },
      other: { agentId: "helper", roles: ["worker"] },
    },
    quarantine_agent: { before: [], args: { agentId: "helper" }, other: { agentId: "helper", on: false } },
    revoke_agent: { before: [], args: { agentId: "helper" }, other: { agentId: "a" } },
    rotate_keys: { before: [], args: {}, other: { agentId: "helper" } },
    decrypt_message: {
      before: [SEAL, SEAL],
      args: { sealed: "%sealed" },
      other: { sealed: "%^sealed" },
    },
    put_secret: {
      before: [],
      args: { name: "@deploy", value: "correct horse" },
      other: { name: "@other", value: "correct horse" },
    },
    delete_secret: { before: [PUT], args: { name: "@deploy" }, other: { name: "@other" } },
  },
  hostile,
  roundTrip,
};

function hostile(text: string, n: number): HostileCall[] {
  const short = text.slice(0, 60);
  return [
    [
      "writer",
      "set_policy",
      {
        id: `p-${n}`,
        effect: "permit",
        description: text,
        operations: ["nothing:*"],
        resources: [text.replaceAll(/[\p{Cc}\p{Cs}]/gu, "")],
      },
    ],
    // what another process signed is in force within some seconds: the reader signs too, which reads it at once
    ["reader", "set_policy", { id: `r-${n}`, effect: "permit", operations: ["nothing:*"] }],
    ["reader", "list_policies", { limit: 200 }],
    ["writer", "authorize_operation", { operation: short, resource: text }],
    [
      "reader",
      "authorize_operation",
      { agentId: "writer", operation: short, resource: text, arguments: { text }, context: { text } },
    ],
    ["writer", "set_roles", { agentId: "helper", roles: ["worker"], attributes: { team: text } }],
    ["reader", "set_policy", { id: `r-${n}`, effect: "forbid", operations: ["nothing:*"] }],
    ["reader", "list_members", {}],
    ["writer", "encrypt_message", { payload: { text }, recipients: ["reader", "writer"] }],
    ["reader", "decrypt_message", { sealed: "%sealed" }],
    ["writer", "decrypt_message", { sealed: "%sealed" }],
    ["writer", "put_secret", { name: `s-${n}`, value: text }],
    ["reader", "get_secret", { name: `s-${n}` }],
    ["reader", "list_secrets", {}],
    ["writer", "get_secret", { name: `s-${n}` }],
    ["writer", "authenticate_agent", { agentId: "writer", audience: `http://${n}.example/mcp` }],
    ["writer", "whoami", {}],
    ["reader", "whoami", {}],
    // refusals; the first leaves its text in the audit log
    ["reader", "authorize_operation", { agentId: short, operation: "task:claim", resource: "task/x" }],
    ["reader", "get_audit_log", { limit: 200 }],
    ["writer", "get_audit_log", { limit: 20 }],
    ["reader", "verify_audit_log", {}],
    ["reader", "get_audit_log", { agentId: short, operation: short, resource: text }],
    ["reader", "get_audit_log", { cursor: short }],
    ["reader", "authenticate_agent", { agentId: short, audience: text }],
    ["reader", "authenticate_agent", { agentId: "writer", audience: text, credentials: { apiKey: text } }],
    ["reader", "authenticate_agent", { agentId: "writer", audience: text, credentials: { assertion: text } }],
    ["reader", "authenticate_agent", { agentId: "reader", audience: "http://x.example/mcp", scope: text }],
    ["reader", "set_policy", { id: short, effect: "permit", operations: ["a:b"] }],
    ["reader", "set_policy", { id: "x", effect: "permit", operations: [short] }],
    ["reader", "set_policy", { id: "x", effect: "permit", operations: ["a:b"], agents: [short], resources: [text] }],
    ["reader", "set_policy", { id: "x", effect: "permit", operations: ["a:b"], when: { [short]: 1 } }],
    [
      "reader",
      "set_policy",
      { id: "x", effect: "permit", operations: ["a:b"], when: { arguments: { [short]: { [short]: 1 } } } },
    ],
    ["reader", "delete_policy", { policyId: short }],
    ["reader", "list_policies", { cursor: short }],
    ["reader", "list_members", { cursor: short }],
    ["reader", "set_roles", { agentId: short, roles: ["worker"] }],
    ["reader", "set_roles", { agentId: "helper", roles: [short] }],
    ["reader", "quarantine_agent", { agentId: short }],
    ["reader", "revoke_agent", { agentId: short }],
    ["reader", "rotate_keys", { agentId: short }],
    ["reader", "encrypt_message", { payload: text, recipients: [short] }],
    ["reader", "decrypt_message", { sealed: text }],
    ["reader", "put_secret", { name: short, value: text }],
    ["reader", "put_secret", { name: "x", value: text, readers: [short] }],
    ["reader", "get_secret", { name: short }],
    ["reader", "delete_secret", { name: short }],
  ];
}

/** What one host asked is in the log that the other reads. */
async function roundTrip(writer: Host, reader: Host, mark: string): Promise<void> {
  await writer.call("authorize_operation", { agentId: mark, operation: "task:claim", resource: "task/x" });
  await eventually("the question is in the audit log", async () => {
    const { entries } = await reader.call<{ entries: { tool: string }[] }>("get_audit_log", { resource: `agent/${mark}` });
    return entries.length === 1 && entries[0]?.tool === "authorize_operation";
  });
}
