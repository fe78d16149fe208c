/**
 * What an agent says of itself, and the keys it stands under.
 *
 * | key | value | why |
 * |---|---|---|
 * | `agent/<agent>` | AgentRecord | type, capabilities and coordination record; plain named JSON, so that SQL can read it |
 * | `agent-config/<agent>` | ConfigurationRecord | apart from the record: lists of agents need not read it |
 *
 * Whether an agent lives is not in here: presence tells (`@mcp-swarm/identity`).
 */
import { type Json, type JsonObject, SwarmError } from "@mcp-swarm/core";
import type { LiveAgent } from "@mcp-swarm/identity";
import { segment } from "@mcp-swarm/store";

/** Bounds of one record, so that all of it fits one answer. */
export const DESCRIPTION_CHARS_MAX = 500;
export const CURRENT_TASK_CHARS_MAX = 200;
export const AGENT_DEPENDENCIES_MAX = 20;
/** Bytes of JSON. */
export const METADATA_BYTES_MAX = 4_096;
export const RESULTS_BYTES_MAX = 4_096;
export const CONFIGURATION_BYTES_MAX = 16_384;

export const AGENTS_PREFIX = "agent/";

export const configurationKey = (agentId: string): string => `agent-config/${segment(agentId)}`;

/** Of an agent that registered or told its status. */
export type AgentRecord = {
  readonly id: string;
  readonly agentType?: string;
  readonly capabilities: readonly string[];
  readonly description?: string;
  readonly metadata?: JsonObject;
  readonly registeredAt: number;
  readonly updatedAt: number;
  /** Noted once a day at most while it lives: retention goes by it. */
  readonly lastSeenAt?: number;
  readonly sessionId?: string;
  readonly agentRole?: string;
  /** As it said last; whether it still holds is for presence to say. */
  readonly status: string;
  readonly currentTask?: string;
  readonly results?: Json;
  readonly dependencies?: readonly string[];
  /** Share of what it can do, 0 to 1. */
  readonly load?: number;
};

export type ConfigurationRecord = {
  readonly agentId: string;
  readonly configuration: JsonObject;
  /** Counts the changes, from 1. */
  readonly rev: number;
  readonly updatedAt: number;
  readonly updatedBy: string;
};

/** What an agent has said in this session of what it does. */
export type CoordinationFields = Pick<
  AgentRecord,
  "sessionId" | "agentRole" | "status" | "currentTask" | "results" | "dependencies" | "load"
>;

/** Of one that never said another. */
export const STATUS_DEFAULT = "idle";
/** What presence says, and no agent of itself. */
export const OFFLINE = "offline";
export const ONLINE = "online";

/** An agent as others see it: what it said, and what presence knows. */
export type AgentView = Omit<AgentRecord, "registeredAt" | "updatedAt"> & {
  readonly online: boolean;
  /** Absent while it is only present: it neither registered nor told its status. */
  readonly registeredAt?: number;
  readonly updatedAt?: number;
  /** Of an agent that is offline: what it said last. */
  readonly lastStatus?: string;
};

/** What it is and can do: as its living processes announced it last, else as it registered. */
export function described(
  record: AgentRecord | undefined,
  live: LiveAgent | undefined,
): { agentType?: string; capabilities: readonly string[] } {
  const agentType = live?.agentType ?? record?.agentType;
  const announced = live !== undefined && live.capabilities.length > 0;
  const capabilities = announced ? live.capabilities : (record?.capabilities ?? []);
  return agentType === undefined ? { capabilities } : { agentType, capabilities };
}

/** An agent that registered, lives, or both; undefined of one that does neither. */
export function viewOf(record: AgentRecord | undefined, live: LiveAgent | undefined): AgentView | undefined {
  const id = record?.id ?? live?.agentId;
  if (id === undefined) return undefined;
  const online = live !== undefined;
  const lastSeenAt = live?.lastSeenAt ?? record?.lastSeenAt;
  return {
    ...record,
    id,
    ...described(record, live),
    online,
    status: online ? (record?.status ?? ONLINE) : OFFLINE,
    ...(online || record === undefined ? {} : { lastStatus: record.status }),
    ...(lastSeenAt === undefined ? {} : { lastSeenAt }),
  };
}

/** @throws SwarmError invalid_argument naming the field when its JSON is longer than `bytes` */
export function checkSize(field: string, value: Json | undefined, bytes: number): void {
  if (value === undefined || Buffer.byteLength(JSON.stringify(value)) <= bytes) return;
  throw new SwarmError("invalid_argument", `${field} is longer than ${bytes} bytes of JSON.`, {
    hint: "Keep it short: put large data where others can fetch it, and name the place here.",
  });
}
