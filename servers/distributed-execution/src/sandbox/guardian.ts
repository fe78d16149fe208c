/**
 * Kills the processes of a worker that died without a word. It is one small shell for each worker: it reads which process groups live, and
 * when its input ends, which the kernel sees to however the worker dies, it kills those that are left. It needs nothing from what it
 * kills: a child in a busy loop, one that ignores signals and one that left its terminal die alike.
 *
 * What left its process group is not found by it: sandboxes whose code may start processes also end with their first process
 * (a PID namespace, `--die-with-parent`).
 */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";

/** `+<pid>` and `-<pid>`, a line each. Only what every POSIX shell has built in. */
const SCRIPT = `
trap '' HUP INT TERM QUIT PIPE
live=' '
while IFS= read -r line; do
  pid=\${line#?}
  case $line in
    +*) live="$live$pid " ;;
    -*) case $live in *" $pid "*) live="\${live%%" $pid "*} \${live#*" $pid "}" ;; esac ;;
  esac
done
for pid in $live; do kill -s KILL -- "-$pid"; done 2>/dev/null
exit 0
`;

const watched = new Set<number>();
let guardian: ChildProcess | undefined;

function start(): ChildProcess {
  const shell = spawn("/bin/sh", ["-c", SCRIPT], { cwd: "/", env: {}, stdio: ["pipe", "ignore", "ignore"], detached: true });
  const forget = (): void => {
    if (guardian === shell) guardian = undefined; // the next one that is guarded starts another
  };
  shell.once("exit", forget);
  shell.once("error", forget);
  shell.stdin.on("error", forget);
  // it never keeps the worker alive: its work begins when the worker ends
  shell.unref();
  (shell.stdin as Socket).unref();
  for (const pid of watched) shell.stdin.write(`+${pid}\n`);
  return shell;
}

/** From now on the process group that `pid` leads dies with this process, until `unguard`. */
export function guard(pid: number): void {
  watched.add(pid);
  if (guardian === undefined) guardian = start();
  else guardian.stdin?.write(`+${pid}\n`);
}

/** It has ended: its number may be given to another. */
export function unguard(pid: number): void {
  watched.delete(pid);
  guardian?.stdin?.write(`-${pid}\n`);
}
