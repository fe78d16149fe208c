export { type Call, plainCall } from "./call.ts";
export { AGENT_ID_MAX, type Caller, checkAgentId, speakAs } from "./caller.ts";
