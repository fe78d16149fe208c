/** A driver for odd servers, and one run of it. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Json } from "@mcp-swarm/core";
import { groupLeash, type Leash } from "../../src/mcp/leash.ts";
import { parseMcpConfig } from "../../src/mcp/mcp-config.ts";
import { McpDriver } from "../../src/mcp/mcp-driver.ts";
import type { Limits, SandboxOutcome } from "../../src/sandbox/driver.ts";

/** As an operator writes a value that the worker's environment has. */
export function fromWorker(name: string): string {
  return ["$", `{env:${name}}`].join("");
}

export const ODD_SERVER = join(import.meta.dirname, "odd-server.ts");

/** `mode` is what it does before it is connected. */
export function odd(mode = "plain", more: Record<string, Json> = {}, marker = ""): Record<string, Json> {
  return { command: process.execPath, args: [ODD_SERVER, mode, marker], tools: ["*"], ...more };
}

export const LIMITS: Limits = {
  ...{ wallMs: 20_000, cpuMs: 1_000, memoryMiB: 64, processes: 8 },
  ...{ outputBytes: 65_536, fileBytes: 1_000_000, diskBytes: 2_000_000, files: 10 },
};

export interface Ran {
  readonly outcome: SandboxOutcome;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly limits?: Partial<Limits>;
  readonly signal?: AbortSignal;
  readonly stdin?: string;
  /** Told of output as it comes. */
  readonly onOutput?: () => void;
}

export class Lab {
  readonly driver: McpDriver;
  readonly errors: unknown[] = [];

  constructor(
    file: { mcpServers?: Json; profiles?: Json },
    { env = {}, leash }: { env?: Record<string, string>; leash?: "group" } = {},
  ) {
    const chosen: { leash?: Leash } = leash === "group" ? { leash: groupLeash() } : {};
    this.driver = new McpDriver({
      config: parseMcpConfig(file),
      env: { PATH: process.env.PATH, ...env },
      onError: (error) => this.errors.push(error),
      ...chosen,
    });
  }

  async run(code: Json, { limits = {}, signal, stdin = "", onOutput = () => {} }: RunOptions = {}): Promise<Ran> {
    const said = { stdout: "", stderr: "" };
    const outcome = await this.driver.run(
      {
        ...{ runId: "run-1", runtime: "mcp", code: JSON.stringify(code), args: [], files: [], env: {} },
        stdin: Buffer.from(stdin),
        limits: { ...LIMITS, ...limits },
        ...{ network: { mode: "none" }, mounts: [], packages: [], options: {} },
      },
      {
        signal: signal ?? new AbortController().signal,
        onOutput: (stream, bytes) => {
          said[stream] += Buffer.from(bytes).toString("utf8");
          onOutput();
        },
      },
    );
    return { outcome, ...said };
  }

  /** A tool of the server `odd`. */
  async call(tool: string, args: Record<string, Json> = {}, options?: RunOptions): Promise<Ran> {
    return await this.run({ server: "odd", tool, arguments: args }, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.driver.close();
  }
}

/** Ids of living processes whose command line has the marker. */
export function processesWith(marker: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(marker);
      } catch {
        return false; // it ended meanwhile
      }
    })
    .map(Number);
}
