/** Jobs of Kubernetes, against a stand-in for the API server: what is asked of a cluster, how its answers and failures are taken. */
import { mkdtempSync, rmSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { FakeKubernetes, RUNNING, terminated, waiting } from "../../../test/support/kubernetes-api.ts";
import { parseOperatorFile } from "../src/operator-file.ts";
import { KubernetesDriver } from "../src/sandbox/kubernetes/driver.ts";
import { type Run, runCode } from "./support/runs.ts";

describe("a Job of Kubernetes", () => {
  verifies("EXEC-16");
  let folder: string;
  let cluster: FakeKubernetes;
  let driver: KubernetesDriver;
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "kubernetes-"));
    const kubeconfig = join(folder, "config");
    cluster = await FakeKubernetes.start(kubeconfig);
    const operator = parseOperatorFile({
      ceiling: { drivers: ["kubernetes"], images: ["team/*"] },
      environments: [{ name: "jobs", runtime: "sh", drivers: ["kubernetes"], image: "team/tools:1" }],
      worker: { kubernetes: { namespace: "runs", networkPolicy: "deny-all", kubeconfig } },
    });
    driver = new KubernetesDriver({ operator, onError: () => {} });
  });
  afterEach(async () => {
    expect([cluster.jobs.size, cluster.secrets.size], "nothing is left in the cluster").toEqual([0, 0]);
    await driver.close();
    await cluster.close();
    rmSync(folder, { recursive: true });
  });
  const sh = (code: string, run: Run = {}) => runCode(driver, "sh", code, { options: { image: "team/tools:1" }, ...run });

  it("asks the cluster for every limit and protection, and gives code, input and files in a Secret", async () => {
    let asked: unknown;
    let given: Record<string, string> = {};
    cluster.onJob = (job, secret) => {
      asked = job;
      given = Object.fromEntries(
        Object.entries((secret?.data ?? {}) as Record<string, string>).map(([key, text]) => [
          key,
          Buffer.from(text, "base64").toString(),
        ]),
      );
      return { status: terminated(3), log: "said\n" };
    };
    const ran = await sh("cat a/b.txt", {
      stdin: "input",
      files: { "a/b.txt": "file" },
      args: ["$(HOME)"],
      env: { GREETING: "$(PATH)" },
      limits: { memoryMiB: 100, wallMs: 20_000, cpuMs: 5_000, processes: 7, fileBytes: 1_048_576, diskBytes: 2_097_152 },
    });
    expect(ran).toMatchObject({ ending: { kind: "exit", code: 3 }, stdout: "said\n", files: {} });
    expect(given).toEqual({ stdin: "input", "file-0": "file", "file-1": "cat a/b.txt" });
    const bounds = { memory: "100Mi", cpu: "250m", "ephemeral-storage": "1048576" };
    expect(asked).toMatchObject({
      spec: {
        backoffLimit: 0,
        activeDeadlineSeconds: 140,
        ttlSecondsAfterFinished: 60,
        template: {
          spec: {
            restartPolicy: "Never",
            automountServiceAccountToken: false,
            hostNetwork: false,
            securityContext: { runAsNonRoot: true, runAsUser: expect.any(Number), seccompProfile: { type: "RuntimeDefault" } },
            containers: [
              {
                image: "team/tools:1",
                command: [
                  "sh",
                  "-c",
                  expect.any(String),
                  "run",
                  "2048",
                  "5",
                  "8",
                  "file-0",
                  "a/b.txt",
                  "file-1",
                  ".main.sh",
                  "--",
                  "sh",
                  ".main.sh",
                  "$$(HOME)",
                ],
                env: expect.arrayContaining([{ name: "GREETING", value: "$$(PATH)" }]),
                resources: { limits: bounds, requests: bounds },
                securityContext: {
                  allowPrivilegeEscalation: false,
                  readOnlyRootFilesystem: true,
                  privileged: false,
                  capabilities: { drop: ["ALL"] },
                },
              },
            ],
            volumes: [
              { name: "disk", emptyDir: { medium: "Memory", sizeLimit: "2097152" } },
              { name: "input", secret: { secretName: expect.any(String) } },
            ],
          },
        },
      },
    });
  });

  it.each([
    ["memoryMiB", terminated(137, "OOMKilled")],
    ["cpuMs", terminated(152)],
    ["fileBytes", terminated(153)],
    ["diskBytes", { phase: "Failed", reason: "Evicted", message: 'Usage of EmptyDir volume "disk" exceeds the limit' }],
  ])("is ended with %s as the cluster says it", async (limit, status) => {
    cluster.onJob = () => ({ status, log: "" });
    expect((await sh("true")).ending).toEqual({ kind: "limit", limit });
  });

  it("tells a signal from an exit code", async () => {
    cluster.onJob = () => ({ status: terminated(139), log: "" });
    expect((await sh("true")).ending).toEqual({ kind: "signal", signal: "SIGSEGV" });
  });

  it("is ended by the worker when its time is over, when it prints too much, and when it is aborted", async () => {
    cluster.onJob = () => ({ status: RUNNING, log: "up\n", open: true });
    expect(await sh("sleep 100", { limits: { wallMs: 1_000 } })).toMatchObject({
      ending: { kind: "limit", limit: "wallMs" },
      stdout: "up\n",
    });
    const stop = new AbortController();
    const ran = await sh("sleep 100", { signal: stop.signal, onStdout: () => stop.abort() });
    expect(ran.ending).toEqual({ kind: "killed" });
    cluster.onJob = () => ({ status: RUNNING, log: "x".repeat(5_000), open: true });
    const much = await sh("yes", { limits: { outputBytes: 2_000 } });
    expect(much).toMatchObject({ ending: { kind: "limit", limit: "outputBytes" }, cut: { stdoutBytes: 3_000 } });
    expect(much.stdout).toHaveLength(2_000);
  });

  it("tells all that was printed once, though the output broke off on its way", async () => {
    const log = Array.from({ length: 500 }, (_, index) => `line ${index}\n`).join("");
    const pod = { status: RUNNING as unknown, log, breaksAfter: 777, open: true };
    cluster.onJob = () => pod;
    const ran = await sh("true", {
      onStdout: (text) => {
        if (text.length >= log.length) pod.status = terminated(0, "Completed");
      },
    });
    expect(ran).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: log });
  });

  it("goes on when the cluster is away for a moment", async () => {
    const pod = { status: RUNNING as unknown, log: "up\n", open: true };
    cluster.onJob = () => pod;
    const ran = await sh("true", {
      onStdout: () => {
        cluster.away = true;
        const lost = cluster.asked.length;
        const back = setInterval(() => {
          if (cluster.asked.length < lost + 3) return; // it has been asked in vain
          clearInterval(back);
          cluster.away = false;
          pod.status = terminated(0, "Completed");
        }, 50);
      },
    });
    expect(ran).toMatchObject({ ending: { kind: "exit", code: 0 }, stdout: "up\n" });
  });

  it.each([
    ["its image cannot be had", waiting("ImagePullBackOff")],
    ["its node has no room", { phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory." }],
    ["its limits could not be set", terminated(125)],
  ])("is taken by another worker when %s", async (_why, status) => {
    cluster.onJob = () => ({ status, log: "" });
    await expect(sh("true")).rejects.toMatchObject({ code: "unavailable", retryable: true });
  });

  it("is taken by another worker when its pod is gone all at once", async () => {
    const pod = { status: RUNNING as unknown, log: "up\n", open: true };
    cluster.onJob = () => pod;
    const lost = sh("true", {
      onStdout: () => {
        pod.status = undefined;
      },
    });
    await expect(lost).rejects.toMatchObject({ code: "unavailable" });
  });

  it.each([
    [403, "quota"],
    [409, "status 409"],
    [500, "status 500"],
  ])("that is refused with %i says so", async (status, said) => {
    cluster.refuse = (asked) => (asked.startsWith("POST") && asked.endsWith("/jobs") ? status : undefined);
    await expect(sh("true")).rejects.toMatchObject({ code: "unavailable", message: expect.stringContaining(said) });
  });

  it("is refused before it begins when it asks for what no Job has, or for too much", async () => {
    await expect(sh("true", { network: { mode: "all" } })).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(sh("true", { files: { a: "x".repeat(900_001) } })).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(runCode(driver, "ruby", "1", { options: { image: "team/tools:1" } })).rejects.toMatchObject({
      code: "failed_precondition",
    });
    expect(cluster.asked.filter((asked) => asked.startsWith("POST"))).toEqual([]);
  });

  it("of a worker that is dead is removed by the next of its machine, and that of another machine is left to it", async () => {
    const left = (name: string, worker: string) => ({ metadata: { name, annotations: { "mcp-swarm/worker": worker } } });
    cluster.jobs.set("ours", left("ours", `${hostname()} 4194303 1`));
    cluster.secrets.set("ours", left("ours", `${hostname()} 4194303 1`));
    cluster.jobs.set("theirs", left("theirs", "elsewhere 1 1"));
    await sh("true");
    expect([...cluster.jobs.keys(), ...cluster.secrets.keys()]).toEqual(["theirs"]);
    cluster.jobs.clear();
  });

  describe("is offered", () => {
    const probed = async () => {
      const probe = await driver.probe();
      return probe.available ? probe.capabilities : probe.reason;
    };

    it("when a Job came to the end of its checks, and says that it was tested without a cluster", async () => {
      cluster.onJob = () => ({ status: terminated(0, "Completed"), log: "checked\n" });
      expect(await probed()).toMatchObject({
        isolates: expect.arrayContaining([expect.stringContaining("Tested against a stand-in")]),
        opens: { network: "none" },
      });
    });

    it.each<[string, unknown, string]>([
      ["there is none", undefined, "has no NetworkPolicy deny-all"],
      ["it lets something out", { spec: { podSelector: {}, policyTypes: ["Ingress"] } }, "does not deny all"],
      ["it has a rule", { spec: { podSelector: {}, policyTypes: ["Ingress", "Egress"], egress: [{}] } }, "does not deny all"],
      [
        "it is for other pods",
        { spec: { podSelector: { matchLabels: { app: "x" } }, policyTypes: ["Ingress", "Egress"] } },
        "not for the pods",
      ],
    ])("not without the operator's NetworkPolicy: %s", async (_why, policy, said) => {
      cluster.policy = policy;
      expect(await probed()).toContain(said);
      expect(cluster.asked.filter((asked) => asked.startsWith("POST"))).toEqual([]);
    });

    it("not when a Job finds something open, or the cluster refuses or is away", async () => {
      cluster.onJob = () => ({ status: terminated(0, "Completed"), log: "fail reaches the network\nchecked\n" });
      expect(await probed()).toContain("reaches the network");
      cluster.refuse = () => 401;
      expect(await probed()).toContain("does not know this worker");
      cluster.refuse = () => undefined;
      cluster.away = true;
      expect(await probed()).toContain("does not answer");
    });
  });
});
