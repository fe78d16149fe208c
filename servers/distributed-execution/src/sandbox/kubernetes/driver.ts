/**
 * Code in Jobs of a Kubernetes cluster, in a namespace that the operator made for it. What holds is the cluster's: its nodes, its network
 * plugin, its container runtime. The driver asks for all of it and tries it with a Job of its own. Its tests speak to a stand-in for the
 * API server, not to a cluster.
 */
import { randomInt } from "node:crypto";
import { constants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import type { V1NetworkPolicy, V1Pod } from "@kubernetes/client-node";
import { newId, SwarmError, systemRandom } from "@mcp-swarm/core";
import { OutputBudget } from "../child-process.ts";
import { workerLabel } from "../docker/place.ts";
import { CONTAINER_RUNTIMES } from "../docker/runtimes.ts";
import type { Capabilities, Driver, Ending, Probe, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";
import type { DriverOptions, OpenDriver } from "../drivers.ts";
import { identityOf } from "../process-tree.ts";
import { Cluster } from "./cluster.ts";
import { CONTAINER, MANAGED_BY, NOT_STARTED, objectsOf, START_S_MAX } from "./job.ts";

/** How often a pod is looked at, in ms. */
const LOOK_EVERY_MS = 300;
/** How long a cluster may be away while code runs, before the run is given up, in ms. */
const AWAY_MS_MAX = 30_000;
/** How long a pod may take to be gone, in ms. */
const GONE_MS_MAX = 60_000;
const OUTPUT_MS_MAX = 3_000;
/** Users that nothing else has (UIDS-GIDS.md of systemd). */
const USER_FIRST = 1_879_100_000;
const USERS = 200_000_000;

const WAITS_FOR_EVER: ReadonlySet<string> = new Set([
  "ErrImagePull",
  "ImagePullBackOff",
  "InvalidImageName",
  "ErrImageNeverPull",
  "CreateContainerConfigError",
  "CreateContainerError",
]);

export class KubernetesDriver implements Driver {
  readonly name = "kubernetes";
  readonly #options: Pick<DriverOptions, "operator" | "onError">;
  #cluster: Promise<Cluster> | undefined;

  constructor(options: Pick<DriverOptions, "operator" | "onError">) {
    this.#options = options;
  }

  async probe(): Promise<Probe> {
    this.#cluster = undefined;
    try {
      const cluster = await this.#open();
      const settings = this.#settings();
      const open = opensSomething(await cluster.policy(settings.networkPolicy), settings.networkPolicy);
      if (open !== undefined) return { available: false, reason: open };
      const image = this.#options.operator.environments.find(({ drivers }) => drivers.includes("kubernetes"))?.options.image;
      if (image === undefined) return { available: false, reason: NO_IMAGE };
      const lacking = await this.#try(cluster, image);
      return lacking === undefined ? { available: true, capabilities: HOLDS } : { available: false, reason: lacking };
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      if (error.cause !== undefined) this.#options.onError(error, "A cluster could not be used");
      return { available: false, reason: [error.message, error.hint].join(" ") };
    }
  }

  async run(task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
    return await runJob(await this.#open(), task, hooks, this.#options.onError);
  }

  async close(): Promise<void> {
    this.#cluster = undefined;
  }

  #settings(): NonNullable<DriverOptions["operator"]["worker"]["kubernetes"]> {
    const { kubernetes } = this.#options.operator.worker;
    if (kubernetes !== undefined) return kubernetes;
    throw new SwarmError("unavailable", "No cluster is named.", {
      hint: "Name a namespace and its NetworkPolicy under worker.kubernetes of the operator's file.",
    });
  }

  #open(): Promise<Cluster> {
    const opening = this.#cluster ?? openSwept(this.#settings());
    this.#cluster = opening;
    opening.catch(() => {
      if (this.#cluster === opening) this.#cluster = undefined; // the caller is told
    });
    return opening;
  }

  async #try(cluster: Cluster, image: string): Promise<string | undefined> {
    let said = "";
    const hooks: RunHooks = {
      signal: new AbortController().signal,
      onOutput: (_, bytes) => {
        said += Buffer.from(bytes).toString();
      },
    };
    const { ending } = await runJob(cluster, { ...PROBE, options: { image } }, hooks, this.#options.onError, [
      "sh",
      "-c",
      CHECKS,
    ]);
    const failed = said.split("\n").filter((line) => line.startsWith("fail "));
    if (failed.length > 0) return `Tried here, a Job ${failed.map((line) => line.slice("fail ".length)).join(", ")}.`;
    if (!said.split("\n").includes("checked") || ending.kind !== "exit")
      return "Tried here, a Job did not come to the end of its checks.";
    return undefined;
  }
}

export const openKubernetes: OpenDriver = (options) => new KubernetesDriver(options);

async function openSwept(settings: Parameters<typeof Cluster.open>[0]): Promise<Cluster> {
  const cluster = await Cluster.open(settings);
  const [host] = (await workerLabel()).split(" ");
  for (const { kind, name, worker } of await cluster.made()) {
    const [its, pid, ...startedAt] = worker.split(" ");
    if (its !== host) continue; // its own machine sweeps it; a Job ends by its own deadline besides
    if ((await identityOf(Number(pid)))?.startedAt === startedAt.join(" ")) continue;
    await (kind === "job" ? cluster.removeJob(name) : cluster.removeSecret(name));
  }
  return cluster;
}

/** Why a policy does not keep everything from the pods of runs, as a sentence. */
function opensSomething(policy: V1NetworkPolicy | undefined, name: string): string | undefined {
  if (policy === undefined) return `The namespace has no NetworkPolicy ${name}: make one that denies all (the guide shows it).`;
  const { podSelector, policyTypes = [], ingress = [], egress = [] } = policy.spec ?? {};
  const { matchLabels = {}, matchExpressions = [] } = podSelector ?? {};
  const selects = Object.entries(matchLabels).every(([key, value]) => key === MANAGED_BY.name && value === MANAGED_BY.value);
  if (!selects || matchExpressions.length > 0) return `The NetworkPolicy ${name} is not for the pods of runs.`;
  const denies = policyTypes.includes("Ingress") && policyTypes.includes("Egress") && ingress.length === 0 && egress.length === 0;
  return denies ? undefined : `The NetworkPolicy ${name} does not deny all: it must name Ingress and Egress, and no rule.`;
}

async function runJob(
  cluster: Cluster,
  task: SandboxTask,
  hooks: RunHooks,
  onError: DriverOptions["onError"],
  command?: readonly string[],
): Promise<SandboxOutcome> {
  const name = `swarm-${newId("run", systemRandom).replaceAll("_", "-").toLowerCase()}`;
  const user = USER_FIRST + randomInt(USERS);
  const worker = await workerLabel();
  const { job, secret } = objectsOf(task, { name, worker, user, ...(command === undefined ? {} : { command }) });
  try {
    await cluster.createSecret(secret);
    await cluster.createJob(job);
    return await followed(cluster, name, task, hooks);
  } finally {
    await removed(cluster, name);
    await cluster.removeSecret(name).catch((error) => onError(error, "A Secret of a run could not be removed"));
  }
}

async function followed(cluster: Cluster, name: string, task: SandboxTask, hooks: RunHooks): Promise<SandboxOutcome> {
  const { limits } = task;
  let ended: Extract<Ending, { kind: "limit" | "killed" }> | undefined;
  const budget = new OutputBudget(limits.outputBytes, hooks, () => {
    ended ??= { kind: "limit", limit: "outputBytes" };
  });
  // output is read from its beginning again whenever it broke off
  let passed = 0;
  let reading: Promise<void> | undefined;
  const stop = new AbortController();
  const read = async (pod: string, follow: boolean): Promise<void> => {
    let seen = 0;
    await cluster.output(
      pod,
      follow,
      (bytes) => {
        const fresh = bytes.subarray(Math.max(0, passed - seen));
        seen += bytes.length;
        passed += fresh.length;
        budget.take("stdout", fresh);
      },
      stop.signal,
    );
  };
  const beganAt = performance.now();
  let startedAt: number | undefined;
  let seenAt = beganAt;
  try {
    for (;;) {
      const now = performance.now();
      if (hooks.signal.aborted) ended ??= { kind: "killed" };
      if (startedAt !== undefined && now - startedAt > limits.wallMs) ended ??= { kind: "limit", limit: "wallMs" };
      if (startedAt === undefined && now - beganAt > START_S_MAX * 1_000) throw notStarted("it was not scheduled in time");
      let pod: V1Pod | undefined;
      try {
        [pod] = await cluster.pods(name);
        seenAt = now;
      } catch (error) {
        if (now - seenAt > AWAY_MS_MAX) throw error;
      }
      if (pod === undefined && startedAt !== undefined && seenAt === now) throw notStarted("its pod is gone");
      const state = pod?.status?.containerStatuses?.find((one) => one.name === CONTAINER)?.state;
      const podName = pod?.metadata?.name;
      if (podName !== undefined && (state?.running || state?.terminated)) {
        startedAt ??= now;
        reading ??= read(podName, true).catch(() => {
          reading = undefined; // it is read again
        });
      }
      const wallMs = Math.round(now - (startedAt ?? now));
      const usage = { wallMs };
      if (ended !== undefined) return { ending: ended, usage, files: [], cut: budget.cut() };
      const waits = state?.waiting?.reason;
      if (waits !== undefined && WAITS_FOR_EVER.has(waits)) throw notStarted(waits);
      const evicted = pod?.status?.reason === "Evicted";
      if (evicted && /EmptyDir|ephemeral/i.test(pod?.status?.message ?? "")) {
        return { ending: { kind: "limit", limit: "diskBytes" }, usage, files: [], cut: budget.cut() };
      }
      if (evicted || (pod?.status?.phase === "Failed" && !state?.terminated))
        throw notStarted(pod?.status?.reason ?? "its pod failed");
      if (state?.terminated && podName !== undefined) {
        await Promise.race([reading ?? Promise.resolve(), delay(OUTPUT_MS_MAX)]);
        stop.abort();
        const whole = new AbortController();
        await readRest(
          cluster,
          podName,
          () => passed,
          (bytes) => {
            passed += bytes.length;
            budget.take("stdout", bytes);
          },
          whole.signal,
        );
        const { exitCode, reason } = state.terminated;
        const ending = ended ?? endingOf(exitCode, reason ?? "");
        return { ending, usage, files: [], cut: budget.cut() };
      }
      await delay(LOOK_EVERY_MS, undefined, { signal: hooks.signal }).catch(() => {}); // an abort is seen above
    }
  } finally {
    stop.abort();
  }
}

/** What had not come when the code ended. */
async function readRest(
  cluster: Cluster,
  pod: string,
  passed: () => number,
  take: (bytes: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  let seen = 0;
  const before = passed();
  await cluster.output(
    pod,
    false,
    (bytes) => {
      const fresh = bytes.subarray(Math.max(0, before - seen));
      seen += bytes.length;
      if (fresh.length > 0) take(fresh);
    },
    signal,
  );
}

function notStarted(because: string): SwarmError {
  return new SwarmError("unavailable", "The code did not run to its end in the cluster.", {
    hint: "Another worker may take it; the worker's log says what the cluster said.",
    cause: new Error(because),
  });
}

function endingOf(code: number, reason: string): Ending {
  if (reason === "OOMKilled") return { kind: "limit", limit: "memoryMiB" };
  if (code === NOT_STARTED) throw notStarted("its limits or files could not be set");
  const signal = code - 128;
  if (signal === constants.signals.SIGXCPU) return { kind: "limit", limit: "cpuMs" };
  if (signal === constants.signals.SIGXFSZ) return { kind: "limit", limit: "fileBytes" };
  const named = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return named === undefined ? { kind: "exit", code } : { kind: "signal", signal: named };
}

/**
 * The Job and its pod are gone when this settles.
 * @throws SwarmError unavailable when the cluster did not say so in time
 */
async function removed(cluster: Cluster, name: string): Promise<void> {
  const until = performance.now() + GONE_MS_MAX;
  for (;;) {
    try {
      await cluster.removeJob(name);
      const pods = await cluster.pods(name);
      for (const { metadata } of pods) await cluster.removePod(metadata?.name ?? "");
      if (pods.length === 0 && (await cluster.job(name)) === undefined) return;
    } catch (error) {
      if (performance.now() > until) throw error;
    }
    if (performance.now() > until) {
      throw new SwarmError("unavailable", "A Job could not be ended in time; it ends by its own deadline.", {
        hint: "Look at the namespace of runs in the cluster.",
      });
    }
    await delay(LOOK_EVERY_MS);
  }
}

const NO_IMAGE = "No environment of the operator's file names kubernetes and an image: one is needed to try the cluster with.";

const PROBE: Omit<SandboxTask, "options"> = {
  runId: "probe",
  runtime: "sh",
  code: "",
  args: [],
  stdin: new Uint8Array(),
  files: [],
  env: {},
  limits: {
    wallMs: 30_000,
    cpuMs: 10_000,
    memoryMiB: 64,
    processes: 16,
    outputBytes: 16_384,
    fileBytes: 524_288,
    diskBytes: 1_048_576,
    files: 0,
  },
  network: { mode: "none" },
  mounts: [],
  packages: [],
};

/** Each line that begins with `fail` is the end of a sentence about the Job. */
const CHECKS = `
fail() { echo "fail $1"; }
while read -r name value rest; do
  case $name in
    CapEff: | CapBnd:) [ "$value" = 0000000000000000 ] || fail 'leaves capabilities' ;;
    NoNewPrivs:) [ "$value" = 1 ] || fail 'lets programs gain rights' ;;
    Seccomp:) [ "$value" = 2 ] || fail 'filters no system calls' ;;
    Uid:) [ "$value" -ge ${USER_FIRST} ] || fail 'has another user' ;;
  esac
done < /proc/self/status
( : > /written ) 2>/dev/null && fail 'lets the image be written'
[ -e /var/run/secrets/kubernetes.io ] && fail 'has an account of the cluster'
( nc -w 3 "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" </dev/null ) >/dev/null 2>&1 && fail 'reaches the network: the cluster does not hold its NetworkPolicy'
echo checked
`;

const HOLDS: Capabilities = {
  limits: {
    wallMs: "enforced",
    cpuMs: "enforced",
    memoryMiB: "enforced",
    processes: "enforced",
    outputBytes: "enforced",
    fileBytes: "enforced",
    diskBytes: "enforced",
    files: "not_applicable",
  },
  isolates: [
    "Tested against a stand-in for the API server, not a cluster: what holds is the cluster's own",
    "Files: only the image, read-only, and /tmp in memory; none come back, and stdout and stderr come as one",
    "Network: the operator's NetworkPolicy denies all, if the cluster's network plugin holds it",
    "Rights: a user of its own, no capability, no new privileges, no account of the cluster, the runtime's filter of system calls",
    "When its worker is killed, a Job ends by its own deadline, or when a worker of the same machine starts",
  ],
  runtimes: Object.fromEntries(Object.keys(CONTAINER_RUNTIMES).map((runtime) => [runtime, { version: "the image's" }])),
  opens: { network: "none", mounts: false, packages: false },
  session: "none",
};
