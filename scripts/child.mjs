// Runs a program to its end, and passes on the signals that would end us: whoever stops `npm start` stops what it started.
import { spawn } from "node:child_process";

const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP"];
/** How often we look whether whoever started us is gone: npm and shells do not always pass a signal on. */
const PARENT_LOOK_MS = 250;

/** Answers the exit status; a program that a signal ended counts as failed. */
export function runChild(command, args, options) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "inherit", shell: process.platform === "win32", ...options });
    const handlers = PASSED_ON.map((signal) => [signal, () => child.kill(signal)]);
    for (const [signal, handler] of handlers) process.on(signal, handler);
    const parent = process.ppid;
    const looking = setInterval(() => {
      if (process.ppid !== parent) child.kill("SIGTERM");
    }, PARENT_LOOK_MS);
    const end = (status) => {
      clearInterval(looking);
      for (const [signal, handler] of handlers) process.off(signal, handler);
      resolve(status);
    };
    child.once("error", (error) => {
      console.error(`${command} did not start: ${error.message}`);
      end(1);
    });
    child.once("exit", (status) => end(status ?? 1));
  });
}
