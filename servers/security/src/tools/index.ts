import type { Tool } from "@mcp-swarm/server";
import type { SecurityServer } from "../open.ts";
import { authenticateAgent } from "./authenticate-agent.ts";
import { authorizeOperation } from "./authorize-operation.ts";
import { decryptMessage } from "./decrypt-message.ts";
import { deletePolicy } from "./delete-policy.ts";
import { deleteSecret } from "./delete-secret.ts";
import { encryptMessage } from "./encrypt-message.ts";
import { getAuditLog } from "./get-audit-log.ts";
import { getSecret } from "./get-secret.ts";
import { listMembers } from "./list-members.ts";
import { listPolicies } from "./list-policies.ts";
import { listSecrets } from "./list-secrets.ts";
import { putSecret } from "./put-secret.ts";
import { quarantineAgent } from "./quarantine-agent.ts";
import { revokeAgent } from "./revoke-agent.ts";
import { rotateKeys } from "./rotate-keys.ts";
import { setPolicy } from "./set-policy.ts";
import { setRoles } from "./set-roles.ts";
import { verifyAuditLog } from "./verify-audit-log.ts";
import { whoami } from "./whoami.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<SecurityServer>[] = [
  whoami,
  authenticateAgent,
  authorizeOperation,
  listPolicies,
  setPolicy,
  deletePolicy,
  listMembers,
  setRoles,
  quarantineAgent,
  revokeAgent,
  rotateKeys,
  getAuditLog,
  verifyAuditLog,
  encryptMessage,
  decryptMessage,
  listSecrets,
  getSecret,
  putSecret,
  deleteSecret,
];
