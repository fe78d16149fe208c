import type { Tool } from "@mcp-swarm/server";
import type { StateServer } from "../open.ts";
import { acknowledgeStateChanges } from "./acknowledge-state-changes.ts";
import { acquireLock } from "./acquire-lock.ts";
import { checkFiles } from "./check-files.ts";
import { deleteState } from "./delete-state.ts";
import { electLeader } from "./elect-leader.ts";
import { getContext } from "./get-context.ts";
import { getLeader } from "./get-leader.ts";
import { getState } from "./get-state.ts";
import { getStateHistory } from "./get-state-history.ts";
import { listLocks } from "./list-locks.ts";
import { listReservations } from "./list-reservations.ts";
import { listState } from "./list-state.ts";
import { patchState } from "./patch-state.ts";
import { releaseFiles } from "./release-files.ts";
import { releaseLock } from "./release-lock.ts";
import { renewLock } from "./renew-lock.ts";
import { reserveFiles } from "./reserve-files.ts";
import { resignLeader } from "./resign-leader.ts";
import { restoreState } from "./restore-state.ts";
import { setState } from "./set-state.ts";
import { setStatePolicy } from "./set-state-policy.ts";
import { subscribeToStateChanges } from "./subscribe-to-state-changes.ts";
import { transactState } from "./transact-state.ts";
import { unsubscribe } from "./unsubscribe.ts";
import { waitForState } from "./wait-for-state.ts";

/** In the order in which an agent meets them. */
export const tools: readonly Tool<StateServer>[] = [
  getState,
  setState,
  patchState,
  deleteState,
  listState,
  transactState,
  waitForState,
  subscribeToStateChanges,
  acknowledgeStateChanges,
  unsubscribe,
  getStateHistory,
  restoreState,
  setStatePolicy,
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
  getContext,
];
