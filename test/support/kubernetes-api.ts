/**
 * A stand-in for a cluster's API server: it keeps what it is given, and its pods do what the test says. It proves what the driver asks
 * for and how it takes answers and failures; it proves nothing about a cluster.
 */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakePod {
  /** As `status` of a pod; undefined when there is no such pod yet. */
  status: unknown;
  log: string;
  /** Once, a log that is followed breaks off after so many characters. */
  breaksAfter?: number;
  /** Whether a log that is followed stays open. */
  open?: boolean;
}

export const RUNNING = { phase: "Running", containerStatuses: [{ name: "code", state: { running: {} } }] };
export const waiting = (reason: string): unknown => ({
  phase: "Pending",
  containerStatuses: [{ name: "code", state: { waiting: { reason } } }],
});
export const terminated = (exitCode: number, reason = "Error"): unknown => ({
  phase: exitCode === 0 ? "Succeeded" : "Failed",
  containerStatuses: [{ name: "code", state: { terminated: { exitCode, reason } } }],
});

type Kubernetes = { metadata: { name: string; annotations: Record<string, string> } } & Record<string, unknown>;

export class FakeKubernetes {
  readonly #server: Server;
  readonly jobs = new Map<string, Kubernetes>();
  readonly secrets = new Map<string, Kubernetes>();
  /** Every request, as method and path. */
  readonly asked: string[] = [];
  policy: unknown = { spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"] } };
  /** Answers instead of the server, with a status. */
  refuse: (request: string) => number | undefined = () => undefined;
  /** What a Job's pod does. */
  onJob: (job: Kubernetes, secret: Kubernetes | undefined) => FakePod = () => ({ status: terminated(0, "Completed"), log: "" });
  /** Requests whose connections are cut off. */
  away = false;
  readonly #pods = new Map<string, FakePod>();

  private constructor(server: Server) {
    this.#server = server;
    server.on("request", (request, response) => {
      this.#answer(request, response).catch((error) => response.destroy(error));
    });
  }

  /** @param kubeconfig where a file is written that leads here */
  static async start(kubeconfig: string): Promise<FakeKubernetes> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const config = {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "fake", cluster: { server: `http://127.0.0.1:${port}`, "insecure-skip-tls-verify": true } }],
      users: [{ name: "worker", user: { token: "token-of-the-worker" } }],
      contexts: [{ name: "fake", context: { cluster: "fake", user: "worker" } }],
      "current-context": "fake",
    };
    writeFileSync(kubeconfig, JSON.stringify(config));
    return new FakeKubernetes(server);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://fake");
    const asked = `${request.method} ${pathname}`;
    this.asked.push(asked);
    if (this.away) return void request.socket.destroy();
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    const body = (): Kubernetes => JSON.parse(Buffer.concat(parts).toString()) as Kubernetes;
    const say = (status: number, value: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    };
    const status = (code: number): void =>
      say(code, { kind: "Status", apiVersion: "v1", status: "Failure", code, message: "no" });
    const refused = this.refuse(asked);
    if (refused !== undefined) return status(refused);

    const [, namespace, kind = "", name, sub] =
      /\/namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(pathname) ?? [];
    if (namespace !== "runs") return status(403);
    if (kind === "networkpolicies") return this.policy === undefined ? status(404) : say(200, this.policy);
    if (kind === "pods") return void this.#pod(name, sub, searchParams, { request, response, say, status });
    const kept = kind === "jobs" ? this.jobs : this.secrets;
    if (request.method === "POST") {
      const made = body();
      if (kept.has(made.metadata.name)) return status(409);
      kept.set(made.metadata.name, made);
      if (kind === "jobs") this.#pods.set(`${made.metadata.name}-pod`, this.onJob(made, this.secrets.get(made.metadata.name)));
      return say(201, made);
    }
    if (name === undefined) return say(200, { kind: "List", metadata: {}, items: [...kept.values()] });
    const found = kept.get(name);
    if (found === undefined) return status(404);
    if (request.method === "DELETE") kept.delete(name);
    say(200, found);
  }

  #pod(
    name: string | undefined,
    sub: string | undefined,
    query: URLSearchParams,
    at: {
      request: IncomingMessage;
      response: ServerResponse;
      say: (status: number, value: unknown) => void;
      status: (code: number) => void;
    },
  ): unknown {
    const { request, response, say, status } = at;
    if (name === undefined) {
      const wanted = /job-name=(.*)$/.exec(query.get("labelSelector") ?? "")?.[1] ?? "";
      const pod = this.#pods.get(`${wanted}-pod`);
      return say(200, {
        kind: "PodList",
        metadata: {},
        items: pod?.status === undefined ? [] : [{ metadata: { name: `${wanted}-pod` }, status: pod.status }],
      });
    }
    const pod = this.#pods.get(name);
    if (pod === undefined) return status(404);
    if (request.method === "DELETE") {
      this.#pods.delete(name);
      return say(200, {});
    }
    if (sub !== "log") return say(200, { metadata: { name }, status: pod.status });
    response.writeHead(200, { "content-type": "text/plain" });
    const follows = query.get("follow") === "true";
    const { breaksAfter } = pod;
    if (follows && breaksAfter !== undefined) {
      delete pod.breaksAfter;
      return response.write(pod.log.slice(0, breaksAfter), () => response.destroy());
    }
    response.write(pod.log);
    return follows && pod.open ? response : response.end();
  }
}
