/** Environments: what code may be handed over to. Some are there from the start, others are made by `create_environment` or an operator's file. */
import type { Requires } from "./execution-record.ts";
import type { DriverName, Limits, Mount, NetworkAccess } from "./sandbox/driver.ts";

/** As it is written by whoever makes an environment, checked and with its defaults. */
export type Manifest = {
  readonly name: string;
  readonly description?: string;
  /** In order of preference: a worker takes the first that is there and can enforce all of it. */
  readonly drivers: readonly DriverName[];
  /** `javascript`, `typescript`, `python`, `bash`, `node`, or an image's own command. */
  readonly runtime: string;
  readonly limits: Limits;
  readonly network: NetworkAccess;
  readonly mounts: readonly Mount[];
  readonly packages: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly session: "none" | "files" | "state";
  readonly requires: Requires;
  /** Driver-specific: `image` of docker and kubernetes. */
  readonly options: Readonly<Record<string, string>>;
};

export type Environment = Manifest & {
  /** `builtin` and `operator` cannot be deleted by a tool. */
  readonly origin: "builtin" | "operator" | "created";
  /** Rises with each change of an environment of this name; 1 of a builtin one. */
  readonly version: number;
  readonly createdBy?: string;
  readonly createdAt?: number;
};

/** What an operator lets environments ask for; a worker keeps to its own, whatever the store says. */
export type Ceiling = {
  readonly limits: Limits;
  readonly drivers: readonly DriverName[];
  readonly network: NetworkAccess;
  /** Folders below which mounts may lie, and whether they may be written. */
  readonly mounts: readonly { readonly below: string; readonly readOnly: boolean }[];
  /** Images of docker and kubernetes, by glob. */
  readonly images: readonly string[];
  readonly packages: boolean;
};

/** Whether an environment runs on one worker, and how well it holds there. */
export type Offer =
  | {
      readonly environment: string;
      readonly version: number;
      readonly available: true;
      readonly driver: DriverName;
      readonly runtimeVersion: string;
    }
  | { readonly environment: string; readonly version: number; readonly available: false; readonly reason: string };
