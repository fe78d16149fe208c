/** What a benchmark says: one line of the table. */
export interface Row {
  /** What was measured, with its size: `claim + complete, 4 workers, 1,000 tasks`. */
  what: string;
  /** The subject's figure with its unit: `812 tasks/s`. */
  subject: string;
  /** The control's figure in the same run; absent where the goal is an absolute one. */
  control?: string;
  /** Subject over control, or over the ideal: what the goal is about. */
  ratio?: number;
  goal?: Goal;
  /** What a reader must know to read the figure. */
  note?: string;
}

/** A bound on the ratio, or on `value` where there is no control. */
export type Goal = ({ atLeast: number } | { atMost: number }) & { value?: number };

export interface Options {
  /** Fewer rounds and sizes: says whether everything works and roughly how fast. */
  quick: boolean;
}

/** A benchmark: measures, and answers its lines. Throws when something was wrong with what it measured, never when it was slow. */
export type Bench = (options: Options) => Promise<Row[]>;

export function meets({ ratio, goal }: Row): boolean | undefined {
  const value = goal?.value ?? ratio;
  if (!goal || value === undefined) return undefined;
  return "atLeast" in goal ? value >= goal.atLeast : value <= goal.atMost;
}

export function formatTable(rows: readonly Row[]): string {
  const head = ["what", "ours", "control", "ratio", "goal", "met"];
  const lines = rows.map((row) => [
    row.note === undefined ? row.what : `${row.what} (${row.note})`,
    row.subject,
    row.control ?? "–",
    row.ratio === undefined ? "–" : row.ratio.toFixed(2),
    row.goal === undefined ? "–" : "atLeast" in row.goal ? `≥ ${row.goal.atLeast}` : `≤ ${row.goal.atMost}`,
    { true: "yes", false: "**no**", undefined: "–" }[`${meets(row)}`],
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...lines.map((line) => line[column]?.length ?? 0)));
  const text = (cells: readonly string[]) => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [text(head), `|${widths.map((width) => "-".repeat(width + 2)).join("|")}|`, ...lines.map(text)].join("\n");
}
