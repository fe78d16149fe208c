export { type Call, noticeWrites, plainCall } from "./call.ts";
export { AGENT_ID_MAX, type Caller, checkAgentId, meantAgent, rootAgent, speakAs } from "./caller.ts";
export type { Admission, Guard, Operation } from "./guard/guard.ts";
export { OpenGuard, type OpenGuardOptions } from "./guard/open-guard.ts";
export { fingerprintOf, IDEMPOTENCY_KEY_MAX, type Once, onceCall } from "./idempotency.ts";
export {
  type Announcement,
  CAPABILITIES_MAX,
  CAPABILITY_LENGTH_MAX,
  deriveAgentId,
  findLiveAgent,
  type LiveAgent,
  type LiveAgents,
  listLiveAgents,
  liveAgentIn,
  liveAgentsIn,
  liveProcesses,
  Presence,
  type PresenceOptions,
} from "./presence.ts";
export { type Bucket, OwnRates, type Rate, type Take, takeRate } from "./rate.ts";
export type { Signatures, Signed } from "./signatures.ts";
