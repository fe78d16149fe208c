import type { Logger } from "pino";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

type Line = (fields: Record<string, unknown>, message: string) => void;

/** The log: JSON lines on stderr. */
export interface Log {
  debug: Line;
  info: Line;
  warn: Line;
  error: Line;
  /** Everything logged so far is written. */
  flush(): Promise<void>;
}

/** What is logged of an error in reading what somebody sent: of what is no message at all the kind alone, since the rest repeats its text. */
export function unread(error: Error): Record<string, unknown> {
  return error instanceof SyntaxError || error.name.endsWith("ZodError") ? { kind: error.name } : { err: error };
}

/** Order of severity; a line below the level costs nothing. */
const WEIGHT: Record<LogLevel, number> = { trace: 10, debug: 20, info: 30, warn: 40, error: 50, fatal: 60, silent: 100 };

/**
 * Opens pino on stderr with the first line that is to be written: a server that has nothing to say does not pay for it
 * at its start.
 */
export function openLog(name: string, level: LogLevel): Log {
  let logger: Promise<Logger> | undefined;
  let last: Promise<void> = Promise.resolve();
  const line =
    (at: "debug" | "info" | "warn" | "error"): Line =>
    (fields, message) => {
      if (WEIGHT[at] < WEIGHT[level]) return;
      logger ??= import("pino").then(({ default: pino }) => pino({ name, level }, pino.destination({ dest: 2, sync: true })));
      last = logger.then((open) => open[at](fields, message));
    };
  return { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error"), flush: () => last };
}
