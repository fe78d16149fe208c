/**
 * The HTTP API that Docker and Podman have in common (Docker Engine API 1.41), over a UNIX socket. Whoever may use that socket is as good
 * as root: nothing of it ever reaches code.
 */
import { type IncomingMessage, request } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { type Json, SwarmError } from "@mcp-swarm/core";

/** What both speak since 2020: Docker 20.10, Podman 3. */
const API = "/v1.41";
/** How long an answer may take to begin, in ms. Removing a container with much in it is the slowest. */
const ANSWER_MS_MAX = 60_000;
/** Longest answer that is read as JSON, in bytes. */
const JSON_BYTES_MAX = 16 * 1_048_576;
/** Of what an engine says about a refusal, in characters. */
const SAID_MAX = 1_000;

export type Method = "GET" | "POST" | "PUT" | "DELETE" | "HEAD";
export interface Body {
  readonly type: string;
  readonly bytes: Buffer;
}

/** An engine that answered with a refusal. What it said is the cause, for the log. */
export class EngineRefusal extends SwarmError {
  readonly status: number;

  constructor(status: number, said: string) {
    super("unavailable", `The container engine refused a request (status ${status}).`, {
      hint: "Ask list_environments which environments run here; the worker's log says what the engine said.",
      cause: new Error(said),
    });
    this.status = status;
  }
}

export class Engine {
  readonly socket: string;

  /** @param socket path of its socket */
  constructor(socket: string) {
    this.socket = socket;
  }

  /** @throws SwarmError unavailable; EngineRefusal when it answers with an error, unless its status is among `accepted` */
  async call(method: Method, path: string, body?: Json | Body, accepted: readonly number[] = []): Promise<unknown> {
    const answer = await this.#send(method, path, bodyOf(body), accepted);
    const text = (await readUpTo(answer, JSON_BYTES_MAX)).toString();
    return /^[{[]/.test(text) ? JSON.parse(text) : undefined; // whatever type it says that it has
  }

  /** A body that is read as it comes; the caller destroys it. Undefined when there is nothing there. */
  async stream(path: string): Promise<Readable | undefined> {
    const answer = await this.#send("GET", path, undefined, [404]);
    if (answer.statusCode !== 404) return answer;
    answer.destroy();
    return undefined;
  }

  /** A connection that is no longer HTTP: input of a process one way, its output the other. */
  async hijack(path: string, body?: Json): Promise<Duplex> {
    const sent = bodyOf(body);
    return await new Promise((resolve, reject) => {
      const asking = request({
        socketPath: this.socket,
        method: "POST",
        path: `${API}${path}`,
        headers: { host: "engine", connection: "Upgrade", upgrade: "tcp", ...headersOf(sent) },
        timeout: ANSWER_MS_MAX,
      });
      asking.once("upgrade", (_answer, socket, head) => {
        socket.setTimeout(0); // the limit of time is the run's from here on
        socket.pause();
        if (head.length > 0) socket.unshift(head);
        resolve(socket);
      });
      asking.once("response", (answer) => {
        refusal(answer).then(reject, reject);
      });
      asking.once("timeout", () => asking.destroy(new Error("no answer")));
      asking.once("error", (cause) => reject(unreachable(cause)));
      asking.end(sent?.bytes);
    });
  }

  async #send(method: Method, path: string, body: Body | undefined, accepted: readonly number[]): Promise<IncomingMessage> {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      const asking = request({
        socketPath: this.socket,
        method,
        path: `${API}${path}`,
        headers: { host: "engine", ...headersOf(body) },
        timeout: ANSWER_MS_MAX,
        agent: false,
      });
      asking.once("response", resolve);
      asking.once("timeout", () => asking.destroy(new Error("no answer")));
      asking.once("error", (cause) => reject(unreachable(cause)));
      asking.end(body?.bytes);
    });
    const status = answer.statusCode ?? 0;
    if (status < 400 || accepted.includes(status)) return answer;
    throw await refusal(answer);
  }
}

function bodyOf(body: Json | Body | undefined): Body | undefined {
  if (body === undefined) return undefined;
  if (isBody(body)) return body;
  return { type: "application/json", bytes: Buffer.from(JSON.stringify(body)) };
}

function isBody(body: Json | Body): body is Body {
  return typeof body === "object" && body !== null && "bytes" in body && Buffer.isBuffer(body.bytes);
}

function headersOf(body: Body | undefined): Record<string, string | number> {
  return body === undefined ? { "content-length": 0 } : { "content-type": body.type, "content-length": body.bytes.length };
}

async function refusal(answer: IncomingMessage): Promise<EngineRefusal> {
  const said = (await readUpTo(answer, JSON_BYTES_MAX)).toString().slice(0, SAID_MAX);
  return new EngineRefusal(answer.statusCode ?? 0, said);
}

async function readUpTo(stream: Readable, max: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  try {
    for await (const part of stream as AsyncIterable<Buffer>) {
      length += part.length;
      if (length > max) throw new Error(`an answer of more than ${max} bytes`);
      parts.push(part);
    }
  } catch (cause) {
    throw unreachable(cause);
  }
  return Buffer.concat(parts);
}

function unreachable(cause: unknown): SwarmError {
  return new SwarmError("unavailable", "The container engine does not answer.", {
    hint: "Start Docker or Podman's service on the worker's machine; the worker's log says what was tried.",
    cause,
  });
}
