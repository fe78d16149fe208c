export {
  beginFanOut,
  deliverPart,
  FAILED_NAMED_MAX,
  FAN_OUT_LEASE_MS,
  type FanOutCounts,
  FanOuts,
  PART_RECEIVERS_MAX,
  RECEIVERS_MAX,
} from "./fan-out.ts";
export { heardKeys, noteHeard } from "./hops.ts";
export { countRows, INBOX_MESSAGES_MAX, type InboxCount, InboxRoom, inboxIsFull } from "./inbox-room.ts";
export { type Held, mayRead, messagesOf, type Pointer, type ReadsTopic, steady } from "./message-finding.ts";
export type { TextRow } from "./message-index.ts";
export { agentKey, deliveryKey, messageKey, threadPrefix } from "./message-keys.ts";
export {
  type Change,
  changeDelivery,
  deliver,
  deliverNew,
  dueAtOf,
  findDelivery,
  type InboxEntry,
  inboxEntry,
  lifeOf,
  messagePrefixes,
  putMessage,
  readyKey,
} from "./message-layer.ts";
export {
  AHEAD_MS_MAX,
  type Audience,
  DELIVERY_STATES,
  type Delivery,
  type DeliveryState,
  HOPS_MAX,
  LOOKED_AT_MAX,
  MESSAGE_TYPES,
  type MessageRecord,
  PAYLOAD_BYTES_MAX,
  PRIORITY_DEFAULT,
  PRIORITY_MAX,
  REASON_CHARS_MAX,
  rootOf,
  SEALED_CHARS_MAX,
} from "./message-record.ts";
export { messageRetentionMs } from "./message-retention.ts";
export { type Addressees, type Notice, Postbox, type PostboxOptions, type PostedNotice } from "./postbox.ts";
export { type Draft, Posting, type PostingOptions, sentCount } from "./posting.ts";
export { MESSAGE_RATE_DEFAULT } from "./rate.ts";
