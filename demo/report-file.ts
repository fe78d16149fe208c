/** The report that the workers write together: a file that each reads, adds a part to and writes anew, and so must hold alone. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { Measure } from "./plan.ts";

/** The name of its lock, and the value that tells how many parts it has. */
export const REPORT_LOCK = "report";
export const PARTS_WRITTEN = "report/parts-written";
/** The topic on which each part is announced. */
export const REPORT_TOPIC = "report";

export interface Part {
  by: string;
  measure: Measure;
}
export type Parts = Record<string, Part>;

export function readParts(path: string): Parts {
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Parts) : {};
}

export function writeParts(path: string, parts: Parts): void {
  writeFileSync(`${path}.new`, JSON.stringify(parts));
  renameSync(`${path}.new`, path);
}
