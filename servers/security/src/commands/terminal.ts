/** What a person at a terminal reads and types. Answers go to stdout, what to do next and questions to stderr. */
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { SwarmError } from "@mcp-swarm/core";

/** Longest line that is read from a pipe, in characters. */
const LINE_MAX = 4_096;

export function answer(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Text that others may have written, without what would move a terminal's cursor or turn its text round. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "?");
}

/** Rows in columns that are as wide as their widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) for (const [at, cell] of row.entries()) widths[at] = Math.max(widths[at] ?? 0, cell.length);
  return rows
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** A line that is not shown while it is typed; from a pipe its first line. @throws SwarmError failed_precondition when nothing comes */
export async function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process;
  const typed = stdin.isTTY === true;
  if (typed) stderr.write(question);
  const hidden = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: stdin, output: hidden, terminal: typed });
  try {
    const line = await new Promise<string | undefined>((resolve) => {
      lines.once("line", resolve);
      lines.once("close", () => resolve(undefined));
      lines.once("SIGINT", () => lines.close());
    });
    if (line !== undefined && line.length <= LINE_MAX) return line;
    throw new SwarmError("failed_precondition", "Nothing was typed.", {
      hint: "Type it when you are asked, or give it as the first line of stdin.",
    });
  } finally {
    lines.close();
    if (typed) stderr.write("\n");
  }
}

/** @throws SwarmError not_found */
export async function readText(path: string): Promise<string> {
  return await readFile(path, "utf8").catch((cause: unknown) => {
    throw new SwarmError("not_found", `${path} cannot be read.`, { hint: "Name a file that is there.", cause });
  });
}

/** @throws SwarmError not_found, invalid_argument */
export async function readJson(path: string): Promise<unknown> {
  const text = await readText(path);
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    // the parser's own words quote the file, which may be another than was meant: one of keys
    const at = cause instanceof Error ? /\(line (\d+) column (\d+)\)$/.exec(cause.message) : null;
    const where = at ? ` from line ${at[1]}, column ${at[2]} on` : "";
    throw new SwarmError("invalid_argument", `${path} is not JSON${where}.`, {
      hint: "Mend it, and check it with policy check.",
      cause,
    });
  }
}

/** For options that may be given several times. */
export function each(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}

/** `name=value` texts as an object. @throws SwarmError invalid_argument */
export function pairs(texts: readonly string[], option: string): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
      throw new SwarmError("invalid_argument", `${option} takes name=value.`, { hint: `For example ${option} team=build.` });
    }),
  );
}

/** A whole number. @throws SwarmError invalid_argument */
export function whole(text: string, option: string, min: number, max: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw new SwarmError("invalid_argument", `${option} takes a whole number from ${min} to ${max}.`);
}
