/** RESULTS.md: made whole by a run of all benchmarks; a run of some puts their tables in the place of the earlier ones. */
import { cpus, release, totalmem, type } from "node:os";

/** A table under its title. */
export interface Section {
  title: string;
  table: string;
}

/** What a reader needs to know of where the figures come from. */
function machine(): string {
  const [cpu] = cpus();
  return `${cpus().length} × ${cpu?.model.trim() ?? "unknown"}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}, Node ${process.version}`;
}

/** The sections of an earlier report; undefined when it is of another machine, whose figures cannot stand beside these. */
export function sectionsOf(report: string): Section[] | undefined {
  if (!report.includes(`Machine: ${machine()}.`)) return undefined;
  const [, ...parts] = report.split(/^## /m);
  return parts.map((part) => {
    const [title = "", ...lines] = part.split("\n");
    return { title, table: lines.join("\n").trim() };
  });
}

export function report(sections: readonly Section[]): string {
  const short = sections.flatMap(({ table }) => missed(table));
  return `# Benchmark results

Written by \`npm run bench\`. Machine: ${machine()}.

Each figure stands beside a control that was measured in the same run, by turns; the ratio is the median of the rounds' own
ratios. Absolute figures are this machine's alone. The controls are in \`bench/controls\`: a bare server of the official SDK,
and raw queues, values, messages and locks over one table each behind the same SDK, bundled as ours is. What a hand-over between
processes stands beside are two calls to bare servers, one after the other. The run fails if a call is refused, if a task or a
message is lost or comes twice, if a sender's messages come out of order, or if two hold one lock.

${short.length === 0 ? "All goals are met." : `Goals missed: ${short.join("; ")}.`}

${sections.map(({ title, table }) => `## ${title}\n\n${table}\n`).join("\n")}`;
}

/** What a table says of goals that were not met, without the notes. */
function missed(table: string): string[] {
  const lines = table.split("\n").filter((line) => line.includes("| **no** |"));
  return lines.map((line) =>
    (line.split(" | ")[0] ?? "")
      .slice("| ".length)
      .replace(/ \(.*\) *$/, "")
      .trim(),
  );
}
