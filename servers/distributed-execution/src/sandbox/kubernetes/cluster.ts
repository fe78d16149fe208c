/** What is asked of a cluster, through its own client, which is loaded when a cluster is named and not before. */

import { join } from "node:path";
import { Writable } from "node:stream";
import { pathToFileURL } from "node:url";
import type {
  BatchV1Api,
  CoreV1Api,
  KubeConfig,
  Log,
  NetworkingV1Api,
  V1Job,
  V1NetworkPolicy,
  V1Pod,
  V1Secret,
} from "@kubernetes/client-node";
import { SwarmError } from "@mcp-swarm/core";
import { findPackage } from "../optional-package.ts";
import { CONTAINER, MANAGED_BY, WORKER_ANNOTATION } from "./job.ts";

const NAME = "@kubernetes/client-node";
/** How long one request may take, in ms. */
const REQUEST_MS_MAX = 20_000;

export interface ClusterSettings {
  readonly namespace: string;
  /** A NetworkPolicy there that denies all. */
  readonly networkPolicy: string;
  /** Path; what KUBECONFIG names, the usual file or the pod's own account when absent. */
  readonly kubeconfig?: string;
}

export interface Leftover {
  readonly kind: "job" | "secret";
  readonly name: string;
  readonly worker: string;
}

export class Cluster {
  readonly #namespace: string;
  readonly #core: CoreV1Api;
  readonly #batch: BatchV1Api;
  readonly #networking: NetworkingV1Api;
  readonly #log: Log;

  private constructor(namespace: string, clients: { core: CoreV1Api; batch: BatchV1Api; networking: NetworkingV1Api; log: Log }) {
    this.#namespace = namespace;
    this.#core = clients.core;
    this.#batch = clients.batch;
    this.#networking = clients.networking;
    this.#log = clients.log;
  }

  /** @throws SwarmError unavailable */
  static async open(settings: ClusterSettings): Promise<Cluster> {
    const found = await findPackage(NAME);
    if (found === undefined) {
      throw new SwarmError("unavailable", "The client of Kubernetes is not installed.", {
        hint: `Run npm install ${NAME} in the project, or npm install -g ${NAME}.`,
      });
    }
    const module = (await import(
      pathToFileURL(join(found.folder, "dist/index.js")).href
    )) as typeof import("@kubernetes/client-node");
    const config: KubeConfig = new module.KubeConfig();
    try {
      if (settings.kubeconfig === undefined) config.loadFromDefault();
      else config.loadFromFile(settings.kubeconfig);
    } catch (cause) {
      throw new SwarmError("unavailable", "The configuration of the cluster cannot be read.", {
        hint: "Name a kubeconfig in worker.kubernetes of the operator's file, or in KUBECONFIG.",
        cause,
      });
    }
    return new Cluster(settings.namespace, {
      core: config.makeApiClient(module.CoreV1Api),
      batch: config.makeApiClient(module.BatchV1Api),
      networking: config.makeApiClient(module.NetworkingV1Api),
      log: new module.Log(config),
    });
  }

  policy(name: string): Promise<V1NetworkPolicy | undefined> {
    return ask(this.#networking.readNamespacedNetworkPolicy({ name, namespace: this.#namespace }), [404]);
  }

  async createSecret(body: V1Secret): Promise<void> {
    await ask(this.#core.createNamespacedSecret({ namespace: this.#namespace, body }));
  }

  async createJob(body: V1Job): Promise<void> {
    await ask(this.#batch.createNamespacedJob({ namespace: this.#namespace, body }));
  }

  async pods(job: string): Promise<V1Pod[]> {
    const selector = `batch.kubernetes.io/job-name=${job}`;
    return (await ask(this.#core.listNamespacedPod({ namespace: this.#namespace, labelSelector: selector })))?.items ?? [];
  }

  async job(name: string): Promise<V1Job | undefined> {
    return await ask(this.#batch.readNamespacedJob({ name, namespace: this.#namespace }), [404]);
  }

  async removeJob(name: string): Promise<void> {
    const options = { name, namespace: this.#namespace, propagationPolicy: "Background", gracePeriodSeconds: 0 };
    await ask(this.#batch.deleteNamespacedJob(options), [404]);
  }

  /** Its node kills it at once. */
  async removePod(name: string): Promise<void> {
    await ask(this.#core.deleteNamespacedPod({ name, namespace: this.#namespace, gracePeriodSeconds: 0 }), [404]);
  }

  async removeSecret(name: string): Promise<void> {
    await ask(this.#core.deleteNamespacedSecret({ name, namespace: this.#namespace }), [404]);
  }

  /**
   * Output of a pod from its beginning; both streams in one, because that is how Kubernetes keeps them.
   * @returns settles when there is no more; rejects when it broke off
   */
  async output(pod: string, follow: boolean, take: (bytes: Buffer) => void, signal: AbortSignal): Promise<void> {
    const done = Promise.withResolvers<void>();
    const sink = new Writable({
      write: (bytes: Buffer, _encoding, next) => {
        take(bytes);
        next();
      },
    });
    sink.once("finish", done.resolve);
    sink.once("error", done.reject);
    // the client leaves alone what it reads from: an error there that nobody hears would end this process
    sink.once("pipe", (source) => source.on("error", done.reject));
    const ended = ask(this.#log.log(this.#namespace, pod, CONTAINER, sink, { follow }), [], follow ? undefined : REQUEST_MS_MAX);
    const controller = await ended;
    const stop = (): void => {
      controller?.abort();
      sink.destroy();
      done.resolve();
    };
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    try {
      await done.promise;
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  /** All that workers made in this namespace. */
  async made(): Promise<Leftover[]> {
    const filter = { namespace: this.#namespace, labelSelector: `${MANAGED_BY.name}=${MANAGED_BY.value}` };
    const [jobs, secrets] = await Promise.all([
      ask(this.#batch.listNamespacedJob(filter)),
      ask(this.#core.listNamespacedSecret(filter)),
    ]);
    const of = (kind: Leftover["kind"], items: readonly (V1Job | V1Secret)[] = []): Leftover[] =>
      items.map(({ metadata }) => ({
        kind,
        name: metadata?.name ?? "",
        worker: metadata?.annotations?.[WORKER_ANNOTATION] ?? "",
      }));
    return [...of("job", jobs?.items), ...of("secret", secrets?.items)];
  }
}

/** @returns undefined when the cluster answers with one of the `accepted` statuses */
async function ask<T>(
  asked: Promise<T>,
  accepted: readonly number[] = [],
  within: number = REQUEST_MS_MAX,
): Promise<T | undefined> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("no answer in time")), within);
  try {
    return await Promise.race([asked, late.promise]);
  } catch (cause) {
    const status = (cause as { code?: unknown }).code;
    if (typeof status === "number" && accepted.includes(status)) return undefined;
    throw new SwarmError("unavailable", saidBy(status), {
      hint: "The worker's log says what the cluster said; ask list_environments which environments run here.",
      cause,
    });
  } finally {
    clearTimeout(timer);
  }
}

function saidBy(status: unknown): string {
  if (status === 401) return "The cluster does not know this worker.";
  if (status === 403)
    return "The cluster refused a request: the worker's account has not the right to it, or a quota is used up.";
  if (typeof status === "number") return `The cluster refused a request (status ${status}).`;
  return "The cluster does not answer.";
}
