import { SwarmError } from "@mcp-swarm/core";
import { Command } from "commander";
import {
  type BackupReport,
  backup,
  type CheckReport,
  type CopyReport,
  check,
  copy,
  type Place,
  type RestoreReport,
  restore,
  type Sweeper,
  type SweepReport,
  sweep,
  where,
} from "./commands.ts";

export interface StoreCommandOptions {
  /** The store when `--store` names none. @throws SwarmError when there is no default */
  storeUrl(): string;
  /** What a sweep removes beside expired rows. */
  sweepers?(): readonly Sweeper[];
  write?(text: string): void;
  writeError?(text: string): void;
  /** Called with the exit status when a command has failed. */
  fail?(status: number): void;
}

/** The command `store` with its subcommands; the bins of the servers mount it as it is. */
export function storeCommand(options: StoreCommandOptions): Command {
  const write = options.write ?? ((text) => void process.stdout.write(text));
  const writeError = options.writeError ?? ((text) => void process.stderr.write(text));
  const fail =
    options.fail ??
    ((status) => {
      process.exitCode = status;
    });
  const store = new Command("store")
    .description("Look after the store: where it is, check, backup, restore, copy, sweep")
    .option("--store <url>", "sqlite:<path>, postgres://… (default: what the servers use)")
    .option("--json", "answer in JSON");

  const url = (): string => store.opts<{ store?: string }>().store ?? options.storeUrl();
  /** Runs one command and prints its report, or the reason of its failure and what to do next. */
  const answer = async <T extends object>(run: () => T | Promise<T>, words: (report: T) => string, good = (_: T) => true) => {
    const { json } = store.opts<{ json?: boolean }>();
    try {
      const report = await run();
      write(`${json ? JSON.stringify(report) : words(report)}\n`);
      if (!good(report)) fail(1);
    } catch (error) {
      const { code, message, hint } = known(error);
      writeError(`${json ? JSON.stringify({ error: { code, message, hint } }) : [message, hint].filter(Boolean).join("\n")}\n`);
      fail(1);
    }
  };

  store
    .command("where")
    .description("Print where the data is")
    .action(() => answer(() => where(url()), whereWords));
  store
    .command("check")
    .description("Verify every record's checksum and, on SQLite, the file; may run while the store is in use")
    .action(() =>
      answer(
        () => check(url()),
        checkWords,
        (report) => report.problemCount === 0,
      ),
    );
  store
    .command("backup")
    .description("Write a verified copy to a new SQLite file; may run while the store is in use")
    .argument("<file>", "the file to make")
    .action((file: string) => answer(() => backup(url(), file), backupWords));
  store
    .command("restore")
    .description("Put a backup in the store's place; nothing may have the store open")
    .argument("<file>", "a file that `backup` made")
    .action((file: string) => answer(() => restore(file, url()), restoreWords));
  store
    .command("copy")
    .description("Copy every entry into an empty store of any engine")
    .argument("<from>", "URL of the store to copy")
    .argument("<to>", "URL of an empty store")
    .action((from: string, to: string) => answer(() => copy(from, to), copyWords));
  store
    .command("sweep")
    .description("Remove expired rows and records past their retention")
    .action(() => answer(() => sweep(url(), options.sweepers?.()), sweepWords));
  return store;
}

function known(error: unknown): { code: string; message: string; hint: string | undefined } {
  if (error instanceof SwarmError) return error;
  const message = error instanceof Error ? error.message : String(error); // for the person at the terminal
  return { code: "internal", message, hint: "Please report this with the command that you ran." };
}

function whereWords({ location, exists, bytes }: Place): string {
  if (exists === undefined) return location;
  return exists ? `${location} (${bytes} bytes)` : `${location} (not made yet; the first server to use it makes it)`;
}

function checkWords({ location, rows, unsigned, problemCount, problems, outOfStep = 0 }: CheckReport): string {
  const plain = unsigned > 0 ? `, of which ${unsigned} have no checksum because a plain Keyv wrote them` : "";
  const unsearched =
    outOfStep > 0
      ? ` Another program changed ${outOfStep} texts, which search does not know: run \`mcp-swarm-store sweep\`.`
      : "";
  if (problemCount === 0) return `${location}: sound. ${rows} rows${plain}.${unsearched}`;
  const more = problemCount > problems.length ? [`… and ${problemCount - problems.length} more`] : [];
  return [
    `${location}: ${problemCount} ${problemCount === 1 ? "problem" : "problems"} in ${rows} rows.`,
    ...problems.map((problem) => `  ${problem}`),
    ...more,
    "Keep a copy of the file, then run `mcp-swarm-store restore <backup>`.",
  ].join("\n");
}

function backupWords({ file, rows, bytes }: BackupReport): string {
  return `Backed up and verified ${rows} rows (${bytes} bytes) in ${file}.\nPut it back with \`mcp-swarm-store restore\`.`;
}

function restoreWords({ location, rows, replaced }: RestoreReport): string {
  return `Restored and verified ${rows} rows in ${location}.${replaced ? `\nWhat was there is kept in ${replaced}.` : ""}`;
}

function copyWords({ from, to, rows, leftOut }: CopyReport): string {
  const rest = leftOut.length > 0 ? `\nLeft out ${leftOut.length} namespaces that are none of the store's.` : "";
  return `Copied and compared ${rows} entries from ${from} to ${to}.${rest}\nSet SWARM_STORE to the new store in every host.`;
}

function sweepWords({ expired, reindexed, retained }: SweepReport): string {
  return [
    `Removed ${expired} expired rows.`,
    ...(reindexed > 0 ? [`Search knows ${reindexed} texts again that another program had changed.`] : []),
    ...Object.entries(retained).map(([name, gone]) => `${name}: removed ${gone}.`),
  ].join("\n");
}

export type { Sweeper } from "./commands.ts";

export { where };
