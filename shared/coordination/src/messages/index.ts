export { mayRead, messagesOf, type Pointer, pointerTo } from "./message-finding.ts";
export { deliveryKey, messageKey, threadPrefix } from "./message-keys.ts";
export type { Audience, MessageRecord } from "./stored-message.ts";
