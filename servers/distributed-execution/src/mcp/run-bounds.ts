/** What bounds one run of the environment `mcp`: its time, its output, and whoever stops it. */
import type { Clock } from "@mcp-swarm/core";
import type { Cut, RunHooks } from "../sandbox/driver.ts";

/** Why a run is stopped before its end. */
export type StopReason = "killed" | "time" | "output";

export class Stopping implements Disposable {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #onOuter = () => this.stop("killed");
  readonly #timer: Disposable;
  #because: StopReason | undefined;

  constructor(outer: AbortSignal, afterMs: number, clock: Clock) {
    this.#outer = outer;
    this.#timer = clock.timer(afterMs, () => this.stop("time"));
    outer.addEventListener("abort", this.#onOuter, { once: true });
    if (outer.aborted) this.stop("killed");
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The first reason; undefined while it goes on. */
  get because(): StopReason | undefined {
    return this.#because;
  }

  stop(because: StopReason): void {
    this.#because ??= because;
    this.#controller.abort();
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
    this.#outer.removeEventListener("abort", this.#onOuter);
  }
}

/** stdout and stderr together, up to so many bytes. */
export class Output {
  readonly #hooks: RunHooks;
  #left: number;
  #cut: { stdoutBytes?: number; stderrBytes?: number } = {};
  /** Called when there was more than may come out. */
  onFull: () => void = () => {};

  constructor(outputBytes: number, hooks: RunHooks) {
    this.#left = outputBytes;
    this.#hooks = hooks;
  }

  get cut(): Cut {
    return this.#cut;
  }

  line(stream: "stdout" | "stderr", text: string): void {
    const bytes = Buffer.from(`${text}\n`, "utf8");
    const kept = bytes.subarray(0, this.#left);
    this.#left -= kept.length;
    if (kept.length > 0) this.#hooks.onOutput(stream, kept);
    if (kept.length === bytes.length) return;
    const field = stream === "stdout" ? "stdoutBytes" : "stderrBytes";
    this.#cut = { ...this.#cut, [field]: (this.#cut[field] ?? 0) + bytes.length - kept.length };
    this.onFull();
  }

  /** To stderr; what is too long is cut, and that ends nothing. */
  say(text: string): void {
    this.onFull = () => {};
    this.line("stderr", text);
  }
}
