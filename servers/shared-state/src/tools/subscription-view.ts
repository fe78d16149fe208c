import type { z } from "zod";
import type { Subscription } from "../changes.ts";
import { stateUri } from "../state-record.ts";
import type { subscription as schema } from "./state-schemas.ts";

export function subscriptionView({ subscription }: { subscription: Subscription }): {
  subscription: z.input<ReturnType<typeof schema>>;
} {
  const { agentId: _, ...shown } = subscription;
  return { subscription: { ...shown, uri: stateUri(subscription, subscription) } };
}
