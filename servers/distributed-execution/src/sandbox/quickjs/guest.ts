/**
 * What code in QuickJS finds besides the language itself, and what the child asks of it: where a run stands, its value, what went wrong.
 * `guest` runs inside the sandbox: its own text is evaluated there, so it refers to nothing outside itself. It takes what it needs of
 * the language before the code runs, because the code may change all of that; and whatever it tells the child is taken as the code's word.
 */

/** Largest value as JSON, in bytes; and its deepest nesting. */
export const VALUE_BYTES_MAX = 256 * 1024;
export const VALUE_DEPTH_MAX = 32;

/** What crosses into the child: texts, numbers and bytes alone. */
export interface GuestHost {
  /** @returns false when there is no room for more output: the run ends */
  print(stream: 1 | 2, text: string | ArrayBuffer): boolean;
  /** The run ends as soon as this has returned. */
  exit(code: number): void;
  /** @returns false when it cannot cross as a text: read its bytes */
  readText(path: string): string | false | undefined;
  readBytes(path: string): ArrayBuffer | undefined;
  /** @returns what is wrong with the path; "" when it was written */
  writeText(path: string, text: string): string;
  writeBytes(path: string, bytes: ArrayBuffer): string;
  /** Paths as a JSON array. */
  listFiles(): string;
  /** Whole ms since any moment. */
  now(): number;
  randomBytes(count: number): ArrayBuffer;
  /** `guestLibrary`, evaluated. */
  library(): (
    host: GuestHost,
    options: GuestOptions,
    kept: Primordials,
    print: (stream: 1 | 2, text: string) => void,
  ) => GuestLibrary;
}

export interface GuestOptions {
  readonly valueBytes: number;
  readonly valueDepth: number;
}

/** What is evaluated only when code first asks for it: four fifths of the text, which many tasks do without. */
export interface GuestLibrary {
  readonly format: (given: readonly unknown[]) => string;
  readonly describe: (thrown: unknown) => string;
  /** @returns as `Guest.value` */
  readonly json: (value: unknown) => string | number;
  readonly bytesOf: (given: unknown) => Uint8Array<ArrayBuffer>;
  readonly utf8: (text: string) => Uint8Array<ArrayBuffer>;
  readonly text: (bytes: Uint8Array) => string;
  readonly stackOf: (error: Error) => string;
  /** Globals by their name. */
  readonly offers: Readonly<Record<string, unknown>>;
}

/** The language as it was before the code ran. */
export interface Primordials {
  readonly apply: typeof Reflect.apply;
  readonly call: <R>(method: (...given: never[]) => R, self: unknown, ...given: unknown[]) => R;
  readonly reflect: Pick<typeof Reflect, "getPrototypeOf" | "getOwnPropertyDescriptor" | "ownKeys" | "defineProperty">;
  readonly json: Pick<JSON, "parse" | "stringify">;
  readonly string: typeof String.prototype;
  readonly prototypes: {
    readonly functionText: () => string;
    readonly tagOf: () => string;
    readonly isEnumerable: (key: PropertyKey) => boolean;
    readonly push: (...items: unknown[]) => number;
    readonly numberText: (radix?: number) => string;
    readonly dateText: () => string;
    readonly dateTime: () => number;
    readonly regexpText: () => string;
    readonly map: Pick<Map<unknown, unknown>, "forEach" | "set" | "get" | "has">;
    readonly set: Pick<Set<unknown>, "forEach" | "add">;
    readonly typedBuffer: () => ArrayBuffer;
    readonly bufferSlice: (from: number, to?: number) => ArrayBuffer;
  };
}

/** What the child calls. */
export interface Guest {
  /** @param given JSON of `{args, stdin, env}` */
  begin(given: string): void;
  /** The run has ended when this promise has, its jobs and its timers. @param isModule it is of a module's namespace */
  follow(running: unknown, isModule: boolean): void;
  state(): "running" | "done" | "failed";
  /** Calls the timer that is due. @returns ms until the next is; 0 when one was called; -1 when there is none */
  tick(): number;
  /** @returns the value as JSON; "" when there is none, and a number when it has more bytes than may be */
  value(): string | number;
  /** Prints what was thrown. */
  fail(thrown: unknown): void;
  /** What is thrown here is what the run failed with. */
  thrown(): unknown;
}

export function guest(host: GuestHost, options: GuestOptions): Guest {
  const TIMERS_MAX = 10_000;
  const DELAY_MAX = 2 ** 31 - 1;
  const PRINT_CHARS = 65_536;

  const { apply, getPrototypeOf, getOwnPropertyDescriptor, ownKeys, defineProperty } = Reflect;
  const { parse, stringify } = JSON;
  const { isInteger } = Number;
  const { floor, max } = Math;
  const { slice, charCodeAt, codePointAt, replace, split, repeat, padStart, includes } = String.prototype;
  const { splice, push } = Array.prototype;
  const { then } = Promise.prototype;
  const { forEach: mapEach, set: mapSet, get: mapGet, has: mapHas } = Map.prototype;
  const { forEach: setEach, add: setAdd } = Set.prototype;
  const { slice: bufferSlice } = ArrayBuffer.prototype;
  const typedPrototype = getPrototypeOf(Uint8Array.prototype) as object;
  const kept: Primordials = {
    apply,
    call,
    reflect: { getPrototypeOf, getOwnPropertyDescriptor, ownKeys, defineProperty },
    json: { parse, stringify },
    string: { slice, charCodeAt, codePointAt, replace, split, repeat, padStart, includes } as typeof String.prototype,
    prototypes: {
      functionText: Function.prototype.toString,
      tagOf: Object.prototype.toString,
      isEnumerable: Object.prototype.propertyIsEnumerable,
      push,
      numberText: Number.prototype.toString,
      dateText: Date.prototype.toISOString,
      dateTime: Date.prototype.getTime,
      regexpText: RegExp.prototype.toString,
      map: { forEach: mapEach, set: mapSet, get: mapGet, has: mapHas },
      set: { forEach: setEach, add: setAdd },
      typedBuffer: getOwnPropertyDescriptor(typedPrototype, "buffer")?.get as () => ArrayBuffer,
      bufferSlice,
    },
  };

  /** Calls a method as it was before the code could change it. */
  function call<R>(method: (...given: never[]) => R, self: unknown, ...given: unknown[]): R {
    return apply(method as (...all: unknown[]) => R, self, given);
  }
  function offer(name: string, value: unknown): void {
    defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
  let loaded: GuestLibrary | undefined;
  function library(): GuestLibrary {
    loaded ??= host.library()(host, options, kept, print);
    return loaded;
  }

  // ---- output -------------------------------------------------------------------------------------------------------------------

  function print(stream: 1 | 2, text: string): void {
    for (let at = 0; at < text.length; ) {
      let end = at + PRINT_CHARS;
      const last = call<number>(charCodeAt, text, end - 1);
      if (last >= 0xd800 && last <= 0xdbff) end++; // both halves of a pair together
      const part = call<string>(slice, text, at, end);
      if (!host.print(stream, crosses(part) ? part : library().utf8(part).buffer)) spin();
      at = end;
    }
  }
  /** Texts cross as C has them: a NUL would be their end. */
  function crosses(text: string): boolean {
    return !call<boolean>(includes, text, "\0");
  }
  /** The run is over: nothing of it comes after this. */
  function spin(): never {
    for (;;);
  }
  let indent = "";
  function plain(given: readonly unknown[]): string | undefined {
    let text = "";
    for (let i = 0; i < given.length; i++) {
      const item = given[i];
      const isText = typeof item === "string";
      if (!isText && typeof item !== "boolean" && !isInteger(item)) return undefined;
      if (item === 0 || (isText && given.length > 1 && call<boolean>(includes, item, "%"))) return undefined;
      text += `${i > 0 ? " " : ""}${item as string}`;
    }
    return text;
  }
  function log(stream: 1 | 2): (...given: unknown[]) => void {
    return (...given) => {
      const text = plain(given) ?? library().format(given);
      print(stream, `${indent === "" ? text : indent + call<string>(replace, text, /\n/g, `\n${indent}`)}\n`);
    };
  }
  const out = log(1);
  const err = log(2);
  const counts = { __proto__: null } as unknown as Record<string, number>;
  const started = { __proto__: null } as unknown as Record<string, number>;
  function elapsed(label: string): string {
    const since = started[label];
    return `${label}: ${since === undefined ? "no such timer" : `${host.now() - since}ms`}`;
  }
  offer("console", {
    log: out,
    info: out,
    debug: out,
    dir: (value: unknown) => out(value),
    table: (value: unknown) => out(value),
    error: err,
    warn: err,
    trace: (...given: unknown[]) => err(`Trace: ${library().format(given)}\n${library().stackOf(new Error("trace"))}`),
    assert: (condition: unknown, ...given: unknown[]) => {
      if (!condition) err(`Assertion failed${given.length > 0 ? `: ${library().format(given)}` : ""}`);
    },
    group: (...given: unknown[]) => {
      if (given.length > 0) out(...given);
      indent += "  ";
    },
    groupEnd: () => {
      indent = call<string>(slice, indent, 2);
    },
    count: (label = "default") => {
      const count = (counts[label] ?? 0) + 1;
      counts[label] = count;
      out(`${label}: ${count}`);
    },
    time: (label = "default") => {
      started[label] = host.now();
    },
    timeLog: (label = "default") => out(elapsed(label)),
    timeEnd: (label = "default") => {
      out(elapsed(label));
      delete started[label];
    },
  });

  // ---- time ---------------------------------------------------------------------------------------------------------------------

  interface Timer {
    readonly id: number;
    readonly run: () => void;
    readonly everyMs: number | undefined;
    due: number;
  }
  /** By when they are due; the next stands first. */
  let timers: Timer[] = [];
  let lastTimer = 0;
  function insert(timer: Timer): void {
    let low = 0;
    let high = timers.length;
    while (low < high) {
      const middle = floor((low + high) / 2);
      if ((timers[middle] as Timer).due <= timer.due) low = middle + 1;
      else high = middle;
    }
    call(splice, timers, low, 0, timer);
  }
  function startTimer(name: string, repeats: boolean): (run: unknown, delay?: unknown, ...given: unknown[]) => number {
    return (run, delay, ...given) => {
      if (typeof run !== "function") throw new TypeError(`${name} wants a function`);
      if (timers.length >= TIMERS_MAX) throw new RangeError(`There are ${TIMERS_MAX} timers already`);
      const ms = +(delay as number);
      const wait = ms >= 1 && ms <= DELAY_MAX ? floor(ms) : 1;
      lastTimer++;
      insert({
        id: lastTimer,
        run: () => apply(run as () => void, undefined, given),
        everyMs: repeats ? wait : undefined,
        due: host.now() + wait,
      });
      return lastTimer;
    };
  }
  function stopTimer(id: unknown): void {
    for (let i = 0; i < timers.length; i++) {
      if (timers[i]?.id !== id) continue;
      call(splice, timers, i, 1);
      return;
    }
  }
  offer("setTimeout", startTimer("setTimeout", false));
  offer("setInterval", startTimer("setInterval", true));
  offer("clearTimeout", stopTimer);
  offer("clearInterval", stopTimer);
  const settled = Promise.resolve();
  offer("queueMicrotask", (run: unknown) => {
    if (typeof run !== "function") throw new TypeError("queueMicrotask wants a function");
    call(then, call(then, settled, run), undefined, broke);
  });

  // ---- files, chance and the end ------------------------------------------------------------------------------------------------

  function pathOf(path: unknown): string {
    if (typeof path !== "string") throw new TypeError("A path is wanted, as a text");
    if (!crosses(path)) throw new Error("A path holds no NUL");
    return call<string>(replace, path, /^(\.\/)+/, "");
  }
  function found<T>(path: string, content: T | undefined): T {
    if (content === undefined) throw new Error(`There is no file ${path}; listFiles() tells which there are`);
    return content;
  }
  function readBytes(path: unknown): Uint8Array<ArrayBuffer> {
    const name = pathOf(path);
    return new Uint8Array(found(name, host.readBytes(name)));
  }
  offer("readBytes", readBytes);
  offer("readFile", (path: unknown) => {
    const name = pathOf(path);
    const content = found(name, host.readText(name));
    return content === false ? library().text(readBytes(name)) : content;
  });
  offer("writeFile", (path: unknown, content: unknown) => {
    const name = pathOf(path);
    let wrong: string;
    if (typeof content === "string" && crosses(content)) wrong = host.writeText(name, content);
    else {
      const { utf8, bytesOf } = library();
      const { buffer, byteOffset, byteLength } = typeof content === "string" ? utf8(content) : bytesOf(content);
      wrong = host.writeBytes(name, call<ArrayBuffer>(bufferSlice, buffer, byteOffset, byteOffset + byteLength));
    }
    if (wrong === "limit") spin();
    if (wrong !== "") throw new Error(wrong);
  });
  offer("listFiles", () => parse(host.listFiles()));
  offer("exit", (code: unknown = 0) => {
    host.exit(isInteger(code) ? (code as number) & 255 : 1);
    spin();
  });

  const names = ["TextEncoder", "TextDecoder", "atob", "btoa", "structuredClone", "crypto"];
  for (let i = 0; i < names.length; i++) {
    const name = names[i] as string;
    defineProperty(globalThis, name, {
      get: () => {
        const value = library().offers[name];
        offer(name, value);
        return value;
      },
      set: (value: unknown) => offer(name, value),
      configurable: true,
      enumerable: false,
    });
  }
  // The engine begins its sequence with the clock's ms, so that tasks that begin together would draw the same: sfc32 by C. Doty-Humphrey.
  const seed = new Uint32Array(host.randomBytes(16));
  let [a, b, c, counter] = [seed[0] as number, seed[1] as number, seed[2] as number, seed[3] as number];
  function word(): number {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return sum >>> 0;
  }
  Math.random = () => ((word() >>> 5) * 67_108_864 + (word() >>> 6)) / 9_007_199_254_740_992;

  // ---- the run ------------------------------------------------------------------------------------------------------------------

  let state: "running" | "done" | "failed" = "running";
  let result: unknown;
  /** Counts the runs of a session: what one that was stopped left behind says nothing about the next. */
  let run = 0;
  function broke(thrown: unknown): void {
    if (state === "failed") return;
    state = "failed";
    result = thrown;
  }
  return {
    begin(given) {
      const { args, stdin, env } = parse(given) as Record<string, unknown>;
      offer("args", args);
      offer("stdin", stdin);
      offer("env", env);
      run++;
      state = "running";
      result = undefined;
      timers = [];
      indent = "";
    },
    follow(running, isModule) {
      // what code leaves as its last value may be a promise too, and whoever writes main() means that it is waited for
      async function last(): Promise<unknown> {
        const ended = (await running) as { value?: unknown; default?: unknown };
        return await (isModule ? ended.default : ended.value);
      }
      const own = run;
      call(
        then,
        last(),
        (value: unknown) => {
          if (own !== run || state !== "running") return;
          state = "done";
          result = value;
        },
        (thrown: unknown) => {
          if (own === run) broke(thrown);
        },
      );
    },
    state: () => state,
    tick() {
      const next = timers[0];
      if (!next) return -1;
      const now = host.now();
      if (next.due > now) return max(1, next.due - now);
      call(splice, timers, 0, 1);
      if (next.everyMs !== undefined) {
        next.due = now + next.everyMs;
        insert(next);
      }
      next.run();
      return 0;
    },
    value() {
      if (result === undefined) return "";
      if (typeof result === "boolean" || typeof result === "string" || isInteger(result)) {
        const json = call<string>(stringify, undefined, result);
        if (json.length * 3 <= options.valueBytes) return json; // however many bytes its characters take
      }
      return library().json(result);
    },
    fail(thrown) {
      print(2, `Uncaught ${library().describe(thrown)}\n`);
    },
    thrown: () => result,
  };
}
