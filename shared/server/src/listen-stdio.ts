import {
  type JSONRPCMessage,
  type JSONRPCRequest,
  type MessageExtraInfo,
  ProtocolError,
  ProtocolErrorCode,
  type RequestId,
  type Transport,
  type TransportSendOptions,
} from "@modelcontextprotocol/server";
import { askedUris, LISTEN, withUris } from "./listen.ts";
import type { Subscriptions } from "./subscriptions.ts";

/** Most listen streams of one connection. */
export const LISTENS_MAX = 100;

interface Listen {
  /** What it is told about; undefined while that is being found out. */
  uris: readonly string[] | undefined;
  cancelled: boolean;
}

/**
 * The transport of a host's connection, which sees to it that what a listen stream (revision 2026-07-28) names is watched from
 * before its acknowledgement until its end. The SDK serves these streams in front of the server and tells nobody what they name.
 */
export class ListeningTransport implements Transport {
  onclose: Transport["onclose"];
  onerror: Transport["onerror"];
  onmessage: Transport["onmessage"];
  readonly #inner: Transport;
  readonly #subscriptions: () => Promise<Subscriptions>;
  readonly #listens = new Map<RequestId, Listen>();

  constructor(inner: Transport, subscriptions: () => Promise<Subscriptions>) {
    this.#inner = inner;
    this.#subscriptions = subscriptions;
  }

  async start(): Promise<void> {
    this.#inner.onclose = () => this.onclose?.();
    this.#inner.onerror = (error) => this.onerror?.(error);
    this.#inner.onmessage = (message, extra) => {
      if (!this.#takes(message, extra)) this.onmessage?.(message, extra);
    };
    await this.#inner.start();
  }

  async send(message: JSONRPCMessage, options?: TransportSendOptions): Promise<void> {
    // a listen request is answered when its stream ends, or when it was refused; nothing waits here, or messages would change places
    if (!("method" in message) && message.id !== undefined) void this.#end(message.id);
    await this.#inner.send(message, options);
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  /** Whether the message goes no further for now. */
  #takes(message: JSONRPCMessage, extra: MessageExtraInfo | undefined): boolean {
    if (!("method" in message)) return false;
    if (message.method === LISTEN && "id" in message) {
      const uris = askedUris(message);
      if (!uris) return false; // it names no resource, or not in a way that the SDK will take
      void this.#open(message, uris, extra);
      return true;
    }
    if (message.method !== "notifications/cancelled") return false;
    const id = message.params?.requestId as RequestId;
    const listen = this.#listens.get(id);
    if (!listen) return false;
    if (listen.uris) void this.#end(id);
    else listen.cancelled = true;
    return listen.uris === undefined;
  }

  /** Never rejects. */
  async #open(request: JSONRPCRequest, asked: readonly string[], extra: MessageExtraInfo | undefined): Promise<void> {
    const { id } = request;
    if (this.#listens.has(id)) return this.#refuse(id, new ProtocolError(ProtocolErrorCode.InvalidRequest, "This id is in use."));
    if (this.#listens.size >= LISTENS_MAX) {
      const words = `One connection has at most ${LISTENS_MAX} listen streams. End some first.`;
      return this.#refuse(id, new ProtocolError(ProtocolErrorCode.InternalError, words, { code: "limit_exceeded" }));
    }
    const listen: Listen = { uris: undefined, cancelled: false };
    this.#listens.set(id, listen);
    try {
      const subscriptions = await this.#subscriptions();
      listen.uris = await subscriptions.addPermitted(asked);
      if (listen.cancelled) await this.#end(id);
      else this.onmessage?.(withUris(request, listen.uris), extra);
    } catch (error) {
      this.#listens.delete(id);
      if (!listen.cancelled) await this.#refuse(id, error);
    }
  }

  async #refuse(id: RequestId, error: unknown): Promise<void> {
    const { code, message, data } =
      error instanceof ProtocolError ? error : new ProtocolError(ProtocolErrorCode.InternalError, "Internal error");
    if (!(error instanceof ProtocolError)) this.onerror?.(error as Error);
    const refusal = { jsonrpc: "2.0", id, error: { code, message, ...(data === undefined ? {} : { data }) } } as const;
    await this.#inner.send(refusal).catch((cause: Error) => this.onerror?.(cause));
  }

  async #end(id: RequestId): Promise<void> {
    const uris = this.#listens.get(id)?.uris;
    if (!uris) return; // some other request, or a stream that is not open yet
    this.#listens.delete(id);
    const subscriptions = await this.#subscriptions();
    for (const uri of uris) subscriptions.remove(uri);
  }
}
