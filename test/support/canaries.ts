/** Secrets that a test knows, and a search for them in whatever a swarm writes, says or leaves behind. */
import { isUtf8 } from "node:buffer";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

/** Pieces of this length are looked for: a secret that got out in part is found by any stretch of twice as much. */
const PIECE = 12;

/** Ways in which bytes are written as text. Base64 of a longer text shows them in one of three ways, by where they begin in it. */
function writings(secret: Buffer): Map<string, string> {
  const found = new Map<string, string>();
  const latin = secret.toString("latin1");
  found.set("as it is", latin);
  found.set("hex", secret.toString("hex"));
  found.set("HEX", secret.toString("hex").toUpperCase());
  found.set("percent-encoded", [...secret].map((byte) => `%${byte.toString(16).padStart(2, "0").toUpperCase()}`).join(""));
  if (isUtf8(secret)) {
    const text = secret.toString("utf8");
    found.set("percent-encoded text", encodeURIComponent(text));
    found.set("JSON", JSON.stringify(text).slice(1, -1));
    found.set("JSON in JSON", JSON.stringify(JSON.stringify(text)).slice(3, -3));
  }
  found.set("bytes in JSON", [...secret].join(","));
  for (const form of ["base64", "base64url"] as const) {
    for (const before of [0, 1, 2]) {
      const whole = Buffer.concat([Buffer.alloc(before), secret])
        .toString(form)
        .replace(/=+$/, "");
      // the first characters hold bits of what stands before, the last one of what comes after
      found.set(`${form} at ${before}`, whole.slice(before === 0 ? 0 : before + 1, -1));
    }
  }
  return found;
}

function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  for (let at = 0; at + PIECE <= text.length; at += PIECE) pieces.push(text.slice(at, at + PIECE));
  return pieces;
}

interface Needle {
  readonly name: string;
  readonly writing: string;
  readonly bytes: Buffer;
}

/** A secret where it does not belong. */
export interface Leak {
  readonly where: string;
  readonly secret: string;
  readonly writing: string;
}

export class Canaries {
  readonly #needles = new Map<string, Needle>();
  readonly #leaks: Leak[] = [];
  readonly #looked = new Map<string, number>();

  /** From now on the secret is looked for. @param secret at least 16 bytes that nothing else has by chance */
  add(name: string, secret: Buffer | string): void {
    const bytes = typeof secret === "string" ? Buffer.from(secret) : secret;
    if (bytes.length < 16) throw new Error(`${name} is too short to be told from other text`);
    for (const [writing, text] of writings(bytes)) {
      for (const piece of piecesOf(text)) {
        if (!this.#needles.has(piece)) this.#needles.set(piece, { name, writing, bytes: Buffer.from(piece, "latin1") });
      }
    }
  }

  /** The secrets that stand in these bytes, each with a way in which it is written there. */
  find(haystack: Buffer | string): Map<string, string> {
    const bytes = typeof haystack === "string" ? Buffer.from(haystack) : haystack;
    const found = new Map<string, string>();
    for (const { name, writing, bytes: needle } of this.#needles.values()) {
      if (!found.has(name) && bytes.includes(needle)) found.set(name, writing);
    }
    return found;
  }

  /** Looks at something and remembers what should not be there. @param place what kind of thing it is, for `looked` */
  look(place: string, where: string, haystack: Buffer | string, belongs: readonly string[] = []): void {
    this.#looked.set(place, (this.#looked.get(place) ?? 0) + Buffer.byteLength(haystack));
    for (const [secret, writing] of this.find(haystack)) {
      if (!belongs.includes(secret)) this.#leaks.push({ where: `${place}: ${where}`, secret, writing });
    }
  }

  /** Looks at all files in a folder and below, and at their names. @param belongs which secrets a file holds by right */
  lookIntoFolder(place: string, folder: string, belongs: (path: string) => readonly string[] = () => []): void {
    for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      this.look(place, "a file's name", path);
      const whole = join(folder, path);
      if (statSync(whole).isFile()) this.look(place, path, readFileSync(whole), belongs(whole));
    }
  }

  /** What was found where it does not belong. */
  get leaks(): readonly Leak[] {
    return this.#leaks;
  }

  /** Bytes that were looked at, by kind of place. */
  get looked(): ReadonlyMap<string, number> {
    return this.#looked;
  }
}
