/** What people and other programs may read of a swarm with plain SQL. */
import type { SqlView } from "@mcp-swarm/store";
import { agentCoordination } from "./agent-coordination.ts";
import { taskDistribution } from "./task-distribution.ts";

export const sqlViews: readonly SqlView[] = [agentCoordination, taskDistribution];
