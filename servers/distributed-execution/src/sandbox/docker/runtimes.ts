/** The languages that run in containers: those of process sandboxes, and the shell that every image of use has. Which an image has is tried. */
import { RUNTIMES, type Runtime } from "../bwrap/runtimes.ts";

type ContainerRuntime = Pick<Runtime, "file" | "command" | "env">;

export const CONTAINER_RUNTIMES: Readonly<Record<string, ContainerRuntime>> = {
  ...RUNTIMES,
  sh: { file: ".main.sh", command: () => ["sh", ".main.sh"], env: {} },
};
