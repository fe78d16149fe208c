/** What an operator keeps from everybody who may use a server: the values that its configuration takes from the worker's environment. */
import { type Json, SwarmError } from "@mcp-swarm/core";
import { type HttpServer, isHttp, type McpServer, type StdioServer } from "./mcp-config.ts";

const REFERENCE = /\$\{env:([A-Za-z_][A-Za-z0-9_]{0,127})\}/g;
/** Fields whose values are taken for secrets even where they stand in the file itself. */
const SECRET_NAMES = /auth|cookie|credential|key|pass|secret|token/i;
/** Shorter values are not looked for: they would be found in ordinary words. */
const SECRET_CHARS_MIN = 6;
const REDACTED = "[redacted]";

export interface ResolvedServer {
  readonly server: McpServer;
  readonly redactor: Redactor;
}

/**
 * The server with every `${env:NAME}` replaced, for one start of it.
 * @throws SwarmError unavailable: this worker's environment lacks a variable, or the URL is none. Another worker may have it
 */
export function resolveServer(
  name: string,
  server: McpServer,
  env: Readonly<Record<string, string | undefined>>,
): ResolvedServer {
  const secrets = new Set<string>();
  const resolved = (text: string, field = ""): string => {
    const whole = text.replace(REFERENCE, (_, variable: string) => {
      const value = env[variable];
      if (value === undefined || value === "") {
        throw new SwarmError(
          "unavailable",
          `The MCP server ${name} needs the variable ${variable}, which this worker does not have.`,
          {
            hint: "Whoever runs the worker sets it; another worker may have it.",
          },
        );
      }
      secrets.add(value);
      for (const password of passwordsIn(value)) secrets.add(password);
      return value;
    });
    // of `Bearer abc` both, and not the word that everybody knows
    if (SECRET_NAMES.test(field)) for (const secret of [whole, whole.slice(whole.lastIndexOf(" ") + 1)]) secrets.add(secret);
    for (const password of passwordsIn(whole)) secrets.add(password);
    return whole;
  };
  const each = (fields: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, resolved(value, field)]));
  const whole: McpServer = isHttp(server)
    ? ({ ...server, url: checkedUrl(name, resolved(server.url)), headers: each(server.headers) } satisfies HttpServer)
    : ({ ...server, args: server.args.map((arg) => resolved(arg)), env: each(server.env) } satisfies StdioServer);
  return { server: whole, redactor: new Redactor(secrets) };
}

function checkedUrl(name: string, url: string): string {
  const parsed = URL.parse(url);
  if (parsed?.protocol === "http:" || parsed?.protocol === "https:") return parsed.href;
  throw new SwarmError("unavailable", `The URL of the MCP server ${name} is no http or https URL.`, {
    hint: "Whoever runs the worker corrects it in the file that SWARM_EXEC_CONFIG names.",
  });
}

/** The password of a URL, as it stands there and as it is meant. */
function passwordsIn(text: string): string[] {
  const password = text.includes("://") ? (URL.parse(text)?.password ?? "") : "";
  if (password === "") return [];
  try {
    return [password, decodeURIComponent(password)];
  } catch {
    return [password]; // a % that encodes nothing
  }
}

/** As it stands within a longer text that was encoded: in one of three ways, by where it begins there. */
function base64Of(secret: string): string[] {
  return [0, 1, 2].flatMap((before) => {
    const whole = Buffer.concat([Buffer.alloc(before), Buffer.from(secret, "utf8")]);
    // the first characters hold bits of what stands before, the last ones of what follows
    return (["base64", "base64url"] as const).map((form) =>
      whole
        .toString(form)
        .replace(/=+$/, "")
        .slice(before === 0 ? 0 : before + 1, whole.length % 3 === 0 ? undefined : -1),
    );
  });
}

/** Takes known secrets out of what a server says, in the ways in which texts usually carry them. */
export class Redactor {
  readonly #secrets: readonly string[];

  constructor(secrets: Iterable<string>) {
    const variants = [...secrets]
      .filter((secret) => secret.length >= SECRET_CHARS_MIN)
      .flatMap((secret) => [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1), ...base64Of(secret)]);
    this.#secrets = [...new Set(variants)].sort((a, b) => b.length - a.length); // one may be part of another
  }

  text(text: string): string {
    return this.#secrets.reduce((left, secret) => left.replaceAll(secret, REDACTED), text);
  }

  json(value: Json): Json {
    if (this.#secrets.length === 0) return value;
    if (typeof value === "string") return this.text(value);
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((item: Json) => this.json(item));
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [
        this.text(key),
        member === undefined ? undefined : this.json(member as Json),
      ]),
    );
  }

  bytes(bytes: Uint8Array): Uint8Array {
    const as = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (!this.#secrets.some((secret) => as.includes(secret))) return bytes;
    const latin = this.#secrets.reduce(
      (left, secret) => left.replaceAll(Buffer.from(secret, "utf8").toString("latin1"), REDACTED),
      as.toString("latin1"),
    );
    return Buffer.from(latin, "latin1");
  }
}
