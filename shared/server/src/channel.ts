/** What a server may push into a running session of its host, beside answering it. */
export interface ChannelEvent {
  /** What the session reads. */
  readonly content: string;
  /** What it is about; keys of small letters and "_". */
  readonly meta: Readonly<Record<string, string>>;
}

/** Pushes one event; rejects when the connection has ended. Nothing says whether the session read it. */
export type Push = (event: ChannelEvent) => Promise<void>;

/** Largest event, in bytes of JSON: it lies in the session's context for good. */
export const CHANNEL_EVENT_BYTES_MAX = 10_000;
