/** Shows by running that containers hold here what they are said to hold. */
import { newId, systemRandom } from "@mcp-swarm/core";
import type { Limits, RunHooks, SandboxOutcome, SandboxTask } from "../driver.ts";

export type RunProbe = (task: SandboxTask, hooks: RunHooks, command: readonly string[]) => Promise<SandboxOutcome>;

const LIMITS: Limits = {
  wallMs: 15_000,
  cpuMs: 10_000,
  memoryMiB: 64,
  processes: 16,
  outputBytes: 16_384,
  fileBytes: 524_288,
  diskBytes: 1_048_576,
  files: 0,
};

/** Each line that begins with `fail` is the end of a sentence about the container. What a shell itself can do is done by it: images have little. */
const CHECKS = `
fail() { echo "fail $1"; }
while read -r name value rest; do
  case $name in
    CapEff: | CapPrm: | CapBnd:) [ "$value" = 0000000000000000 ] || fail "leaves capabilities ($name $value)" ;;
    NoNewPrivs:) [ "$value" = 1 ] || fail 'lets programs gain rights' ;;
    Seccomp:) [ "$value" = 2 ] || fail 'filters no system calls' ;;
    Uid:) [ "$value" = 65534 ] || fail 'has another user' ;;
  esac
done < /proc/self/status
( : > /written ) 2>/dev/null && fail 'lets the image be written'
while read -r name rest; do case $name in *:*) [ "\${name%%:*}" = lo ] || fail 'has a network' ;; esac; done < /proc/net/dev
( read -r line < /proc/1/environ ) 2>/dev/null && fail 'shows the environment of its first process'
kill -9 1 2>/dev/null && fail 'lets its first process be killed'
i=0; for path in /proc/[0-9]*; do i=$((i+1)); done; [ $i -le 8 ] || fail 'shows other processes'
big=0123456789abcdef; for n in 1 2 3 4 5 6 7 8 9 10; do big=$big$big; done
( ( trap '' XFSZ; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40; do
  printf %s $big || exit 1; done > /tmp/large ) 2>/dev/null ) && fail 'does not limit files'
: > /tmp/large
( for n in 1 2 3 4 5 6; do ( for m in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do printf %s $big || exit 1; done > /tmp/part$n ) || exit 1; done ) 2>/dev/null && fail 'does not limit the disk'
echo checked
`;
/** A shell complains as soon as it may not fork. */
const FORKS = "i=0; while [ $i -lt 64 ]; do sleep 9 & i=$((i+1)); done; echo all";
/** A text that doubles until it is larger than the memory. */
const MEMORY = "big=0123456789abcdef; i=0; while [ $i -lt 25 ]; do big=$big$big; i=$((i+1)); done; echo held";

/**
 * @returns why it is not to be used; undefined when it is
 * @throws SwarmError unavailable when no container could be started
 */
export async function lackingIn(run: RunProbe): Promise<string | undefined> {
  const checks = await runScript(run, CHECKS);
  const lines = checks.said.split("\n");
  const failed = lines.filter((line) => line.startsWith("fail ")).map((line) => line.slice("fail ".length));
  if (failed.length > 0) return `Tried here, a container ${[...new Set(failed)].join(", ")}.`;
  if (!lines.includes("checked")) return "Tried here, a container did not come to the end of its checks.";
  const memory = await runScript(run, MEMORY);
  if (memory.said.includes("held") || memory.ending.kind !== "limit" || memory.ending.limit !== "memoryMiB") {
    return "Tried here, a container's memory was not limited: without cgroups that its engine may use, it cannot be (rootless engines need cgroup v2).";
  }
  const forks = await runScript(run, FORKS);
  if (forks.said.includes("all")) {
    return "Tried here, a container's processes were not limited: its engine needs the cgroup controller pids.";
  }
  return undefined;
}

async function runScript(run: RunProbe, script: string): Promise<{ said: string; ending: SandboxOutcome["ending"] }> {
  let said = "";
  const task: SandboxTask = {
    runId: newId("probe", systemRandom),
    runtime: "sh",
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
  };
  const { ending } = await run(
    task,
    {
      signal: new AbortController().signal,
      onOutput: (stream, bytes) => {
        if (stream === "stdout") said += Buffer.from(bytes).toString();
      },
    },
    ["sh", "-c", script],
  );
  return { said, ending };
}
