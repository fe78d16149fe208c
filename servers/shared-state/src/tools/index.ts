import type { Tool } from "@mcp-swarm/server";
import type { StateServer } from "../open.ts";
import { acquireLock } from "./acquire-lock.ts";
import { checkFiles } from "./check-files.ts";
import { electLeader } from "./elect-leader.ts";
import { getLeader } from "./get-leader.ts";
import { listLocks } from "./list-locks.ts";
import { listReservations } from "./list-reservations.ts";
import { releaseFiles } from "./release-files.ts";
import { releaseLock } from "./release-lock.ts";
import { renewLock } from "./renew-lock.ts";
import { reserveFiles } from "./reserve-files.ts";
import { resignLeader } from "./resign-leader.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<StateServer>[] = [
  acquireLock,
  renewLock,
  releaseLock,
  listLocks,
  electLeader,
  getLeader,
  resignLeader,
  reserveFiles,
  releaseFiles,
  checkFiles,
  listReservations,
];
