/**
 * Scripts that a person can read, with what came of each command beneath it: blocks of commands, a line `----`, and the output
 * up to an empty line. Lines that begin with `#` are notes. `SWARM_GOLDEN=write` writes what comes of the commands now.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "vitest";

const DIVIDER = "----";

interface Block {
  /** Commands and notes, as they stand in the file. */
  readonly lines: readonly string[];
  readonly isScript: boolean;
}

function parse(text: string): Block[] {
  const blocks: Block[] = [];
  for (const paragraph of text.split(/\n{2,}/)) {
    const lines = paragraph.split("\n").filter((line) => line !== "");
    const divider = lines.indexOf(DIVIDER);
    const commands = divider < 0 ? lines : lines.slice(0, divider);
    if (commands.length > 0) blocks.push({ lines: commands, isScript: commands.some((line) => !line.startsWith("#")) });
  }
  return blocks;
}

/** Runs the script line by line and compares all that came of it with what the file says; no line of output is empty. */
export async function golden(file: string, run: (command: string) => Promise<readonly string[]>): Promise<void> {
  const written = readFileSync(file, "utf8");
  const happened: string[] = [];
  let commands = 0;
  for (const { lines, isScript } of parse(written)) {
    const output: string[] = [];
    for (const line of lines) {
      if (line.startsWith("#")) continue;
      commands += 1;
      output.push(...(await run(line)).filter((one) => one !== ""));
    }
    happened.push([...lines, ...(isScript ? [DIVIDER, ...(output.length > 0 ? output : ["ok"])] : [])].join("\n"));
  }
  expect(commands, `${file} has commands`).toBeGreaterThan(0);
  const text = `${happened.join("\n\n")}\n`;
  if (process.env.SWARM_GOLDEN === "write") writeFileSync(file, text);
  else expect(text).toBe(written);
}
