/** What happens, line by line, with the time since the job began. Of things that come often only the first few are told. */
const TOLD_MAX = 12;

export class Transcript {
  readonly #startedAt = performance.now();
  readonly #told = new Map<string, number>();

  get elapsedMs(): number {
    return performance.now() - this.#startedAt;
  }

  /** @param sort of things that come often; without it the line is always told */
  say(line: string, sort?: string): void {
    const told = sort === undefined ? 0 : (this.#told.get(sort) ?? 0) + 1;
    if (sort !== undefined) this.#told.set(sort, told);
    const time = `${(this.elapsedMs / 1_000).toFixed(1).padStart(5)} s`;
    if (told <= TOLD_MAX) console.log(`${time}  ${line}`);
    if (told === TOLD_MAX) console.log(`${time}  … and so on; more of this kind is not told`);
  }
}
