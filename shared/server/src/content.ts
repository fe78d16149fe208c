/** What an answer carries beside its structured part, and what a resource holds that is no JSON. */
import { assert, SwarmError } from "@mcp-swarm/core";
import type { ContentBlock, ReadResourceResult } from "@modelcontextprotocol/server";

/** Images that hosts can show to their model. */
export const IMAGE_TYPES = ["image/png", "image/jpeg", "image/gif", "image/webp"] as const;
/** Most images of one answer, and the largest, in bytes: hosts hand them to a model as they are. */
export const IMAGES_MAX = 3;
export const IMAGE_BYTES_MAX = 512 * 1024;
/** Most links of one answer. */
export const LINKS_MAX = 64;
/**
 * Largest resource that is no JSON, in bytes. The official clients end a stdio connection on a line of more than 10 MiB, and the
 * bytes become 8 MiB of base64 in it.
 */
export const RESOURCE_BYTES_MAX = 6 * 1024 * 1024;
/** Longest text that goes as one, in bytes of JSON: one of control characters is six times as long there. */
const TEXT_BYTES_MAX = 8 * 1024 * 1024;

/** A further part of an answer, beside its structured one: for the host to show, while the structured part says the same in words. */
export type Attachment =
  | { readonly type: "image"; readonly mimeType: string; readonly bytes: Uint8Array }
  | { readonly type: "link"; readonly uri: string; readonly name: string; readonly mimeType: string; readonly bytes: number };

/** The further parts of one answer. */
export class Attachments {
  readonly parts: ContentBlock[] = [];
  #images = 0;
  #links = 0;

  /** Adds a part, unless it is an image that models cannot be shown, too large, or one too many: false then. */
  add(part: Attachment): boolean {
    if (part.type === "image") {
      const { bytes, mimeType } = part;
      const shown = IMAGE_TYPES.some((type) => type === mimeType) && bytes.length <= IMAGE_BYTES_MAX && this.#images < IMAGES_MAX;
      if (shown) this.parts.push({ type: "image", mimeType, data: base64(bytes) });
      if (shown) this.#images += 1;
      return shown;
    }
    if (this.#links >= LINKS_MAX) return false;
    this.#links += 1;
    const { uri, name, mimeType, bytes } = part;
    this.parts.push({ type: "resource_link", uri, name, mimeType, size: bytes });
    return true;
  }
}

/**
 * What a resource holds that is no JSON: bytes, or a text as it is. Whoever wrote it is not the server, so the protocol's answer says
 * that it is not to be trusted.
 */
export class RawContent {
  readonly mimeType: string;
  readonly content: Uint8Array | string;

  /** A text is well-formed Unicode. */
  constructor(mimeType: string, content: Uint8Array | string) {
    assert(typeof content !== "string" || content.isWellFormed(), "a resource's text is Unicode");
    this.mimeType = mimeType;
    this.content = content;
  }

  /** @throws SwarmError limit_exceeded when it is over `RESOURCE_BYTES_MAX` */
  toContents(uri: string): ReadResourceResult["contents"][number] {
    const { content, mimeType } = this;
    const size = typeof content === "string" ? Buffer.byteLength(content) : content.length;
    if (size > RESOURCE_BYTES_MAX) {
      throw new SwarmError(
        "limit_exceeded",
        `The resource has ${size} bytes, and at most ${RESOURCE_BYTES_MAX} are read at once.`,
        {
          hint: "Read it in parts with the tools of this server.",
        },
      );
    }
    const common = { uri, mimeType, _meta: { "mcp-swarm/untrusted": true } };
    if (typeof content === "string" && Buffer.byteLength(JSON.stringify(content)) <= TEXT_BYTES_MAX) {
      return { ...common, text: content };
    }
    return { ...common, blob: base64(typeof content === "string" ? Buffer.from(content) : content) };
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}
