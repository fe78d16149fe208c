/** Files as text: which are, and parts of them that end where a character ends. */
import type { ArtifactRange } from "./artifacts.ts";

const TEXT_TYPES: ReadonlySet<string> = new Set(["application/json", "application/xml", "application/yaml", "image/svg+xml"]);

export function isTextType(mimeType: string): boolean {
  return mimeType.startsWith("text/") || TEXT_TYPES.has(mimeType);
}

export type TextPart = {
  /** In bytes of the file. */
  readonly offset: number;
  readonly text: string;
  /** Where to read on; absent at the end. */
  readonly nextOffset?: number;
};

/** Longest character, in bytes of UTF-8. */
const CHARACTER_BYTES_MAX = 4;

/**
 * What was read as text, as much of it as has at most `jsonBytesMax` bytes as JSON. It ends with a whole character, unless the file
 * does not; what is no UTF-8 reads as U+FFFD.
 */
export function textPart({ artifact, offset, bytes }: ArtifactRange, jsonBytesMax: number): TextPart {
  let end = wholeCharacters(bytes, offset + bytes.length < artifact.bytes);
  let text = decode(bytes.subarray(0, end));
  while (end > CHARACTER_BYTES_MAX && Buffer.byteLength(JSON.stringify(text)) > jsonBytesMax) {
    end = wholeCharacters(bytes.subarray(0, Math.ceil(end / 2)), true);
    text = decode(bytes.subarray(0, end));
  }
  const next = offset + end;
  return { offset, text, ...(next < artifact.bytes && end > 0 ? { nextOffset: next } : {}) };
}

/** Where the last character ends that is whole, when there is more behind. */
function wholeCharacters(bytes: Uint8Array, more: boolean): number {
  if (!more) return bytes.length;
  for (let back = 1; back <= Math.min(CHARACTER_BYTES_MAX, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue; // within a character
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    const whole = length <= back || back === bytes.length; // one that is longer than all there is must be given in parts
    return whole ? bytes.length : bytes.length - back;
  }
  return bytes.length;
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** The whole of a file as text; undefined when it is no text after all. */
export function asText(mimeType: string, bytes: Uint8Array): string | undefined {
  if (!isTextType(mimeType)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined; // it only begins like one
  }
}
