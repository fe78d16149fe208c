/** The Job and the Secret of one run: what the code may do is in the Job's own terms, so that the cluster holds it without the worker. */
import type { V1Job, V1Secret } from "@kubernetes/client-node";
import { SwarmError } from "@mcp-swarm/core";
import { checkPaths } from "../../file-path.ts";
import { OUT_FOLDER } from "../collector.ts";
import { CONTAINER_RUNTIMES } from "../docker/runtimes.ts";
import type { SandboxTask } from "../driver.ts";

export const MANAGED_BY = { name: "app.kubernetes.io/managed-by", value: "mcp-swarm" } as const;
/** Who made it: machine, process, and when that started. */
export const WORKER_ANNOTATION = "mcp-swarm/worker";
export const CONTAINER = "code";
/** Code, input and files of a run come in one Secret, which may have a mebibyte with its names. */
export const GIVEN_BYTES_MAX = 900_000;
/** How long what is left of a Job stays, should its worker die, in s. */
const FINISHED_TTL_S = 60;
/** Of a run, how long its image may take to arrive and its pod to start, on top of its own time, in s. */
export const START_S_MAX = 120;
const MIB = 1_048_576;
const BLOCK_BYTES = 512;
const WORK = "/tmp/work";
const CORE_MILLIS = 1_000;

/** Limits of each process, which code cannot raise again; its files; then the code. Arguments: three limits, key and path of each file, --, the command. */
const START = `
ulimit -c 0 && ulimit -f "$1" && ulimit -t "$2" && { ulimit -u "$3" 2>/dev/null || ulimit -p "$3"; } || exit 125
shift 3
mkdir -p ${WORK}/${OUT_FOLDER} && cd ${WORK} || exit 125
while [ "$1" != -- ]; do
  case $2 in */*) mkdir -p "\${2%/*}" || exit 125 ;; esac
  cat "/input/$1" > "$2" || exit 125
  shift 2
done
shift
exec "$@" < /input/stdin`;

/** What the shell above exits with when the code did not run. */
export const NOT_STARTED = 125;

export interface JobOptions {
  readonly name: string;
  readonly worker: string;
  /** Of this run alone, because the kernel counts processes by user. */
  readonly user: number;
  /** Instead of the runtime's. */
  readonly command?: readonly string[];
}

/** @throws SwarmError failed_precondition when the task asks for what a Job does not give */
export function objectsOf(task: SandboxTask, options: JobOptions): { job: V1Job; secret: V1Secret } {
  const runtime = Object.hasOwn(CONTAINER_RUNTIMES, task.runtime) ? CONTAINER_RUNTIMES[task.runtime] : undefined;
  if (runtime === undefined || task.network.mode !== "none" || task.mounts.length > 0 || task.packages.length > 0) {
    throw new SwarmError("failed_precondition", "Jobs of Kubernetes open no network, mount nothing and add no packages.", {
      hint: `Use one of the runtimes ${Object.keys(CONTAINER_RUNTIMES).join(", ")}, or an environment of another driver.`,
    });
  }
  const files = [...task.files, { path: runtime.file, bytes: Buffer.from(task.code) }];
  checkPaths(files.map(({ path }) => path));
  const given = files.reduce((bytes, file) => bytes + file.bytes.length, task.stdin.length);
  if (given > GIVEN_BYTES_MAX) {
    throw new SwarmError(
      "failed_precondition",
      `Code, input and files may have ${GIVEN_BYTES_MAX} bytes together on Kubernetes.`,
      {
        hint: "Use less, or an environment of another driver.",
      },
    );
  }
  const { limits } = task;
  const env = { HOME: WORK, TMPDIR: "/tmp", LANG: "C.UTF-8", ...runtime.env, ...task.env };
  const bounds = {
    memory: `${limits.memoryMiB}Mi`,
    // so much in all of its time is cpuMs, whatever it does
    cpu: `${Math.max(10, Math.min(CORE_MILLIS, Math.floor((CORE_MILLIS * limits.cpuMs) / limits.wallMs)))}m`,
    "ephemeral-storage": `${MIB}`,
  };
  const metadata = {
    name: options.name,
    labels: { [MANAGED_BY.name]: MANAGED_BY.value },
    annotations: { [WORKER_ANNOTATION]: options.worker },
  };
  const secret: V1Secret = {
    metadata,
    type: "Opaque",
    immutable: true,
    data: Object.fromEntries([
      ["stdin", Buffer.from(task.stdin).toString("base64")],
      ...files.map(({ bytes }, index) => [`file-${index}`, Buffer.from(bytes).toString("base64")]),
    ]),
  };
  const job: V1Job = {
    metadata,
    spec: {
      backoffLimit: 0,
      completions: 1,
      parallelism: 1,
      ttlSecondsAfterFinished: FINISHED_TTL_S,
      activeDeadlineSeconds: Math.ceil(limits.wallMs / 1_000) + START_S_MAX,
      template: {
        metadata: { labels: metadata.labels },
        spec: {
          restartPolicy: "Never",
          automountServiceAccountToken: false,
          enableServiceLinks: false,
          hostNetwork: false,
          terminationGracePeriodSeconds: 0,
          dnsPolicy: "None",
          dnsConfig: { nameservers: ["127.0.0.1"] },
          securityContext: {
            runAsNonRoot: true,
            runAsUser: options.user,
            runAsGroup: options.user,
            fsGroup: options.user,
            seccompProfile: { type: "RuntimeDefault" },
          },
          containers: [
            {
              name: CONTAINER,
              image: task.options.image ?? "",
              imagePullPolicy: "IfNotPresent",
              command: [
                ...["sh", "-c", START, "run", String(Math.max(1, Math.floor(limits.fileBytes / BLOCK_BYTES)))],
                ...[String(Math.max(1, Math.ceil(limits.cpuMs / 1_000))), String(limits.processes + 1)],
                ...files.flatMap(({ path }, index) => [`file-${index}`, path]),
                ...["--", ...(options.command ?? [...runtime.command(limits), ...task.args])],
              ],
              env: Object.entries(env).map(([name, value]) => ({ name, value: asWritten(value) })),
              resources: { limits: bounds, requests: bounds },
              securityContext: {
                allowPrivilegeEscalation: false,
                readOnlyRootFilesystem: true,
                privileged: false,
                capabilities: { drop: ["ALL"] },
              },
              volumeMounts: [
                { name: "disk", mountPath: "/tmp" },
                { name: "input", mountPath: "/input", readOnly: true },
              ],
            },
          ],
          volumes: [
            { name: "disk", emptyDir: { medium: "Memory", sizeLimit: String(limits.diskBytes) } },
            { name: "input", secret: { secretName: options.name, defaultMode: 0o444 } },
          ],
        },
      },
    },
  };
  const code = job.spec?.template.spec?.containers[0];
  if (code?.command) code.command = code.command.map((part) => asWritten(part));
  return { job, secret };
}

/** Kubernetes puts variables in the place of $(NAME), unless the dollar is doubled. */
function asWritten(text: string): string {
  return text.replaceAll("$(", () => "$$(");
}
