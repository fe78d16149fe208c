/** Reading one message, by those whom it concerns. */
import {
  type Delivery,
  deliveryKey,
  type Held,
  type MessageRecord,
  messageKey,
  type ReadsTopic,
} from "@mcp-swarm/coordination/messages";
import { SwarmError } from "@mcp-swarm/core";
import { type Call, speakAs } from "@mcp-swarm/identity";

export interface ReadMessage {
  readonly message: MessageRecord;
  /** The reader's own, or that of the one agent to whom the reader sent it; of a message to many its sender sees none. */
  readonly delivery?: Delivery;
}

/**
 * A message that the caller sent or got, or of a topic. It changes nothing: the message is not handed out.
 * @throws SwarmError not_found, permission_denied (of `agentId`), failed_precondition (its sender is quarantined)
 */
export async function readMessage(
  { caller, store }: Pick<Call, "caller" | "store">,
  { messageId, agentId }: { messageId: string; agentId?: string | undefined },
  held?: Held,
  readsTopic?: ReadsTopic,
): Promise<ReadMessage> {
  const reader = speakAs(caller, agentId);
  const [entry, own] = await store.getMany([messageKey(messageId), deliveryKey(reader, messageId)]);
  const message = entry?.value as MessageRecord | undefined;
  if (message && message.from !== reader && (own || message.audience.kind === "topic") && held?.(message.from)) {
    throw heldBack(message);
  }
  if (message && own) return { message, delivery: own.value as Delivery };
  if (message?.from === reader) {
    const { kind, name } = message.audience;
    const sent = kind === "agent" && name !== undefined ? await store.get(deliveryKey(name, messageId)) : undefined;
    return sent ? { message, delivery: sent.value as Delivery } : { message };
  }
  const { kind, name = "" } = message?.audience ?? {};
  if (message && kind === "topic" && (readsTopic?.(reader, name) ?? true)) return { message };
  throw new SwarmError("not_found", `You neither got nor sent a message ${messageId}.`, {
    hint: "Ids are those of get_messages, send_message and get_thread; what expired is gone.",
  });
}

function heldBack({ id, from }: MessageRecord): SwarmError {
  return new SwarmError("failed_precondition", `Message ${id} is held back: its sender ${from} is quarantined.`, {
    hint: "It is not lost: it can be read when an administrator ends the quarantine. Go on without it.",
  });
}
