/** Paths of files that go into a sandbox, as callers name them. */
import { SwarmError } from "@mcp-swarm/core";
import { FILE_PATH_MAX } from "./execution-record.ts";

/** Deepest folder of a path. */
const DEPTH_MAX = 16;

/**
 * Control characters, what separates elsewhere, what some file systems read as something else, and what is not seen or turns text: a name
 * shows all that it is.
 */
const FORBIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\\:*?"<>|]/u;

/** Whether a path is relative, names a file below the folder it begins in, and reads the same on every system. */
export function isCleanPath(path: string): boolean {
  if (path.length === 0 || path.length > FILE_PATH_MAX || FORBIDDEN.test(path) || !path.isWellFormed()) return false;
  const steps = path.split("/");
  return steps.length <= DEPTH_MAX && steps.every((step) => step !== "" && !/^\.{1,2}$/.test(step) && !/[. ]$/.test(step));
}

/** @throws SwarmError invalid_argument */
export function cleanPath(path: string): string {
  if (isCleanPath(path)) return path;
  throw new SwarmError("invalid_argument", "A path of a file is not one that a sandbox takes.", {
    hint: `Use a relative path such as data/input.csv: up to ${FILE_PATH_MAX} characters, no "..", no backslash, nothing of : * ? " < > |.`,
  });
}

/** Names at the top of the working folder that the code itself lies under, `.main.sh` for example. */
const OF_THE_CODE = /^\.main\./i;

/**
 * A path of a file that is handed over with code.
 * @throws SwarmError invalid_argument
 */
export function inputPath(path: string): string {
  if (!OF_THE_CODE.test(path)) return cleanPath(path);
  throw new SwarmError("invalid_argument", 'A path of a file begins with ".main.", as the code\'s own does.', {
    hint: "Give the file another name.",
  });
}

/**
 * Checks paths that are to lie in one folder together.
 * @throws SwarmError invalid_argument when one is not clean, is given twice, or is a file and a folder at once
 */
export function checkPaths(paths: readonly string[]): void {
  const files = new Set<string>();
  for (const path of paths) {
    cleanPath(path);
    // file systems that do not tell cases apart would lay one over the other
    const name = path.toLowerCase();
    if (files.has(name)) throw clash();
    files.add(name);
  }
  for (const name of files) {
    for (let slash = name.indexOf("/"); slash >= 0; slash = name.indexOf("/", slash + 1)) {
      if (files.has(name.slice(0, slash))) throw clash();
    }
  }
}

function clash(): SwarmError {
  return new SwarmError("invalid_argument", "Two files have the same path, or one lies below the other.", {
    hint: "Give each file a path of its own; paths that differ in upper and lower case alone count as the same.",
  });
}
