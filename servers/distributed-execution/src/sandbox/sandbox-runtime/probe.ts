/** Shows by running that sandbox-runtime keeps code in on this machine, and what runs in it. */
import { once } from "node:events";
import { createServer } from "node:net";
import { RUNTIMES } from "../bwrap/runtimes.ts";
import type { Capabilities, SandboxTask } from "../driver.ts";

/** Somebody who would hear a connection. */
export async function listen(): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer((socket) => socket.destroy());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

/**
 * Each line that begins with `fail` is the end of a sentence about the sandbox.
 * @param canary a file that everybody on the machine may read
 * @param outside a path at which nothing may be written
 */
export function probeTask({ canary, outside, port }: { canary: string; outside: string; port: number }): SandboxTask {
  const versions = Object.entries(RUNTIMES).map(
    ([
      name,
      {
        version: [command, ...args],
      },
    ]) => {
      const program = command === "node" ? `"${process.execPath}"` : command;
      return `echo "runtime ${name} $(${program} ${args.join(" ")} 2>/dev/null | head -n 1)"`;
    },
  );
  return {
    runId: "probe",
    runtime: "bash",
    code: `
fail() { echo "fail $1"; }
cat "${canary}" >/dev/null 2>&1 && fail 'shows files of the machine'
[ -n "$(ls -A /home /root /Users 2>/dev/null | grep -v :)" ] && fail 'shows home folders'
( : > "${outside}" ) 2>/dev/null && fail 'lets files of the machine be written'
( : > /usr/local/written ) 2>/dev/null && fail 'lets programs be written'
( : > "/dev/tcp/127.0.0.1/${port}" ) 2>/dev/null && fail 'reaches the network of the machine'
env | grep -q '^GIVEN=yes$' || fail 'does not pass the environment on'
[ "$(env | grep -c =)" -le 10 ] || fail 'passes on what it was not given'
( head -c 300000 /dev/zero > large ) 2>/dev/null && fail 'does not limit files'
: > out/kept || fail 'lets nothing be written'
${versions.join("\n")}
echo checked
`,
    args: [],
    stdin: new Uint8Array(),
    files: [],
    env: { GIVEN: "yes" },
    limits: {
      wallMs: 20_000,
      cpuMs: 10_000,
      memoryMiB: 256,
      processes: 32,
      outputBytes: 16_384,
      fileBytes: 131_072,
      diskBytes: 1_048_576,
      files: 1,
    },
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
  };
}

export function readProbe(said: string): { runtimes: Capabilities["runtimes"] } | { lacking: string } {
  const lines = said.split("\n");
  const failed = lines.filter((line) => line.startsWith("fail ")).map((line) => line.slice("fail ".length));
  if (failed.length > 0) return { lacking: `Tried here, its sandbox ${failed.join(", ")}.` };
  if (!lines.includes("checked")) return { lacking: "Tried here, its sandbox did not come to the end of its checks." };
  const runtimes: Record<string, { version: string }> = {};
  for (const line of lines) {
    const [, name, shown] = /^runtime (\S+) (.+)$/.exec(line) ?? [];
    const version = /\d+(\.\d+)+/.exec(shown ?? "")?.[0];
    if (name !== undefined && version !== undefined) runtimes[name] = { version };
  }
  return { runtimes };
}
