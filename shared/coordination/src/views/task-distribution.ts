/** Tasks, one row each, read from the form in which they are stored (tasks/kept-task.ts). */
import type { SqlView } from "@mcp-swarm/store";
import { USUAL } from "../tasks/kept-task.ts";
import { rowsOf, timeOf } from "./rows.ts";

/** What `task_definition` tells, besides the title. */
const DEFINITION = [
  "description",
  "type",
  "parameters",
  "expectedOutput",
  "requiredCapabilities",
  "files",
  "maxAttempts",
] as const;

const usual = (field: string): unknown => (field in USUAL ? USUAL[field as keyof typeof USUAL] : undefined);

// SQLite: v is JSON text
const text = (field: string) => `v ->> '$.${field}'`;
const json = (field: string) =>
  usual(field) === undefined ? `v -> '$.${field}'` : `coalesce(v -> '$.${field}', json('${JSON.stringify(usual(field))}'))`;
const since = (field: string) => timeOf.sqlite(`(v ->> '$.createdAt') + (v ->> '$.${field}')`);

// PostgreSQL: v is jsonb
const pgText = (field: string) => `v ->> '${field}'`;
const pgJson = (field: string) =>
  usual(field) === undefined ? `v -> '${field}'` : `coalesce(v -> '${field}', '${JSON.stringify(usual(field))}'::jsonb)`;
const pgNumber = (path: string) => `(${path})::bigint`;
const pgSince = (field: string) => timeOf.postgres(`${pgNumber(pgText("createdAt"))} + ${pgNumber(pgText(field))}`);

export const taskDistribution: SqlView = {
  name: "task_distribution",
  sqlite: `SELECT
  ${text("id")} AS task_id,
  ${text("workflowId")} AS workflow_id,
  coalesce(v ->> '$.claim[0]', ${text("assignedTo")}) AS assigned_agent,
  ${text("title")} AS title,
  json_object('title', ${json("title")}, ${DEFINITION.map((field) => `'${field}', ${json(field)}`).join(", ")}) AS task_definition,
  ${text("status")} AS status,
  coalesce(${text("priority")}, ${USUAL.priority}) AS priority,
  ${json("dependencies")} AS dependencies,
  ${json("output")} AS results,
  ${json("error")} AS error,
  ${json("progress")} AS progress,
  coalesce(${text("attempt")}, ${USUAL.attempt}) AS attempt,
  ${text("createdBy")} AS created_by,
  ${timeOf.sqlite(text("createdAt"))} AS created_at,
  ${timeOf.sqlite(text("deadlineAt"))} AS deadline_at,
  ${since("startedAt")} AS started_at,
  ${since("endedAt")} AS completed_at,
  ${since("history[#-1][0]")} AS updated_at,
  key AS row_key
FROM ${rowsOf.sqlite("task")}`,
  postgres: `SELECT
  ${pgText("id")} AS task_id,
  ${pgText("workflowId")} AS workflow_id,
  coalesce(v -> 'claim' ->> 0, ${pgText("assignedTo")}) AS assigned_agent,
  ${pgText("title")} AS title,
  jsonb_build_object('title', ${pgJson("title")}, ${DEFINITION.map((field) => `'${field}', ${pgJson(field)}`).join(", ")}) AS task_definition,
  ${pgText("status")} AS status,
  coalesce((${pgText("priority")})::integer, ${USUAL.priority}) AS priority,
  ${pgJson("dependencies")} AS dependencies,
  ${pgJson("output")} AS results,
  ${pgJson("error")} AS error,
  ${pgJson("progress")} AS progress,
  coalesce((${pgText("attempt")})::integer, ${USUAL.attempt}) AS attempt,
  ${pgText("createdBy")} AS created_by,
  ${timeOf.postgres(pgNumber(pgText("createdAt")))} AS created_at,
  ${timeOf.postgres(pgNumber(pgText("deadlineAt")))} AS deadline_at,
  ${pgSince("startedAt")} AS started_at,
  ${pgSince("endedAt")} AS completed_at,
  ${timeOf.postgres(`${pgNumber(pgText("createdAt"))} + ${pgNumber("v -> 'history' -> -1 ->> 0")}`)} AS updated_at,
  key AS row_key
FROM ${rowsOf.postgres("task")} t`,
};
