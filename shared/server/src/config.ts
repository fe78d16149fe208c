import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { SwarmError } from "@mcp-swarm/core";
import { checkAgentId } from "@mcp-swarm/identity";
import envPaths from "env-paths";
import * as z from "zod";
import { LOG_LEVELS } from "./log.ts";

/** What the environment says, checked. */
export interface Config {
  /** `sqlite:<path>`, `postgres://…` or `memory:`. */
  readonly storeUrl: string;
  durability: "full" | "normal";
  /** The agent's id when the environment names it. */
  agentId: string | undefined;
  /** The agent's own keys, and the root public key that it trusts. */
  readonly keyFile: string | undefined;
  /** The public key that signs who is a member and what is permitted; base64url. */
  readonly rootKey: string | undefined;
  /** Its private half: this process may change members and policies. Read when it is needed. */
  readonly rootKeyFile: string | undefined;
  /** The URL under which others reach this process over HTTP. */
  readonly publicUrl: string | undefined;
  /** The host's own session, from which an agent id is derived when none is given. */
  hostSessionId: string | undefined;
  leaseMs: number;
  workerSlots: number;
  /** Runs at once of the pool in a process that runs code; 0 runs none. */
  execSlots: number;
  /** What the operator of this machine lets code ask for, and gives it. */
  readonly execConfigFile: string | undefined;
  retentionDays: number;
  /** Messages a minute that one agent may send. */
  messageRate: number;
  /** Calls a minute that one agent may make of this process in a secured swarm. */
  callRate: number;
  logLevel: (typeof LOG_LEVELS)[number];
  /** The work tree that relative paths are meant from. */
  projectFolder: string;
}

const LEASE_MS_DEFAULT = 15_000;
const WORKER_SLOTS_DEFAULT = 5;
const EXEC_SLOTS_DEFAULT = 2;
const EXEC_SLOTS_MAX = 64;
const RETENTION_DAYS_DEFAULT = 30;
const MESSAGE_RATE_DEFAULT = 6_000;
const CALL_RATE_DEFAULT = 60_000;
/** Longest path and URL, in characters. */
const PATH_MAX = 4_096;
const URL_MAX = 2_000;

const whole = (min: number, max: number, otherwise: number) => z.coerce.number().int().min(min).max(max).default(otherwise);

const environment = z.object({
  SWARM_STORE: z.string().max(2_000).optional(),
  SWARM_DURABILITY: z.enum(["full", "normal"]).default("full"),
  SWARM_AGENT: z.string().optional(),
  SWARM_KEY_FILE: z.string().max(PATH_MAX).optional(),
  SWARM_ROOT_KEY: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/, "Not a root public key: 43 characters of base64url, as mcp-swarm-security init printed it.")
    .optional(),
  SWARM_ROOT_KEY_FILE: z.string().max(PATH_MAX).optional(),
  SWARM_PUBLIC_URL: z.httpUrl().max(URL_MAX).optional(),
  SWARM_LEASE_MS: whole(1_000, 3_600_000, LEASE_MS_DEFAULT),
  SWARM_WORKER_SLOTS: whole(1, 1_000, WORKER_SLOTS_DEFAULT),
  SWARM_EXEC_SLOTS: whole(0, EXEC_SLOTS_MAX, EXEC_SLOTS_DEFAULT),
  SWARM_EXEC_CONFIG: z.string().max(PATH_MAX).optional(),
  SWARM_RETENTION_DAYS: whole(0, 36_500, RETENTION_DAYS_DEFAULT),
  SWARM_MESSAGE_RATE: whole(1, 1_000_000, MESSAGE_RATE_DEFAULT),
  SWARM_CALL_RATE: whole(1, 100_000_000, CALL_RATE_DEFAULT),
  SWARM_LOG: z.enum(LOG_LEVELS).default("warn"),
  CLAUDE_CODE_SESSION_ID: z.string().optional(),
  CLAUDE_PROJECT_DIR: z.string().optional(),
});

/**
 * Reads the configuration from environment variables; an empty one counts as not set.
 * @throws SwarmError invalid_argument naming the variable
 */
export function readConfig(env: NodeJS.ProcessEnv, cwd: string): Config {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const parsed = environment.safeParse(set, { jitless: true }); // for one use, compiling the checks costs more than it saves
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new SwarmError("invalid_argument", `${issue?.path.join(".")}: ${(issue?.message ?? "not valid").replace(/\.$/, "")}.`, {
      hint: "The README's section on configuration lists what each variable takes.",
    });
  }
  const values = parsed.data;
  const projectFolder = resolve(cwd, values.CLAUDE_PROJECT_DIR ?? ".");
  let storeUrl = values.SWARM_STORE;
  return {
    get storeUrl() {
      storeUrl ??= `sqlite:${defaultDatabase(projectFolder)}`; // found when it is needed: the first answer does not wait for it
      return storeUrl;
    },
    durability: values.SWARM_DURABILITY,
    agentId: values.SWARM_AGENT === undefined ? undefined : checkAgentId(values.SWARM_AGENT),
    keyFile: values.SWARM_KEY_FILE === undefined ? undefined : resolve(cwd, values.SWARM_KEY_FILE),
    rootKey: values.SWARM_ROOT_KEY,
    rootKeyFile: values.SWARM_ROOT_KEY_FILE === undefined ? undefined : resolve(cwd, values.SWARM_ROOT_KEY_FILE),
    publicUrl: values.SWARM_PUBLIC_URL,
    hostSessionId: values.CLAUDE_CODE_SESSION_ID,
    leaseMs: values.SWARM_LEASE_MS,
    workerSlots: values.SWARM_WORKER_SLOTS,
    execSlots: values.SWARM_EXEC_SLOTS,
    execConfigFile: values.SWARM_EXEC_CONFIG === undefined ? undefined : resolve(cwd, values.SWARM_EXEC_CONFIG),
    retentionDays: values.SWARM_RETENTION_DAYS,
    messageRate: values.SWARM_MESSAGE_RATE,
    callRate: values.SWARM_CALL_RATE,
    logLevel: values.SWARM_LOG,
    projectFolder,
  };
}

/**
 * One database for each project, in the user's data folder. Worktrees of one repository share it, because it is named for
 * the repository's common git directory; outside a repository it is named for the folder.
 */
function defaultDatabase(folder: string): string {
  const project = commonGitDirectory(folder) ?? realpath(folder);
  const named = basename(project) === ".git" ? basename(dirname(project)) : basename(project).replace(/\.git$/, "");
  const readable =
    named
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .slice(0, 40) || "project";
  const unique = createHash("sha256").update(project).digest("hex").slice(0, 10);
  return join(dataFolder(), `${readable}-${unique}`, "swarm.db");
}

/** This user's folder for what the suite keeps. */
export function dataFolder(): string {
  return envPaths("mcp-swarm", { suffix: "" }).data;
}

/** This user's folder for settings and keys. */
export function configFolder(): string {
  return envPaths("mcp-swarm", { suffix: "" }).config;
}

/** The git directory all worktrees of a repository have in common (gitrepository-layout(5)), found without running git. */
export function commonGitDirectory(folder: string): string | undefined {
  for (let at = realpath(folder); ; at = dirname(at)) {
    const marker = join(at, ".git");
    if (existsSync(marker)) {
      if (statSync(marker).isDirectory()) return realpath(marker);
      const pointed = /^gitdir: (.+)$/m.exec(readFileSync(marker, "utf8"))?.[1];
      if (pointed === undefined) return undefined;
      const gitDirectory = resolve(at, pointed.trim());
      const common = join(gitDirectory, "commondir");
      return realpath(existsSync(common) ? resolve(gitDirectory, readFileSync(common, "utf8").trim()) : gitDirectory);
    }
    if (dirname(at) === at) return undefined;
  }
}

/** Two paths to one folder must name one database; a folder that does not exist stays as it is written. */
function realpath(path: string): string {
  return existsSync(path) ? realpathSync(path) : path;
}
