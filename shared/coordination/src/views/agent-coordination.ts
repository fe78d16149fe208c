/**
 * Agents, one row each: what an agent last said of itself (agent-comm's record, plain JSON under `agent/<id>`), and whether it lives
 * (presence). An agent that is only present has a row too. The status is the one that counts: `offline` of one that does not live,
 * whatever it said last.
 */
import type { SqlView } from "@mcp-swarm/store";
import { rowsOf, timeOf } from "./rows.ts";

export const agentCoordination: SqlView = {
  name: "agent_coordination",
  sqlite: `WITH live AS (
  SELECT v ->> '$.agentId' AS id, max(v ->> '$.seenAt') AS seen_at FROM ${rowsOf.sqlite("presence")} GROUP BY 1
), told AS (SELECT v ->> '$.id' AS id, v FROM ${rowsOf.sqlite("agent")})
SELECT
  told.id AS id,
  v ->> '$.sessionId' AS session_id,
  v ->> '$.agentRole' AS agent_role,
  CASE WHEN live.id IS NULL THEN 'offline' ELSE v ->> '$.status' END AS status,
  v ->> '$.currentTask' AS current_task,
  v -> '$.results' AS results,
  coalesce(v -> '$.dependencies', json('[]')) AS dependencies,
  ${timeOf.sqlite("v ->> '$.registeredAt'")} AS created_at,
  ${timeOf.sqlite("v ->> '$.updatedAt'")} AS updated_at,
  ${timeOf.sqlite("coalesce(live.seen_at, v ->> '$.lastSeenAt')")} AS last_seen_at,
  v ->> '$.status' AS last_status,
  v ->> '$.load' AS load
FROM told LEFT JOIN live ON live.id = told.id
UNION ALL
SELECT live.id, NULL, NULL, 'online', NULL, NULL, json('[]'), NULL, NULL, ${timeOf.sqlite("live.seen_at")}, NULL, NULL
FROM live WHERE live.id NOT IN (SELECT id FROM told)`,
  postgres: `WITH live AS (
  SELECT v ->> 'agentId' AS id, max((v ->> 'seenAt')::bigint) AS seen_at FROM ${rowsOf.postgres("presence")} p GROUP BY 1
), told AS (SELECT v ->> 'id' AS id, v FROM ${rowsOf.postgres("agent")} a)
SELECT
  told.id AS id,
  v ->> 'sessionId' AS session_id,
  v ->> 'agentRole' AS agent_role,
  CASE WHEN live.id IS NULL THEN 'offline' ELSE v ->> 'status' END AS status,
  v ->> 'currentTask' AS current_task,
  v -> 'results' AS results,
  coalesce(v -> 'dependencies', '[]'::jsonb) AS dependencies,
  ${timeOf.postgres("(v ->> 'registeredAt')::bigint")} AS created_at,
  ${timeOf.postgres("(v ->> 'updatedAt')::bigint")} AS updated_at,
  ${timeOf.postgres("coalesce(live.seen_at, (v ->> 'lastSeenAt')::bigint)")} AS last_seen_at,
  v ->> 'status' AS last_status,
  (v ->> 'load')::double precision AS load
FROM told LEFT JOIN live ON live.id = told.id
UNION ALL
SELECT live.id, NULL, NULL, 'online', NULL, NULL, '[]'::jsonb, NULL, NULL, ${timeOf.postgres("live.seen_at")}, NULL, NULL
FROM live WHERE NOT EXISTS (SELECT FROM told WHERE told.id = live.id)`,
};
