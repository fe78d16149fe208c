import type { JSONRPCRequest } from "@modelcontextprotocol/server";

/** The method by which a host of revision 2026-07-28 asks to be told of changes. */
export const LISTEN = "subscriptions/listen";

/** The resources that a listen request names; undefined when it names none, or not in the way it should. */
export function askedUris(request: { method: string; params?: unknown }): string[] | undefined {
  if (request.method !== LISTEN) return undefined;
  const params = request.params as { notifications?: { resourceSubscriptions?: unknown } } | null | undefined;
  const asked = params?.notifications?.resourceSubscriptions;
  if (!Array.isArray(asked) || asked.length === 0) return undefined;
  return asked.every((uri) => typeof uri === "string") ? asked : undefined;
}

/** The same request for these resources alone. */
export function withUris(request: JSONRPCRequest, uris: readonly string[]): JSONRPCRequest {
  const notifications = request.params?.notifications as object;
  return { ...request, params: { ...request.params, notifications: { ...notifications, resourceSubscriptions: [...uris] } } };
}
