/** The middle of the values; the mean of the two middle ones of an even number. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("No values, no median");
  const sorted = [...values].sort((a, b) => a - b);
  const upper = Math.floor(sorted.length / 2);
  const high = sorted[upper] ?? 0;
  return sorted.length % 2 === 1 ? high : ((sorted[upper - 1] ?? 0) + high) / 2;
}

/** The value below which this share (0 to 1) of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

export interface Contest {
  subject: number;
  control: number;
  /** The median of each round's own ratio, which a change of the machine's speed between rounds does not touch. */
  ratio: number;
}

/**
 * Measures both sides by turns, the first to go alternating from round to round, so that neither has the quieter machine.
 * Each measures once more before, unheard.
 */
export async function contest(
  rounds: number,
  sides: { subject: () => Promise<number>; control: () => Promise<number> },
  { warmUp = true }: { warmUp?: boolean } = {},
): Promise<Contest> {
  if (warmUp) {
    await sides.subject();
    await sides.control();
  }
  const subject: number[] = [];
  const control: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? (["subject", "control"] as const) : (["control", "subject"] as const);
    for (const side of order) (side === "subject" ? subject : control).push(await sides[side]());
  }
  const ratios = subject.map((value, round) => value / (control[round] ?? Number.NaN));
  return { subject: median(subject), control: median(control), ratio: median(ratios) };
}

export function perSecond(count: number): string {
  return `${Math.round(count).toLocaleString("en-US")}/s`;
}
