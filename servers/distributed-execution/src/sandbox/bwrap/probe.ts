/** Shows by running that a sandbox holds here what it is said to hold, and what runs in it. */
import { readlinkSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { newId, systemRandom } from "@mcp-swarm/core";
import { startChild } from "../child-process.ts";
import type { Capabilities, Limits, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";
import { SYSTEM_PATH } from "./disk.ts";
import { type Programs, RUNTIMES } from "./runtimes.ts";

export type RunProbe = (task: SandboxTask, hooks: RunHooks, command: readonly string[]) => Promise<SandboxOutcome>;

const LIMITS: Limits = {
  wallMs: 10_000,
  cpuMs: 5_000,
  memoryMiB: 64,
  processes: 32,
  outputBytes: 16_384,
  fileBytes: 524_288,
  diskBytes: 1_048_576,
  files: 0,
};

/** Namespaces that must not be the worker's own. */
const NAMESPACES = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/** Each line that begins with `fail` is the end of a sentence about the sandbox. It fills the disk last: a full one ends the run. */
const checkScript = (): string => `
fail() { echo "fail $1"; }
status() { grep -q "^$1:[[:space:]]*$2\\$" /proc/self/status || fail "$3"; }
status CapEff 0000000000000000 'leaves capabilities'
status CapBnd 0000000000000000 'leaves capabilities to be had'
status NoNewPrivs 1 'lets programs gain rights'
status Seccomp 2 'filters no system calls'
[ "$(id -u)" = 1000 ] || fail 'has another user'
for path in /root /home /var /sys /run /etc/shadow; do [ -e "$path" ] && fail "shows $path"; done
ls -l /proc/self/fd | grep -e ' -> ' | grep -v -e ' [012] -> ' -e ' -> /dev/null$' -e ' -> /proc/' >&2 && fail 'leaves files of the worker open'
${NAMESPACES.map((name) => `[ "$(readlink /proc/self/ns/${name})" = '${readlinkSync(`/proc/self/ns/${name}`)}' ] && fail 'shares the namespace ${name}'`).join("\n")}
[ "$(grep -c : /proc/net/dev)" -le 1 ] || fail 'has a network'
[ "$(ls -d /proc/[0-9]* | wc -l)" -le 8 ] || fail 'shows other processes'
( unshare --user true ) 2>/dev/null && fail 'lets namespaces be made'
( : > /usr/written ) 2>/dev/null && fail 'lets /usr be written'
( dd if=/dev/zero of=/dev/null bs=512M count=1 ) 2>/dev/null && fail 'does not limit memory'
( head -c 600000 /dev/zero > /work/large ) 2>/dev/null && fail 'does not limit files'
${Object.entries(RUNTIMES)
  .map(([name, { version }]) => `echo "runtime ${name} $(${version.join(" ")} 2>/dev/null | head -n 1)"`)
  .join("\n")}
echo checked
head -c 2000000 /dev/zero | tee /tmp/a /tmp/b /tmp/c /tmp/d >/dev/null 2>&1 && fail 'does not limit the disk'
exit 0
`;

/** A shell complains as soon as it may not fork; one that waits and tries again is not waited for. */
const FORKS = `prlimit --nproc=16 sh -c 'i=0; while [ $i -lt 48 ]; do sleep 9 & i=$((i+1)); done; echo all'`;

/**
 * @returns the runtimes that run in it, or why it is not to be used
 * @throws SwarmError unavailable when the sandbox could not be started
 */
export async function tryOut(run: RunProbe): Promise<{ runtimes: Capabilities["runtimes"] } | { lacking: string }> {
  const checks = await runScript(run, checkScript(), () => false);
  const lines = checks.stdout.split("\n");
  const failed = lines.filter((line) => line.startsWith("fail ")).map((line) => line.slice("fail ".length));
  if (failed.length > 0) return { lacking: `Tried here, its sandbox ${failed.join(", ")}.` };
  if (!lines.includes("checked")) return { lacking: "Tried here, its sandbox did not come to the end of its checks." };
  const runtimes: Record<string, { version: string }> = {};
  for (const line of lines) {
    const [, name, said] = /^runtime (\S+) (.+)$/.exec(line) ?? [];
    const version = /\d+(\.\d+)+/.exec(said ?? "")?.[0];
    if (name !== undefined && version !== undefined) runtimes[name] = { version };
  }
  const forks = await runScript(run, FORKS, (stderr) => /fork/i.test(stderr));
  if (forks.stdout.includes("all") || !/fork/i.test(forks.stderr)) {
    return {
      lacking:
        "Tried here, its sandbox does not limit how many processes there are: that needs Linux 5.14, or a worker that runs as root.",
    };
  }
  return { runtimes };
}

async function runScript(
  run: RunProbe,
  script: string,
  enough: (stderr: string) => boolean,
): Promise<{ stdout: string; stderr: string }> {
  const said = { stdout: "", stderr: "" };
  const stop = new AbortController();
  await run(
    {
      runId: newId("probe", systemRandom),
      runtime: "bash",
      code: "",
      args: [],
      stdin: new Uint8Array(),
      files: [],
      env: {},
      limits: LIMITS,
      network: { mode: "none" },
      mounts: [],
      packages: [],
      options: {},
    },
    {
      signal: stop.signal,
      onOutput: (stream, bytes) => {
        said[stream] += Buffer.from(bytes).toString();
        if (enough(said.stderr)) stop.abort();
      },
    },
    ["sh", "-c", script],
  );
  return said;
}

/** The worker's own Node, if the run's user may read it; below /usr it is there anyway. */
export async function findPrograms(user: number | undefined): Promise<Programs> {
  const node = await realpath(process.execPath);
  if (node.startsWith("/usr/")) return {};
  const child = await startChild({
    command: "sh",
    args: ["-c", 'test -r "$1" && test -x "$1"', "look", node],
    cwd: "/",
    env: { PATH: SYSTEM_PATH },
    ...(user === undefined ? {} : { user }),
  });
  const { code } = await child.exited;
  await child.kill();
  return code === 0 ? { node } : {};
}
